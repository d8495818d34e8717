//! What is kept, and what leaves when.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::id::UserName;

fn group() -> GroupId {
    "n".parse().unwrap()
}

fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

fn message(number: u64, from: &str, cid: &str) -> Message {
    Message {
        seq: seq(number),
        ts: 1_000 * number,
        from: from.parse::<UserName>().unwrap(),
        cid: cid.parse().unwrap(),
        text: format!("text {number}"),
        h: ChainHash::from_bytes([u8::try_from(number).unwrap(); 32]),
    }
}

fn opened() -> (tempfile::TempDir, Week) {
    let folder = tempfile::tempdir().unwrap();
    let week = Week::open(&folder.path().join("chat/me.db")).unwrap();
    (folder, week)
}

fn line(cid: &str, text: &str) -> Waiting {
    Waiting { cid: cid.parse().unwrap(), group: group(), text: text.to_owned() }
}

#[test]
fn nobody_else_may_read_any_of_its_files() {
    let (folder, mut week) = opened();
    week.store(&group(), &[message(1, "Navy1", "a")]).unwrap();
    let folder = folder.path().join("chat");
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap()).collect();
    assert!(files.len() > 1, "the log of the database is one of them");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
}

#[test]
fn a_line_leaves_the_outbox_with_its_ack_or_with_the_message() {
    let (_folder, mut week) = opened();
    for (cid, text) in [("a", "1"), ("b", "2"), ("c", "3")] {
        week.queue(&line(cid, text)).unwrap();
    }
    assert_eq!(week.due().unwrap(), [line("a", "1")]);
    assert_eq!(
        week.acked(&"a".parse().unwrap(), &group(), seq(7), 7_000, "me").unwrap(),
        Some(line("a", "1"))
    );
    assert_eq!(week.acked(&"a".parse().unwrap(), &group(), seq(7), 7_000, "me").unwrap(), None);
    // What is acked is not shown before the message comes in its order.
    assert_eq!(week.last(&group(), 30, Seq::ZERO).unwrap(), []);
    week.store(&group(), &[message(1, "me", "b")]).unwrap();
    assert_eq!(week.due().unwrap(), [line("c", "3")]);
    assert_eq!(week.refused("c").unwrap(), Some(line("c", "3")));
    assert_eq!(week.waiting().unwrap(), 0);
}

#[test]
fn what_waits_is_there_when_the_program_comes_back() {
    let (folder, week) = opened();
    week.queue(&line("a", "kept")).unwrap();
    let fresh: DeviceId = "d1".parse().unwrap();
    assert_eq!(week.device(&fresh).unwrap(), fresh);
    week.set_token(Some("t")).unwrap();
    drop(week);
    let week = Week::open(&folder.path().join("chat/me.db")).unwrap();
    assert_eq!(week.due().unwrap(), [line("a", "kept")]);
    assert_eq!(week.device(&"d2".parse().unwrap()).unwrap(), fresh);
    assert_eq!(week.token().unwrap().as_deref(), Some("t"));
    week.set_token(None).unwrap();
    assert_eq!(week.token().unwrap(), None);
}

#[test]
fn places_go_forward_only() {
    let (_folder, mut week) = opened();
    assert_eq!(week.place(&group()).unwrap(), Place::NOTHING);
    week.store(&group(), &[message(1, "Navy1", "a"), message(2, "me", "b"), message(3, "Navy1", "c")])
        .unwrap();
    let place = week.place(&group()).unwrap();
    assert_eq!(
        (place.got, place.read, place.hash),
        (seq(3), Seq::ZERO, Some(ChainHash::from_bytes([3; 32])))
    );
    assert_eq!(week.unread(&group(), "me").unwrap(), 2);
    week.mark_read(&group(), seq(1)).unwrap();
    assert_eq!(week.unread(&group(), "me").unwrap(), 1);
    week.mark_read(&group(), seq(3)).unwrap();
    week.mark_read(&group(), seq(2)).unwrap();
    assert_eq!((week.place(&group()).unwrap().read, week.unread(&group(), "me").unwrap()), (seq(3), 0));
    // The same message a second time is one.
    week.store(&group(), &[message(2, "me", "b")]).unwrap();
    assert_eq!(week.place(&group()).unwrap().got, seq(3));
    week.skip(&group(), seq(9)).unwrap();
    assert_eq!(week.place(&group()).unwrap(), Place { got: seq(9), read: seq(3), hash: None });
    week.forget(&group()).unwrap();
    assert_eq!(week.place(&group()).unwrap(), Place::NOTHING);
}

#[test]
fn the_last_ones_are_so_many_and_all_that_is_new() {
    let (_folder, mut week) = opened();
    let all: Vec<Message> = (1..=9).map(|number| message(number, "Navy1", &format!("c{number}"))).collect();
    week.store(&group(), &all).unwrap();
    let numbers = |messages: Vec<Message>| messages.iter().map(|m| m.seq.get()).collect::<Vec<_>>();
    assert_eq!(numbers(week.last(&group(), 3, seq(9)).unwrap()), [7, 8, 9]);
    assert_eq!(numbers(week.last(&group(), 3, seq(4)).unwrap()), [5, 6, 7, 8, 9]);
    assert_eq!(numbers(week.last(&group(), 30, seq(9)).unwrap()), (1..=9).collect::<Vec<_>>());
    assert_eq!(numbers(week.since(&group(), 8_000).unwrap()), [8, 9]);
    week.hide_before(8_000);
    assert_eq!(numbers(week.last(&group(), 3, seq(9)).unwrap()), [8, 9]);
    assert_eq!(numbers(week.since(&group(), 0).unwrap()), [8, 9]);
    week.expire(9_000).unwrap();
    assert_eq!(numbers(week.since(&group(), 0).unwrap()), [9]);
    assert_eq!(week.place(&group()).unwrap().got, seq(9));
}

#[test]
fn drafts_are_kept_for_each_group() {
    let (_folder, week) = opened();
    week.set_draft(&group(), "half a").unwrap();
    week.set_draft(&group(), "half a sentence").unwrap();
    assert_eq!(week.draft(&group()).unwrap().as_deref(), Some("half a sentence"));
    week.forget_draft(&group()).unwrap();
    assert_eq!(week.draft(&group()).unwrap(), None);
}

#[test]
fn a_file_that_is_none_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("me.db");
    std::fs::write(&path, "no database, but long enough to be looked at as one by its head").unwrap();
    let error = Week::open(&path).unwrap_err();
    assert!(error.hint().starts_with("move it away"), "{error:?}");
    let path = folder.path().join("newer.db");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Week::open(&path), Err(WeekError::Newer { found: 99, .. })));
    std::os::unix::fs::symlink("/dev/null", folder.path().join("link.db")).unwrap();
    assert!(matches!(Week::open(&folder.path().join("link.db")), Err(WeekError::Open { .. })));
}
