//! Children that die, in every way, and what is left of them.

use gx_core::stream::{DEFAULT_WINDOW_BYTES, pipe};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_a_child_the_host_goes_on() {
    for (way, how) in [
        ("segfault", "ended by signal 11 (SIGSEGV)"),
        ("exit", "exited with status 0"),
        ("abort", "ended by signal 6 (SIGABRT)"),
        ("stack-overflow", "ended by signal 6 (SIGABRT): fatal runtime error: stack overflow"),
    ] {
        let loaded = loaded(Isolation::Process).await;
        let error = loaded.inspect(way).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable, "{way}");
        assert_eq!(error.field.as_deref(), Some("plugin"));
        assert_eq!(error.message, "the plugin faulty went away during inspect");
        loaded.works().await;
        let report = loaded.plugin.status();
        assert_eq!((report.state, report.restarts), (PluginState::Loaded, 1));
        let told = report.last_error.unwrap();
        assert!(told.contains(how), "{way}: {told}");
    }
}

/// Returns the processes whose parent is this one and that run the child's program.
fn children() -> Vec<i32> {
    let ours = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let (name, rest) = stat.rsplit_once(')')?;
            let parent = rest.split_whitespace().nth(1)?;
            (parent == ours && name.contains("plugin-host"))
                .then(|| entry.file_name().to_str()?.parse().ok())?
        })
        .collect()
}

fn child_of(folder: &Path) -> i32 {
    // The child has the library open under a path of the folder.
    let found = children().into_iter().find(|pid| {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        maps.contains(folder.to_str().unwrap())
    });
    found.expect("the child runs")
}

async fn loaded_from_copy() -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("copy.so");
    std::fs::copy(faulty(), &library).unwrap();
    let plugin = load(checked(&library, Isolation::Process, folder.path())).await.unwrap();
    Loaded { runtime: Remote(plugin.clone()), plugin, folder }
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_killed_in_a_call_ends_the_call_and_is_started_again() {
    let loaded = loaded_from_copy().await;
    let session = loaded.plugin.session().await.unwrap();
    let plugin = loaded.plugin.clone();
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let plugin = plugin.clone();
            tokio::spawn(async move { Remote(plugin).inspect(id("pend")).await })
        })
        .collect();
    until(|| session.calls.under_way() == 50).await;
    kill(child_of(loaded.folder.path()));
    for call in calls {
        let error = within(call).await.unwrap().unwrap_err();
        assert_eq!(error.field.as_deref(), Some("plugin"), "{error}");
    }
    loaded.works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_statistics_go_on_after_a_crash() {
    let loaded = loaded_from_copy().await;
    let (out, mut events) = pipe(DEFAULT_WINDOW_BYTES);
    let plugin = loaded.plugin.clone();
    let telling = tokio::spawn(async move { Remote(plugin).events(None, out).await });
    let (out, mut stats) = pipe(DEFAULT_WINDOW_BYTES);
    let plugin = loaded.plugin.clone();
    let measuring = tokio::spawn(async move { Remote(plugin).stats(id("a"), 5, out).await });
    let mut seconds = Vec::new();
    while seconds.len() < 4 {
        let item = within(events.next()).await.unwrap();
        let event: gx_core::runtime::Event = serde_json::from_slice(&item.bytes).unwrap();
        seconds.push(event.at.unix());
        if seconds.len() == 3 {
            within(stats.next()).await.unwrap();
            kill(child_of(loaded.folder.path()));
            until(|| loaded.plugin.status().restarts == 1).await;
        }
    }
    assert_eq!(seconds, [1, 2, 3, 4], "none is told twice");
    for _ in 0..20 {
        within(stats.next()).await.unwrap();
    }
    drop((events, stats));
    within(telling).await.unwrap().unwrap();
    within(measuring).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_crashes_again_and_again_is_left_alone() {
    let loaded = loaded_from_copy().await;
    let mut restarts = 0;
    while loaded.state() != PluginState::Failed {
        let error = loaded.inspect("abort").await.unwrap_err();
        assert_eq!(error.field.as_deref(), Some("plugin"));
        restarts = restarts.max(loaded.plugin.status().restarts);
    }
    assert_eq!(restarts, 4);
    let error = loaded.inspect("plain").await.unwrap_err();
    assert!(
        error.message.starts_with("the plugin faulty has failed: its process ended by signal 6"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_is_confined() {
    let loaded = loaded_from_copy().await;
    let pid = child_of(loaded.folder.path());
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert_eq!(environment, b"GX_TEST=1\0");
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let links: Vec<_> = open.filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
    let sockets = links.iter().filter(|link| link.to_string_lossy().starts_with("socket:")).count();
    // Its own, and the three that tokio's signal driver makes.
    assert!(sockets <= 4, "its own socket and what its runtime needs, nothing of the host: {links:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_ends_with_its_host() {
    let loaded = loaded_from_copy().await;
    let pid = child_of(loaded.folder.path());
    drop(loaded);
    until(|| !Path::new(&format!("/proc/{pid}")).exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_child_blocks_nobody() {
    let loaded = Arc::new(loaded_from_copy().await);
    let pid = rustix::process::Pid::from_raw(child_of(loaded.folder.path())).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let large = "x".repeat(100_000);
    // All at once: one after the other may take a busy machine longer than the time after which it is taken for hung.
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (loaded, large) = (loaded.clone(), large.clone());
        calls.spawn(async move {
            tokio::time::timeout(Duration::from_millis(1), loaded.runtime.signal(id("a"), large)).await
        });
    }
    assert!(calls.join_all().await.iter().all(Result::is_err));
    // It owes the end of 200 calls: after a while it is taken for hung and killed.
    until(|| loaded.plugin.status().restarts == 1).await;
    loaded.works().await;
}
