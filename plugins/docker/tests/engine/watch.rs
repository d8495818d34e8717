//! Statistics, events, information and capabilities.

use gx_core::runtime::{Event, EventAction, Feature, RemoveOptions, Stats};
use gx_core::stream::{Items, pipe};
use gx_core::{ContainerSpec, ErrorCode, Resources, Runtime, Timestamp};

use crate::support::*;

async fn stat(items: &mut Items) -> Stats {
    serde_json::from_slice(&within(items.next()).await.unwrap().bytes).unwrap()
}

#[tokio::test]
async fn use_is_told_at_once_and_then_in_intervals() {
    let Some(runtime) = runtime().await else { return };
    let resources = Resources { memory_bytes: Some(64 << 20), ..Resources::default() };
    let made = Made::run(&runtime, ContainerSpec { resources, ..shell("while :; do :; done") }).await;
    let (out, mut items) = pipe(0);
    within(runtime.stats(made.id(), 0, out)).await.unwrap();
    let one = stat(&mut items).await;
    assert_eq!((one.cpu_milli, one.memory_limit_bytes), (None, Some(64 << 20)));
    assert!(one.pids >= 1 && one.memory_bytes > 0 && one.read_at.is_some());
    assert_eq!(items.next().await, None);

    let (out, mut items) = pipe(0);
    let watching = tokio::spawn({
        let (runtime, id) = (runtime.clone(), made.id());
        async move { runtime.stats(id, 200, out).await }
    });
    assert!(stat(&mut items).await.cpu_milli.is_none(), "there is nothing before the first");
    // Beside other tests it gets little of the CPU at times.
    while stat(&mut items).await.cpu_milli.is_none_or(|milli| milli <= 50) {}
    runtime.remove(made.id(), RemoveOptions { force: true }).await.unwrap();
    within(watching).await.unwrap().unwrap();
}

#[tokio::test]
async fn only_what_runs_uses_something() {
    let Some(runtime) = runtime().await else { return };
    let made = Made::create(&runtime, spec(&["true"])).await;
    assert_error(runtime.stats(made.id(), 0, null()).await, ErrorCode::FailedPrecondition, None);
    runtime.remove(made.id(), RemoveOptions::default()).await.unwrap();
    assert_error(runtime.stats(made.id(), 0, null()).await, ErrorCode::NotFound, None);
}

#[tokio::test]
async fn a_long_interval_ends_with_the_container() {
    let Some(runtime) = runtime().await else { return };
    let made = Made::run(&runtime, spec(&["sleep", "1000"])).await;
    let (out, mut items) = pipe(0);
    let watching = tokio::spawn({
        let (runtime, id) = (runtime.clone(), made.id());
        async move { runtime.stats(id, 600_000, out).await }
    });
    stat(&mut items).await;
    runtime.signal(made.id(), "KILL".to_owned()).await.unwrap();
    within(watching).await.unwrap().unwrap();
}

#[tokio::test]
async fn events_come_in_order() {
    let Some(runtime) = runtime().await else { return };
    let since = Timestamp::from(std::time::SystemTime::now());
    // The engine keeps 256 events of everybody: what happens meanwhile is read as it happens.
    let (out, mut items) = pipe(4 << 20);
    let watching = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.events(Some(since), out).await }
    });
    let key = name().to_string();
    let mut labelled = shell("exit 3");
    labelled.labels.insert("gxt.event".to_owned(), key.clone());
    let made = Made::run(&runtime, labelled).await;
    made.exit().await;
    runtime.remove(made.id(), RemoveOptions::default()).await.unwrap();

    let mut actions = Vec::new();
    while actions.last() != Some(&EventAction::Remove) {
        let event: Event = serde_json::from_slice(&within(items.next()).await.unwrap().bytes).unwrap();
        if event.id != made.id {
            continue;
        }
        assert_eq!(event.labels["gxt.event"], key);
        assert_eq!(event.exit_code, (event.action == EventAction::Exit).then_some(3));
        assert!(event.at >= since);
        actions.push(event.action);
    }
    use EventAction::*;
    assert_eq!(actions, [Create, Start, Exit, Remove]);
    drop(items);
    within(watching).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_engine_is_described() {
    let Some(runtime) = runtime().await else { return };
    let info = runtime.info().await.unwrap();
    assert_eq!((info.backend.as_str(), info.os.as_str()), ("docker", "linux"));
    assert!(!info.version.is_empty() && info.api_version.starts_with("1."), "{info:?}");
    assert!(info.endpoint.starts_with("unix://"), "{}", info.endpoint);
    let capabilities = runtime.capabilities().await.unwrap();
    assert!(
        capabilities.has(Feature::Exec)
            && capabilities.has(Feature::Build)
            && capabilities.has(Feature::Processes)
    );
}

#[tokio::test]
async fn images_are_listed() {
    let Some(runtime) = runtime().await else { return };
    let image = runtime.image(image()).await.unwrap().unwrap();
    assert!(image.tags.contains(&format!("{IMAGE}:latest")) && image.id.starts_with("sha256:"));
    assert!(image.size_bytes > 0 && image.platform.starts_with("linux/"));
    assert!(runtime.images().await.unwrap().contains(&image));
    assert_eq!(runtime.image("gxt-docker-none".parse().unwrap()).await.unwrap(), None);
}
