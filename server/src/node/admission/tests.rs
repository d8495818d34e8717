//! Tests of the line: who counts, who waits for whom, and what other processes see.

use super::super::amounts::{Amounts, Bounds, Good, Whose};
use super::*;

fn holding(name: &str, memory: u64) -> Holding {
    let amounts = Amounts::of(|good| match good {
        Good::Containers => 1,
        Good::Memory => memory,
        _ => 0,
    });
    Holding { name: name.to_owned(), owner: None, amounts }
}

fn scope(containers: u64, memory: u64) -> [Scope; 1] {
    let bounds = Bounds::of(|good| match good {
        Good::Containers => Some(containers),
        Good::Memory => Some(memory),
        _ => None,
    });
    [Scope { whose: Whose::Host, owner: None, bounds }]
}

fn admission() -> (tempfile::TempDir, Admission) {
    let data = tempfile::tempdir().unwrap();
    let admission = Admission::new(data.path());
    (data, admission)
}

#[tokio::test]
async fn what_is_pending_counts_once() {
    let (_data, admission) = admission();
    let first = admission.enter(holding("a", 1)).await.unwrap();
    let second = admission.enter(holding("b", 1)).await.unwrap();
    first.admit(&[], &scope(1, 9)).await.unwrap();
    assert!(matches!(second.admit(&[], &scope(1, 9)).await, Err(ServerError::Full { limit: 1, .. })));
    second.admit(&[holding("a", 1)], &scope(2, 9)).await.unwrap();
}

#[tokio::test]
async fn a_name_that_is_being_made_is_taken() {
    let (_data, admission) = admission();
    let first = admission.enter(holding("a", 1)).await.unwrap();
    let second = admission.enter(holding("a", 1)).await.unwrap();
    let refused = second.admit(&[], &scope(9, 9)).await;
    assert!(matches!(refused, Err(ServerError::NameInUse { .. })));
    drop((first, second));
    admission.enter(holding("a", 1)).await.unwrap().admit(&[], &scope(9, 9)).await.unwrap();
}

#[tokio::test]
async fn nobody_is_refused_for_the_sake_of_one_who_is_refused() {
    let (_data, admission) = admission();
    let greedy = admission.enter(holding("greedy", 8)).await.unwrap();
    let modest = admission.enter(holding("modest", 3)).await.unwrap();
    let there = [holding("there", 5)];
    let limits = scope(9, 10);
    let mut waiting = std::pin::pin!(modest.admit(&there, &limits));
    let at_once = tokio::time::timeout(Duration::from_millis(1), waiting.as_mut()).await;
    assert!(at_once.is_err(), "the one before is not decided on");
    assert!(greedy.admit(&there, &limits).await.is_err());
    drop(greedy);
    waiting.await.unwrap();
}

#[tokio::test]
async fn what_was_made_since_the_list_was_read_counts_and_what_failed_does_not() {
    let (_data, admission) = admission();
    for (made, fits) in [(true, false), (false, true)] {
        let mut first = admission.enter(holding("a", 6)).await.unwrap();
        let second = admission.enter(holding("b", 6)).await.unwrap();
        first.admit(&[], &scope(9, 10)).await.unwrap();
        if made {
            first.made();
        }
        drop(first);
        assert_eq!(second.admit(&[], &scope(9, 10)).await.is_ok(), fits);
    }
}

#[tokio::test]
async fn another_process_is_seen_and_a_dead_one_is_not() {
    let (data, here) = admission();
    let there = Admission::new(data.path());
    let theirs = there.enter(holding("a", 6)).await.unwrap();
    let ours = here.enter(holding("b", 6)).await.unwrap();
    assert!(matches!(ours.admit(&[], &scope(9, 10)).await, Err(ServerError::OverTotal { used: 6, .. })));
    let same = here.enter(holding("a", 1)).await.unwrap();
    assert!(matches!(same.admit(&[], &scope(9, 99)).await, Err(ServerError::NameInUse { .. })));
    drop((theirs, ours, same));
    // Killed: its file is there, and nobody has it locked.
    let left = data.path().join("making/dead");
    fs::write(&left, serde_json::to_vec(&holding("dead", 9)).unwrap()).unwrap();
    here.enter(holding("c", 6)).await.unwrap().admit(&[], &scope(9, 10)).await.unwrap();
    assert!(!left.exists());
    assert_eq!(fs::read_dir(data.path().join("making")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_damaged_file_of_one_in_line_stops_nobody() {
    let (data, here) = admission();
    let there = Admission::new(data.path());
    let _theirs = there.enter(holding("a", 6)).await.unwrap();
    fs::write(data.path().join("making/a"), b"\xff{").unwrap();
    here.enter(holding("b", 6)).await.unwrap().admit(&[], &scope(9, 10)).await.unwrap();
}
