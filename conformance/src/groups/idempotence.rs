//! A create that is repeated.

use std::sync::Arc;

use futures_util::future::join_all;
use gx_core::ErrorCode;
use gx_core::container::{ContainerSpec, label};

use crate::trial::{Called, Case, SOON, Trial, Verdict, case, check, refused, same, soon};
use crate::workload::stubborn;

pub(super) const CASES: &[Case] = &[
    case!("idempotence/same request", "the same key and spec give the same id", [], same_request),
    case!(
        "idempotence/other request",
        "the same key with another spec is AlreadyExists with field key",
        [],
        other
    ),
    case!("idempotence/race", "creates that race under one key make one container", [], race),
    case!(
        "idempotence/after removal",
        "a key is free again once its container is removed",
        [],
        after_removal
    ),
];

fn keyed(t: &Trial) -> (ContainerSpec, String) {
    let mut spec = t.spec(stubborn());
    let key = t.unique();
    spec.labels.insert(label::KEY.into(), key.clone());
    spec.labels.insert(label::SPEC.into(), "digest-1".into());
    (spec, key)
}

async fn same_request(t: Arc<Trial>) -> Verdict {
    let (spec, key) = keyed(&t);
    let first = t.create(spec.clone()).await?;
    same("the id while it is created", t.create(spec.clone()).await?, first.clone())?;
    t.start(&first).await?;
    same("the id while it runs", t.create(spec.clone()).await?, first.clone())?;
    t.kill(&first).await?;
    same("the id when it has ended", t.create(spec).await?, first)?;
    same("how many there are", t.listed(&[(label::KEY, Some(&key))]).await?.len(), 1)
}

async fn other(t: Arc<Trial>) -> Verdict {
    let (spec, key) = keyed(&t);
    t.create(spec.clone()).await?;
    let mut other = t.spec(stubborn());
    other.labels.clone_from(&spec.labels);
    other.labels.insert(label::SPEC.into(), "digest-2".into());
    let with_its_name = ContainerSpec { name: spec.name.clone(), ..other.clone() };
    for spec in [other, with_its_name] {
        let second = soon("create", SOON, t.runtime.create(spec)).await?;
        second.iter().for_each(|id| t.made(id));
        refused("create", second, ErrorCode::AlreadyExists, Some("key"))?;
    }
    same("how many there are", t.listed(&[(label::KEY, Some(&key))]).await?.len(), 1)
}

/// The host derives the name from the key, so that the engine's unique names settle the race.
async fn race(t: Arc<Trial>) -> Verdict {
    let (spec, key) = keyed(&t);
    let creates = (0..8).map(|_| t.runtime.create(spec.clone()));
    let made = soon("create", 2 * SOON, join_all(creates)).await?;
    made.iter().flatten().for_each(|id| t.made(id));
    let ids = made.into_iter().collect::<Result<Vec<_>, _>>().of("one of eight creates")?;
    check!(ids.iter().all(|id| *id == ids[0]), "there are several ids: {ids:?}");
    same("how many there are", t.listed(&[(label::KEY, Some(&key))]).await?.len(), 1)
}

async fn after_removal(t: Arc<Trial>) -> Verdict {
    let (spec, _) = keyed(&t);
    let first = t.create(spec.clone()).await?;
    t.remove(&first).await?;
    let second = t.create(spec).await?;
    check!(first != second, "the second has the id of the removed one");
    t.inspect(&second).await.map(drop)
}
