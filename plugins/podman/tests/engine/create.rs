//! Making containers: once per key, none for a caller that is gone, within limits.

use std::sync::Arc;
use std::time::Duration;

use gx_core::plugin::*;

use crate::support::{Made, connect, fails, podman, shell, unique};

fn keyed(key: &str, digest: &str) -> ContainerSpec {
    let mut spec = shell("sleep 1000");
    spec.labels.insert(label::KEY.to_owned(), key.to_owned());
    spec.labels.insert(label::SPEC.to_owned(), digest.to_owned());
    spec
}

async fn with_key(podman: &dyn Runtime, key: &str) -> Vec<Container> {
    let labels = [(label::KEY.to_owned(), Some(key.to_owned()))].into();
    gx_core::runtime::list_all(podman, ListFilter { labels, ..ListFilter::default() }).await.unwrap()
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_container() {
    let podman = podman!();
    let key = unique().to_string();
    let spec = keyed(&key, "1");
    let made = Made::created(&podman, spec.clone()).await;
    assert_eq!(podman.create(spec.clone()).await.unwrap(), made.id);
    let renamed = ContainerSpec { name: unique(), ..spec.clone() };
    assert_eq!(podman.create(renamed).await.unwrap(), made.id, "the key counts, not the name");
    fails(podman.create(keyed(&key, "2")).await, ErrorCode::AlreadyExists, Some("key"));
    let same_name = ContainerSpec { name: spec.name.clone(), ..shell("true") };
    fails(podman.create(same_name).await, ErrorCode::AlreadyExists, Some("name"));
    let other_key = ContainerSpec { name: spec.name, ..keyed("another", "1") };
    fails(podman.create(other_key).await, ErrorCode::AlreadyExists, Some("name"));
    assert_eq!(with_key(&*podman, &key).await.len(), 1);
}

#[tokio::test]
async fn racing_requests_of_one_key_make_one_container() {
    let podman = podman!();
    let key = unique().to_string();
    let spec = keyed(&key, "1");
    // Three plugins stand for three processes: they share nothing but the engine, and the name from the key.
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut plugins = vec![podman.clone()];
    for folder in &folders {
        plugins.push(Arc::new(connect(Default::default(), folder.path().to_path_buf()).await));
    }
    let creates = (0..12).map(|n| {
        let (plugin, spec) = (plugins[n % plugins.len()].clone(), spec.clone());
        tokio::spawn(async move { plugin.create(spec).await })
    });
    let mut ids = Vec::new();
    for create in creates.collect::<Vec<_>>() {
        ids.push(create.await.unwrap().unwrap());
    }
    let made = Made { podman, id: ids[0].clone() };
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(with_key(&*made.podman, &key).await.len(), 1);
}

#[tokio::test]
async fn many_may_be_the_first_to_name_a_volume() {
    let podman = podman!();
    for _ in 0..4 {
        let name = unique();
        let volume: VolumeName = name.as_str().parse().unwrap();
        let creates = (0..6).map(|_| {
            let mut spec = shell("sleep 1000");
            spec.mounts = vec![Mount { volume: Some(volume.clone()), path: "/v".into(), read_only: true }];
            let podman = podman.clone();
            tokio::spawn(async move { Made::created(&podman, spec).await })
        });
        for create in creates.collect::<Vec<_>>() {
            drop(create.await.unwrap());
        }
        let prune = VolumePrune {
            prefix: volume.clone(),
            keep: Vec::new(),
            made_before: Timestamp::from_unix(253_000_000_000), // in the year 9987
        };
        assert_eq!(podman.prune_volumes(prune).await.unwrap(), [volume]);
    }
}

#[tokio::test]
async fn a_dropped_create_leaves_nothing() {
    let podman = podman!();
    let key = unique().to_string();
    for delay in [0, 1, 3, 5, 8, 12, 20] {
        let spec = ContainerSpec { name: unique(), ..keyed(&key, "1") };
        let create = tokio::time::timeout(Duration::from_millis(delay), podman.create(spec)).await;
        if let Ok(made) = create {
            // It was faster; then it must be there.
            drop(Made { podman: podman.clone(), id: made.unwrap() });
        }
        podman.shutdown().await.unwrap();
        assert!(with_key(&*podman, &key).await.is_empty(), "after {delay} ms");
    }
}

#[tokio::test]
async fn a_spec_that_cannot_be_is_refused() {
    let podman = podman!();
    let missing = ContainerSpec::new(unique(), "gx-no-such-image:1".parse().unwrap());
    fails(podman.create(missing).await, ErrorCode::NotFound, Some("image"));
    let elsewhere = ContainerSpec::new(unique(), "registry.invalid/x/y:1".parse().unwrap());
    fails(podman.create(elsewhere).await, ErrorCode::NotFound, Some("image"));
    let mut spec = shell("true");
    spec.security.capabilities = Some(vec!["NOPE".to_owned()]);
    fails(podman.create(spec).await, ErrorCode::InvalidArgument, Some("security.capabilities"));
}

#[tokio::test]
async fn the_spec_is_what_the_process_sees() {
    let podman = podman!();
    let mut spec = shell("");
    spec.entrypoint = Some(vec!["sh".to_owned(), "-c".to_owned()]);
    spec.command = vec!["echo $A; pwd; id -u; id -g; echo $0".to_owned()];
    spec.env.insert("A".to_owned(), "b c".to_owned());
    spec.workdir = Some("/made/for/it".to_owned());
    spec.user = Some("1000:2000".to_owned());
    let made = Made::started(&podman, spec).await;
    assert_eq!(podman.wait(made.id.clone()).await.unwrap().code, 0);
    assert_eq!(made.logs(LogOptions::default()).await.0, "b c\n/made/for/it\n1000\n2000\nsh\n");
}

#[tokio::test]
async fn limits_and_security_hold() {
    let podman = podman!();
    let mut spec = shell("sleep 1000");
    spec.resources = Resources {
        milli_cpus: Some(500),
        memory_bytes: Some(64 << 20),
        pids: Some(20),
        ..Resources::default()
    };
    spec.security = Security {
        no_new_privileges: true,
        capabilities: Some(vec!["CHOWN".to_owned(), "SETUID".to_owned()]),
        read_only_root: true,
        user_namespace: false,
    };
    let made = Made::started(&podman, spec).await;
    let (_, status, _) = made.exec("cat /proc/1/status").await;
    let line = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(line("NoNewPrivs"), "1");
    assert_eq!(line("CapEff"), format!("{:016x}", 1 | 1 << 7), "CHOWN is 0 and SETUID 7 in capabilities(7)");
    assert_eq!(line("CapBnd"), line("CapEff"));
    assert_eq!(made.exec("touch /x").await.0.code, 1, "the root is read-only");
    if podman.capabilities().await.unwrap().has(Feature::Limits) {
        let figures = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max pids/pids.max pids.max \
                       cpu/cpu.cfs_quota_us cpu.max 2>/dev/null";
        let (_, figures, _) = made.exec(figures).await;
        for figure in ["67108864", "20", "50000"] {
            assert!(figures.split_whitespace().any(|word| word == figure), "{figure} in {figures:?}");
        }
        let (_, _, complaint) = made.exec("for i in $(seq 40); do sleep 1 & done; wait").await;
        assert!(complaint.contains("fork"), "{complaint:?}");
    }
}

#[tokio::test]
async fn without_limits_there_are_none_of_the_engines_own() {
    let podman = podman!();
    let made = Made::started(&podman, shell("sleep 1000")).await;
    let (_, figures, _) = made.exec("cd /sys/fs/cgroup; cat pids/pids.max pids.max 2>/dev/null").await;
    assert!(figures.is_empty() || figures.trim() == "max", "{figures:?}");
    let (_, status, _) = made.exec("grep NoNewPrivs /proc/1/status").await;
    assert_eq!(status, "NoNewPrivs:\t1\n");
    assert_eq!(made.exec("env | grep -i proxy").await.0.code, 1, "the host's proxy stays on the host");
}
