//! Limits of the host and of members: told with what is left, and held whatever happens at the same time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gx_core::api::{CreateRequest, ExtendRequest};
use gx_core::container::label;
use gx_core::member::Allowance;
use gx_core::runtime::{RemoveOptions, StopOptions};
use gx_core::stream::Output;
use gx_core::units::{Size, Span};
use gx_core::{Container, ContainerState, ErrorCode, RuntimeError};
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};

use super::{Host, lent, named, open, sleeper};
use crate::error::ServerError;
use crate::node::{Caller, Node};

const MIB: u64 = 1 << 20;

fn with_memory(mib: u64) -> CreateRequest {
    CreateRequest { memory_bytes: Some(mib * MIB), ..sleeper() }
}

async fn create(host: &Host, caller: &Caller, request: CreateRequest) -> crate::Result<String> {
    Ok(host.node.create(caller, request, None, Output::null()).await?.name)
}

fn force() -> RemoveOptions {
    RemoveOptions { force: true }
}

#[tokio::test]
async fn all_containers_together_stay_within_the_totals() {
    let host = Host::with(&["mock"], |config| config.server.totals.memory = Some(Size(100 * MIB))).await;
    let first = create(&host, &Caller::Host, with_memory(60)).await.unwrap();
    let error = create(&host, &Caller::Host, with_memory(50)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "memory of 50 MiB is 10 MiB over what this host has left, 40 MiB of 100 MiB"
    );
    assert_eq!(
        (error.code(), error.field().as_deref()),
        (ErrorCode::ResourceExhausted, Some("memory_bytes"))
    );
    assert!(error.hint().unwrap().starts_with("ask for at most 40 MiB, stop or remove a container"));
    assert_eq!(host.probe().specs()[0].labels[label::MEMORY], (60 * MIB).to_string());
    // A stopped one has given its memory back, and gets it again only where there is room.
    host.node.stop(&Caller::Host, &first, StopOptions::default()).await.unwrap();
    let second = create(&host, &Caller::Host, with_memory(50)).await.unwrap();
    let error = host.node.start(&Caller::Host, &first).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "memory of 60 MiB is 10 MiB over what this host has left, 50 MiB of 100 MiB"
    );
    host.node.remove(&Caller::Host, &second, force()).await.unwrap();
    host.node.start(&Caller::Host, &first).await.unwrap();
    host.node.start(&Caller::Host, &first).await.unwrap();
}

#[tokio::test]
async fn who_asks_for_nothing_is_bound_where_totals_are() {
    let host = Host::with(&["mock"], |config| config.server.totals.memory = Some(Size(100 * MIB))).await;
    create(&host, &Caller::Host, sleeper()).await.unwrap();
    assert_eq!(host.probe().specs()[0].resources.memory_bytes, Some(100 * MIB));
    let specs = host.node.specs(&Caller::Host).await;
    assert_eq!(
        (specs.totals.memory_bytes.used, specs.totals.memory_bytes.limit),
        (100 * MIB, Some(100 * MIB))
    );
    assert_eq!(specs.allowance, None);
}

#[tokio::test]
async fn a_member_has_its_allowance_and_no_other_pays_for_it() {
    let host = Host::with(&["mock"], |config| config.server.member.containers = Some(2)).await;
    let allowance = Allowance { memory: Some(Size(100 * MIB)), ports: Some(2), ..Allowance::default() };
    let (ann, bob) = (lent(1, allowance), lent(2, allowance));
    create(&host, &ann, with_memory(80)).await.unwrap();
    let error = create(&host, &ann, with_memory(30)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "memory of 30 MiB is 10 MiB over what your allowance has left, 20 MiB of 100 MiB"
    );
    create(&host, &bob, CreateRequest { extra_ports: 2, ..with_memory(50) }).await.unwrap();
    let error = create(&host, &bob, CreateRequest { extra_ports: 1, ..with_memory(50) }).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "a request of 1 port is 1 port over what your allowance has left, 0 ports of 2 ports"
    );
    create(&host, &bob, with_memory(50)).await.unwrap();
    let error = create(&host, &bob, with_memory(0x1)).await.unwrap_err();
    assert_eq!(error.to_string(), "you have 2 of at most 2 containers", "as [server.member] says of all");
    let told = host.node.specs(&bob).await.allowance.unwrap();
    assert_eq!((told.containers.used, told.containers.limit), (2, Some(2)));
    assert_eq!((told.ports.used, told.memory_bytes.used), (2, 100 * MIB));
    create(&host, &Caller::Host, with_memory(500)).await.unwrap();
}

#[tokio::test]
async fn a_members_lease_is_never_longer_than_its_allowance() {
    let host = Host::new().await;
    let hour = Span(Duration::from_secs(3_600));
    let ann = lent(1, Allowance { ttl: Some(hour), ..Allowance::default() });
    let error = create(&host, &ann, CreateRequest { ttl_s: Some(7_200), ..sleeper() }).await.unwrap_err();
    assert_eq!(error.to_string(), "a lease of 2h is 1h over your allowance, 1h");
    let made = host.node.create(&ann, sleeper(), None, Output::null()).await.unwrap();
    assert!(made.expires_at.is_some(), "without one asked for it is the longest");
    let by = |by_s| host.node.extend(&ann, &made.name, ExtendRequest { by_s });
    assert!(matches!(by(3_000).await, Err(ServerError::LeaseLimit { limit, .. }) if limit == hour));
    host.node.extend(&Caller::Host, &made.name, ExtendRequest { by_s: 3_000 }).await.unwrap();
}

#[tokio::test]
async fn what_no_runtime_can_bound_is_refused_where_it_is_asked_for() {
    let host = Host::with(&["mock"], |config| config.server.limits.disk = Some(Size(10 * MIB))).await;
    let error = host.create(CreateRequest { disk_bytes: Some(5 * MIB), ..sleeper() }).await.unwrap_err();
    assert_eq!(error.to_string(), "mock cannot bound what a container writes here");
    assert_eq!((error.code(), error.field().as_deref()), (ErrorCode::Unsupported, Some("disk_bytes")));
    assert_eq!(host.probe().calls("create"), 0);
    host.create(sleeper()).await.unwrap();
    assert_eq!(host.probe().specs()[0].resources.disk_bytes, None);
}

#[tokio::test]
async fn containers_of_an_engine_that_went_down_still_count() {
    let host = Host::with(&["a", "b"], |config| config.server.limits.containers = 1).await;
    create(&host, &Caller::Host, CreateRequest { runtime: Some("a".parse().unwrap()), ..sleeper() })
        .await
        .unwrap();
    host.count().await;
    host.probes["a"].down();
    let error =
        host.create(CreateRequest { runtime: Some("b".parse().unwrap()), ..sleeper() }).await.unwrap_err();
    assert_eq!(error.to_string(), "this host has 1 of at most 1 containers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_at_once_by_several_and_in_two_processes_stay_within_the_limits() {
    let host = Host::with(&["mock"], |config| config.server.totals.memory = Some(Size(1_000 * MIB))).await;
    let other = open(host.data.path(), &host.config, &host.probes).await;
    let allowance = Allowance { memory: Some(Size(300 * MIB)), ..Allowance::default() };
    let callers = [Caller::Host, lent(1, allowance), lent(2, allowance), lent(3, allowance)];
    let creates = (0..100).map(|number| {
        let node = if number % 2 == 0 { host.node.clone() } else { other.clone() };
        let caller = callers[number / 2 % 4].clone();
        let request = CreateRequest { memory_bytes: Some(100 * MIB), ..sleeper() };
        tokio::spawn(async move { node.create(&caller, request, None, Output::null()).await })
    });
    let made = futures_util::future::join_all(creates).await;
    let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().map(Result::unwrap).partition(Result::is_ok);
    assert!(!made.is_empty() && made.len() <= 10, "{}", made.len());
    for refused in refused {
        assert_eq!(refused.unwrap_err().code(), ErrorCode::ResourceExhausted);
    }
    check_sums(&host.probe().all().await, 1_000, &callers, 300);
    assert_eq!(std::fs::read_dir(host.data.path().join("data/making")).unwrap().count(), 0);
}

fn memory_of(container: &Container) -> u64 {
    match container.state {
        ContainerState::Exited => 0,
        _ => container.labels[label::MEMORY].parse::<u64>().unwrap() / MIB,
    }
}

/// Checks that no sum of memory is over its bound.
fn check_sums(all: &[Container], total: u64, members: &[Caller], each: u64) {
    assert!(all.iter().map(memory_of).sum::<u64>() <= total, "{all:?}");
    for member in members {
        let Caller::Member(member) = member else { continue };
        let own = all.iter().filter(|one| one.labels[label::OWNER] == member.id.to_string());
        assert!(own.map(memory_of).sum::<u64>() <= each, "{all:?}");
    }
}

/// Something done to a host by one of several callers.
#[derive(Debug, Clone)]
enum Deed {
    Create { mib: u64, fails: Option<&'static str> },
    Remove(usize),
    Stop(usize),
    Start(usize),
}

fn deeds() -> impl Strategy<Value = Vec<(usize, Deed)>> {
    let fails = prop_oneof![3 => Just(None), 1 => Just(Some("create")), 1 => Just(Some("start"))];
    let deed = prop_oneof![
        4 => (1_u64..60, fails).prop_map(|(mib, fails)| Deed::Create { mib, fails }),
        1 => (0_usize..8).prop_map(Deed::Remove),
        1 => (0_usize..8).prop_map(Deed::Stop),
        1 => (0_usize..8).prop_map(Deed::Start),
    ];
    prop::collection::vec((0_usize..3, deed), 1..40)
}

async fn act(node: Arc<Node>, host: &Host, caller: Caller, deed: Deed) {
    let pick = async |at: usize| {
        let all = node.list(&caller).await.unwrap().containers;
        all.get(at % all.len().max(1)).map(|one| one.name.clone())
    };
    // Whether it may is not asked here: only that whatever is let through fits.
    match deed {
        Deed::Create { mib, fails } => {
            if let Some(method) = fails {
                host.probe().fail(method, RuntimeError::new(ErrorCode::Internal, "it does not work out"));
            }
            let _ = node.create(&caller, with_memory(mib), None, Output::null()).await;
        }
        Deed::Remove(at) => {
            if let Some(name) = pick(at).await {
                let _ = node.remove(&caller, &name, force()).await;
            }
        }
        Deed::Stop(at) => {
            if let Some(name) = pick(at).await {
                let _ = node.stop(&caller, &name, StopOptions::default()).await;
            }
        }
        Deed::Start(at) => {
            if let Some(name) = pick(at).await {
                let _ = node.start(&caller, &name).await;
            }
        }
    }
}

fn in_a_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(work)
}

const TOTAL: u64 = 150;
const EACH: u64 = 80;

async fn small_host() -> (Arc<Host>, [Caller; 3]) {
    let host = Host::with(&["mock"], |config| {
        config.server.totals.memory = Some(Size(TOTAL * MIB));
        config.server.member.memory = Some(Size(EACH * MIB));
    });
    let callers = [Caller::Host, lent(1, Allowance::default()), lent(2, Allowance::default())];
    (Arc::new(host.await), callers)
}

#[test]
fn whatever_happens_at_the_same_time_no_limit_is_passed_at_any_time() {
    let mut runner = TestRunner::new(Cases { cases: 24, failure_persistence: None, ..Cases::default() });
    let result = runner.run(&deeds(), |deeds| {
        in_a_runtime(async {
            let (host, callers) = small_host().await;
            let other = open(host.data.path(), &host.config, &host.probes).await;
            let tasks: Vec<_> = deeds
                .into_iter()
                .enumerate()
                .map(|(number, (who, deed))| {
                    let node = if number % 3 == 0 { other.clone() } else { host.node.clone() };
                    let (host, caller) = (host.clone(), callers[who].clone());
                    tokio::spawn(async move { act(node, &host, caller, deed).await })
                })
                .collect();
            let mut all = std::pin::pin!(futures_util::future::join_all(tasks));
            let mut ended = false;
            while !ended {
                ended = tokio::time::timeout(Duration::from_millis(1), all.as_mut()).await.is_ok();
                check_sums(&host.probe().all().await, TOTAL, &callers, EACH);
            }
        });
        Ok(())
    });
    result.unwrap();
}

#[test]
fn what_fits_together_is_never_refused() {
    let sizes = prop::collection::vec((0_usize..3, 1_u64..40), 1..20).prop_map(|wanted| {
        let mut sums: BTreeMap<Option<usize>, u64> = BTreeMap::new();
        let mut fits = |who: usize, mib: u64| {
            let own = if who == 0 { 0 } else { *sums.entry(Some(who)).or_default() + mib };
            let all = *sums.entry(None).or_default() + mib;
            let fits = own <= EACH && all <= TOTAL;
            if fits {
                sums.extend([(None, all), (Some(who), own)]);
            }
            fits
        };
        wanted.into_iter().filter(|(who, mib)| fits(*who, *mib)).collect::<Vec<_>>()
    });
    let mut runner = TestRunner::new(Cases { cases: 24, failure_persistence: None, ..Cases::default() });
    let result = runner.run(&sizes, |wanted| {
        in_a_runtime(async {
            let (host, callers) = small_host().await;
            let other = open(host.data.path(), &host.config, &host.probes).await;
            let creates = wanted.into_iter().enumerate().map(|(number, (who, mib))| {
                let node = if number % 3 == 0 { other.clone() } else { host.node.clone() };
                let caller = callers[who].clone();
                tokio::spawn(
                    async move { node.create(&caller, with_memory(mib), None, Output::null()).await },
                )
            });
            for made in futures_util::future::join_all(creates).await {
                made.unwrap().unwrap();
            }
        });
        Ok(())
    });
    result.unwrap();
}

#[tokio::test]
async fn a_name_is_being_made_in_one_process_at_a_time() {
    let host = Host::new().await;
    let other = open(host.data.path(), &host.config, &host.probes).await;
    host.probe().close("create");
    let node = host.node.clone();
    let first =
        tokio::spawn(async move { node.create(&Caller::Host, named("web"), None, Output::null()).await });
    super::until("it is being made", async || host.probe().under_way("create") == 1).await;
    let error = other.create(&Caller::Host, named("web"), None, Output::null()).await.unwrap_err();
    assert!(matches!(error, ServerError::NameInUse { .. }), "{error}");
    host.probe().open("create");
    first.await.unwrap().unwrap();
}
