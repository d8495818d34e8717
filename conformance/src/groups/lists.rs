//! Lists of containers.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use gx_core::ContainerId;
use gx_core::container::{Container, ContainerState};
use gx_core::runtime::{ListFilter, RemoveOptions};
use gx_core::stream::pipe;

use crate::trial::{Called, Case, Failure, SOON, Trial, Verdict, case, check, same, soon};
use crate::workload::{sh, stubborn};

pub(super) const CASES: &[Case] = &[
    case!("list/labels", "it lists those that have all the labels", [], labels),
    case!("list/states", "it lists those in one of the states", [], states),
    case!("list/content", "it tells what inspect tells, but for what only inspect tells", [], content),
    case!("list/reader gone", "when the reader is gone the method returns soon, with Ok", [], reader_gone),
    case!("list/many", "hundreds are listed by their label, each of them once", [], many, alone),
];

fn ids(containers: &[Container]) -> BTreeSet<ContainerId> {
    containers.iter().map(|container| container.id.clone()).collect()
}

async fn labels(t: Arc<Trial>) -> Verdict {
    let mark = t.unique();
    let mut made = Vec::new();
    for color in ["red", "green", ""] {
        let mut spec = t.spec(stubborn());
        spec.labels.insert("gx.conformance.mark".into(), mark.clone());
        spec.labels.insert("gx.conformance.color".into(), color.into());
        made.push(t.create(spec).await?);
    }
    let mark = ("gx.conformance.mark", Some(mark.as_str()));
    let color = |value| ("gx.conformance.color", value);
    let table = [
        (vec![mark], made.clone()),
        (vec![mark, color(Some("red"))], vec![made[0].clone()]),
        (vec![mark, color(None)], made.clone()),
        (vec![mark, color(Some(""))], vec![made[2].clone()]),
        (vec![mark, color(Some("re"))], Vec::new()),
        (vec![mark, ("gx.conformance.nobody", None)], Vec::new()),
    ];
    for (labels, expected) in table {
        let listed = t.listed(&labels).await?;
        same(&format!("how many have {labels:?}"), listed.len(), expected.len())?;
        same(&format!("the list of {labels:?}"), ids(&listed), expected.into_iter().collect())?;
    }
    Ok(())
}

async fn states(t: Arc<Trial>) -> Verdict {
    let mark = t.unique();
    let spec = |command| {
        let mut spec = t.spec(command);
        spec.labels.insert("gx.conformance.mark".into(), mark.clone());
        spec
    };
    let created = t.create(spec(stubborn())).await?;
    let running = t.running_spec(spec(stubborn())).await?;
    let (ended, _) = t.ended(spec(sh("true"))).await?;
    use ContainerState as S;
    let table = [
        (vec![S::Created], vec![&created]),
        (vec![S::Running], vec![&running]),
        (vec![S::Exited], vec![&ended]),
        (vec![S::Created, S::Exited], vec![&created, &ended]),
        (vec![], vec![&created, &running, &ended]),
    ];
    for (states, expected) in table {
        let what = format!("the list of {states:?}");
        let labels = [("gx.conformance.mark".to_owned(), Some(mark.clone()))].into();
        let filter = ListFilter { labels, states: states.into_iter().collect() };
        same(&what, ids(&t.list(filter).await?), expected.into_iter().cloned().collect())?;
    }
    Ok(())
}

async fn content(t: Arc<Trial>) -> Verdict {
    let mut spec = t.spec(stubborn());
    let mark = t.unique();
    spec.labels.insert("gx.conformance.mark".into(), mark.clone());
    let id = t.running_spec(spec).await?;
    let listed = t.listed(&[("gx.conformance.mark", Some(&mark))]).await?;
    let [row] = &listed[..] else {
        return Err(Failure::new(format!("one container is listed as {listed:?}")));
    };
    let whole = t.inspect(&id).await?;
    same("the name", &row.name, &whole.name)?;
    same("the image", &row.image, &whole.image)?;
    same("the state", row.state, whole.state)?;
    same("the labels", &row.labels, &whole.labels)?;
    // An engine may tell whole seconds only in its list.
    let second = |container: &Container| container.created_at.map(|at| at.unix());
    same("the second it was made in", second(row), second(&whole))
}

async fn reader_gone(t: Arc<Trial>) -> Verdict {
    t.create(t.spec(stubborn())).await?;
    let (out, items) = pipe(0);
    drop(items);
    soon("list", SOON, t.runtime.list(ListFilter::default(), out)).await?.of("list")
}

async fn many(t: Arc<Trial>) -> Verdict {
    let (mark, size) = (t.unique(), t.options.list_size);
    let specs: Vec<_> = (0..size)
        .map(|_| {
            let mut spec = t.spec(stubborn());
            spec.labels.insert("gx.conformance.mark".into(), mark.clone());
            spec
        })
        .collect();
    let made: Vec<_> = in_parallel(specs.into_iter().map(|spec| t.create(spec).boxed()).collect()).await?;
    let listed = t.listed(&[("gx.conformance.mark", Some(&mark))]).await?;
    same("how many are listed", listed.len(), size)?;
    same("which are listed", ids(&listed), made.iter().cloned().collect())?;
    let plain = RemoveOptions { force: false };
    let remove =
        |id: &ContainerId| t.runtime.remove(id.clone(), plain).map(|removed| removed.of("remove")).boxed();
    in_parallel(made.iter().map(remove).collect()).await?;
    let left = t.listed(&[("gx.conformance.mark", Some(&mark))]).await?;
    check!(left.is_empty(), "{} are listed after they were removed", left.len());
    Ok(())
}

async fn in_parallel<T>(calls: Vec<BoxFuture<'_, Verdict<T>>>) -> Verdict<Vec<T>> {
    let done: Vec<_> = futures_util::stream::iter(calls).buffered(16).collect().await;
    done.into_iter().collect()
}
