//! What the store promises: numbers without gaps, nothing twice, nothing that was stored lost, nothing kept too long.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;
use rusqlite::Connection;

use super::*;

fn open(folder: &Path) -> SqliteStore {
    SqliteStore::open(folder).unwrap()
}

fn refusal(folder: &Path) -> StoreError {
    SqliteStore::open(folder).map(drop).unwrap_err()
}

fn group(name: &str) -> GroupId {
    name.parse().unwrap()
}

fn message(group: &str, from: &str, cid: &str, text: &str) -> NewMessage {
    NewMessage {
        group: group.parse().unwrap(),
        from: from.parse().unwrap(),
        cid: cid.parse().unwrap(),
        text: text.to_owned(),
    }
}

/// Stores `count` messages in `h`, one a batch, at the times 1,000, 2,000, …
fn fill(store: &SqliteStore, count: u64) {
    for number in 1..=count {
        let cid = format!("c{number}");
        store.append(&[message("h", "A", &cid, &format!("text number{number}"))], number * 1_000).unwrap();
    }
}

fn numbers(page: &Page) -> Vec<u64> {
    page.messages.iter().map(|message| message.seq.get()).collect()
}

fn read(store: &SqliteStore, range: Range, limit: u32, oldest: u64) -> Page {
    store.read(&group("h"), range, limit, oldest).unwrap()
}

fn at(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

fn found(store: &SqliteStore, query: &str) -> Vec<u64> {
    let groups = BTreeSet::from([group("h"), group("n")]);
    let found = store.search(query, &groups, 200, 0).unwrap();
    found.hits.iter().map(|hit| hit.m.seq.get()).collect()
}

#[test]
fn the_same_message_is_stored_once_and_another_under_its_name_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let one = message("h", "A", "1", "x");
    let stored = store.append(&[one.clone(), one.clone()], 7).unwrap();
    let (seq, ts) = (Seq::ONE, 7);
    assert_eq!(stored, [Outcome::Stored { seq, ts }, Outcome::Duplicate { seq, ts }]);
    let others = [one, message("h", "A", "1", "y"), message("n", "A", "1", "x"), message("h", "B", "1", "x")];
    let told = store.append(&others, 9).unwrap();
    let next = Outcome::Stored { seq: at(2), ts: 9 };
    assert_eq!(told, [Outcome::Duplicate { seq, ts }, Outcome::Conflict, Outcome::Conflict, next]);
    assert_eq!(numbers(&read(&store, Range::Last, 10, 0)), [1, 2]);
}

#[test]
fn time_never_goes_back_not_even_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).append(&[message("h", "A", "1", "x")], 1_000).unwrap();
    let store = open(folder.path());
    let told = store.append(&[message("n", "A", "2", "x")], 5).unwrap();
    assert_eq!(told, [Outcome::Stored { seq: Seq::ONE, ts: 1_000 }]);
}

#[test]
fn pages_go_both_ways_and_tell_whether_there_is_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    fill(&store, 10);
    let page = |range, limit| {
        let page = read(&store, range, limit, 0);
        (numbers(&page), page.more)
    };
    assert_eq!(page(Range::After(at(3)), 3), (vec![4, 5, 6], true));
    assert_eq!(page(Range::After(at(7)), 3), (vec![8, 9, 10], false));
    assert_eq!(page(Range::After(at(99)), 3), (vec![], false));
    assert_eq!(page(Range::Before(at(4)), 2), (vec![2, 3], true));
    assert_eq!(page(Range::Before(at(3)), 2), (vec![1, 2], false));
    assert_eq!(page(Range::Last, 3), (vec![8, 9, 10], true));
    assert_eq!(page(Range::Since(4_500), 3), (vec![5, 6, 7], true));
    assert_eq!(page(Range::Since(0), 20).0.len(), 10);
    assert_eq!(page(Range::Since(u64::MAX), 20), (vec![], false));
    assert_eq!(store.read(&group("none"), Range::Last, 5, 0).unwrap(), Page::default());
}

#[test]
fn a_page_of_long_messages_is_short() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let long = "x".repeat(64 * 1024);
    let batch: Vec<_> = (0..9).map(|n| message("h", "A", &n.to_string(), &long)).collect();
    store.append(&batch, 1).unwrap();
    let page = read(&store, Range::After(Seq::ZERO), 200, 0);
    assert_eq!((numbers(&page), page.more), (vec![1, 2, 3], true));
}

#[test]
fn what_is_too_old_is_not_read_and_then_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    fill(&store, 10);
    let look = |store: &SqliteStore| {
        let oldest = 4_001;
        let page = read(store, Range::After(at(2)), 3, oldest);
        assert_eq!((numbers(&page), page.expired), (vec![5, 6, 7], 2));
        assert_eq!(numbers(&read(store, Range::Before(at(7)), 9, oldest)), [5, 6]);
        assert_eq!(numbers(&read(store, Range::Last, 99, oldest)).len(), 6);
        assert_eq!(numbers(&read(store, Range::Since(0), 2, oldest)), [5, 6]);
        let hits = store.search("number2", &BTreeSet::from([group("h")]), 9, oldest).unwrap().hits;
        assert_eq!(hits, []);
    };
    look(&store);
    assert_eq!(store.expire(4_001).unwrap(), 4);
    look(&store);
    assert_eq!(numbers(&read(&store, Range::After(Seq::ZERO), 99, 0)), [5, 6, 7, 8, 9, 10]);
    assert_eq!(store.verify().unwrap(), 6, "the chain goes on from what was deleted");
    drop(store);
    let store = open(folder.path());
    look(&store);
    assert_eq!(store.expire(u64::MAX).unwrap(), 6);
    assert_eq!(store.heads()[&group("h")].first, at(11));
    drop(store);
    let store = open(folder.path());
    let told = store.append(&[message("h", "A", "c1", "again")], 20_000).unwrap();
    assert_eq!(told, [Outcome::Stored { seq: at(11), ts: 20_000 }], "numbers go on");
    assert_eq!(store.verify().unwrap(), 1);
}

#[test]
fn files_get_smaller() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let text = "a good deal of text ".repeat(20);
    for number in 0..40 {
        let batch: Vec<_> = (0..100)
            .map(|n| message("h", "A", &format!("{number}-{n}"), &format!("{text} word{number}x{n}")))
            .collect();
        store.append(&batch, number + 1).unwrap();
    }
    assert_eq!(found(&store, "word7x7").len(), 1);
    let bytes = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
    assert_eq!(store.expire(0).unwrap(), 0);
    store.expire(39).unwrap();
    assert!(bytes("chat.db") < 400_000, "{}", bytes("chat.db"));
    assert_eq!((bytes("chat.db-wal"), found(&store, "word7x7").len()), (0, 0));
    assert_eq!(found(&store, "word39x7").len(), 1);
}

#[test]
fn a_store_has_one_program_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let error = refusal(folder.path());
    assert!(matches!(error, StoreError::Locked { .. }) && error.hint().is_some(), "{error}");
    drop(store);
    open(folder.path());
}

#[test]
fn others_cannot_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat");
    let store = open(&path);
    fill(&store, 1);
    found(&store, "number1");
    for entry in std::fs::read_dir(&path).unwrap().map(Result::unwrap) {
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}", entry.path());
    }
}

#[test]
fn a_damaged_database_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("chat.db"), "this is no database, but it is long enough".repeat(50))
        .unwrap();
    assert!(matches!(refusal(folder.path()), StoreError::Damaged { .. }));

    for (what, sql) in [
        ("one is missing", "DELETE FROM msg WHERE id & 0xff = 3"),
        ("the last is missing", "DELETE FROM msg WHERE id & 0xff = 5"),
        ("the first is missing", "DELETE FROM msg WHERE id & 0xff = 1"),
        ("all are missing", "DELETE FROM msg"),
        ("the head is another", "UPDATE grp SET head = zeroblob(32)"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fill(&open(folder.path()), 5);
        Connection::open(folder.path().join("chat.db")).unwrap().execute(sql, []).unwrap();
        let error = refusal(folder.path());
        assert!(matches!(&error, StoreError::Damaged { .. }), "{what}: {error}");
    }

    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let db = Connection::open(folder.path().join("chat.db")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(refusal(folder.path()), StoreError::Newer { found: 99, .. }));
}

/// Has a database the tables of version 1, with what is in it.
const BACK_TO_1: &str = "
ALTER TABLE grp RENAME TO grp_2;
ALTER TABLE msg RENAME TO msg_2;
CREATE TABLE grp (
    name TEXT PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, ts INTEGER NOT NULL,
    head BLOB NOT NULL, base BLOB NOT NULL, base_ts INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE msg (
    grp TEXT NOT NULL, seq INTEGER NOT NULL, ts INTEGER NOT NULL, sender TEXT NOT NULL, cid TEXT NOT NULL,
    text TEXT NOT NULL, h BLOB NOT NULL, PRIMARY KEY (grp, seq), UNIQUE (sender, cid)
) STRICT, WITHOUT ROWID;
INSERT INTO grp SELECT name, first, last, ts, head, base, base_ts FROM grp_2;
INSERT INTO msg
    SELECT grp_2.name, msg_2.id & 0xff, msg_2.ts, sender, cid, text, h FROM msg_2 JOIN grp_2 ON grp_2.id = msg_2.id >> 40;
DROP TABLE msg_2;
DROP TABLE grp_2;
PRAGMA user_version = 1;
";

#[test]
fn a_database_of_the_version_before_is_brought_up_to_date_with_all_that_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    fill(&store, 9);
    store.append(&[message("n", "A", "other", "text"), message("a", "B", "c1", "text")], 9_500).unwrap();
    store.expire(3_000).unwrap();
    found(&store, "number5");
    let all = |store: &SqliteStore| {
        let page = |name: &str| store.read(&group(name), Range::After(Seq::ZERO), 99, 0).unwrap();
        (["h", "n", "a"].map(page), store.heads(), store.verify().unwrap(), found(store, "number5"))
    };
    let before = all(&store);
    drop(store);
    Connection::open(folder.path().join("chat.db")).unwrap().execute_batch(BACK_TO_1).unwrap();

    let error = SqliteStore::examine(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Older { found: 1, .. }) && error.hint().is_some(), "{error}");
    let store = open(folder.path());
    assert_eq!(all(&store), before);
    let told =
        store.append(&[message("h", "A", "c9", "text number9"), message("h", "A", "c10", "x")], 1).unwrap();
    let known = Outcome::Duplicate { seq: at(9), ts: 9_000 };
    assert_eq!(told, [known, Outcome::Stored { seq: at(10), ts: 9_500 }], "as if nothing had been");
    assert_eq!(SqliteStore::examine(folder.path()).unwrap(), Some(Examined { groups: 3, messages: 10 }));
}

#[test]
fn a_changed_message_is_found() {
    let folder = tempfile::tempdir().unwrap();
    fill(&open(folder.path()), 5);
    let db = Connection::open(folder.path().join("chat.db")).unwrap();
    db.execute("UPDATE msg SET text = 'forged' WHERE id & 0xff = 3", []).unwrap();
    drop(db);
    let error = open(folder.path()).verify().unwrap_err();
    let broken = ChainError::Broken { group: group("h"), seq: at(3) };
    assert!(matches!(&error, StoreError::Chain(found) if *found == broken), "{error}");
}

#[test]
fn a_store_is_examined_beside_the_server_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(SqliteStore::examine(folder.path()).unwrap(), None);
    let store = open(folder.path());
    fill(&store, 5);
    store.append(&[message("n", "A", "other", "text")], 9_000).unwrap();
    let whole = Some(Examined { groups: 2, messages: 6 });
    assert_eq!(SqliteStore::examine(folder.path()).unwrap(), whole);
    store.expire(3_000).unwrap();
    assert_eq!(
        SqliteStore::examine(folder.path()).unwrap(),
        Some(Examined { groups: 2, messages: 4 }),
        "what is kept is checked from what was before it on"
    );
    drop(store);
    let db = Connection::open(folder.path().join("chat.db")).unwrap();
    db.execute("UPDATE msg SET text = 'forged' WHERE id & 0xff = 4", []).unwrap();
    let error = SqliteStore::examine(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Chain(ChainError::Broken { .. })), "{error}");
    db.execute("DELETE FROM msg WHERE id & 0xff = 5", []).unwrap();
    assert!(matches!(SqliteStore::examine(folder.path()).unwrap_err(), StoreError::Damaged { .. }));
}

#[test]
fn nothing_is_stored_without_room_and_it_goes_on_when_there_is_some() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    fill(&store, 3);
    let pages = |most: u32| store.writer().db.pragma_update(None, "max_page_count", most).unwrap();
    pages(1);
    let long = message("h", "A", "long", &"x".repeat(500_000));
    let error = store.append(&[message("h", "A", "short", "x"), long.clone()], 9_000).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert_eq!(numbers(&read(&store, Range::Last, 9, 0)), [1, 2, 3], "not even half of it");
    pages(1 << 20);
    let told = store.append(&[long], 9_000).unwrap();
    assert_eq!(told, [Outcome::Stored { seq: at(4), ts: 9_000 }]);
    assert_eq!(store.verify().unwrap(), 4);
}

#[test]
fn a_database_that_another_program_holds_stores_nothing_and_goes_on_when_it_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    fill(&store, 3);
    store.writer().db.busy_timeout(std::time::Duration::from_millis(100)).unwrap();
    let other = Connection::open(folder.path().join("chat.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.append(&[message("h", "A", "new", "text")], 9_000).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }) && error.hint().is_some(), "{error}");
    assert_eq!(read(&store, Range::Last, 9, 0).messages.len(), 3, "what is there can be read");
    other.execute_batch("ROLLBACK").unwrap();
    let outcome = store.append(&[message("h", "A", "new", "text")], 9_000).unwrap();
    assert_eq!(outcome, [Outcome::Stored { seq: at(4), ts: 9_000 }]);
}

#[test]
fn words_are_found_whatever_a_query_looks_like() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for (number, text) in
        ["Grüße aus Köln", "the quick fox", "the slow fox", "a\0b \u{202e}x", "山田"].iter().enumerate()
    {
        store.append(&[message("h", "A", &number.to_string(), text)], 1).unwrap();
    }
    assert_eq!(found(&store, "fox"), [3, 2], "the newest first");
    assert_eq!(found(&store, "FOX the"), [3, 2]);
    assert_eq!(found(&store, "fox quick"), [2]);
    assert_eq!(found(&store, "koln grusse"), [] as [u64; 0]);
    assert_eq!(found(&store, "köln"), [1]);
    assert_eq!(found(&store, "山田"), [5]);
    for odd in
        ["", "  ", "\"", "a OR", "NOT fox*", "text:fox", "(", "^", "fox\0", "-fox", "NEAR(a b)", "'; DROP"]
    {
        found(&store, odd);
    }
    let more = store.search("fox", &BTreeSet::from([group("h")]), 1, 0).unwrap();
    assert_eq!((more.hits.len(), more.more), (1, true));
    assert_eq!(store.search("fox", &BTreeSet::from([group("n")]), 9, 0).unwrap(), Found::default());
}

#[test]
fn hits_of_several_groups_are_in_order_of_time_however_they_came_into_the_index() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for (cid, group) in ["r", "h", "r", "a", "h", "r"].iter().enumerate() {
        store.append(&[message(group, "A", &cid.to_string(), "fox")], 1_000 + cid as u64 / 2).unwrap();
    }
    let all: BTreeSet<_> = ["a", "h", "r"].map(group).into();
    let places = |found: &Found| {
        let place = |hit: &crate::frames::Hit| format!("{}{} at {}", hit.g, hit.m.seq.get(), hit.m.ts);
        found.hits.iter().map(place).collect::<Vec<_>>()
    };
    let found = store.search("fox", &all, 9, 0).unwrap();
    let times: Vec<u64> = found.hits.iter().map(|hit| hit.m.ts).collect();
    assert_eq!(times, [1_002, 1_002, 1_001, 1_001, 1_000, 1_000], "{:?}", places(&found));
    let newest = store.search("fox", &all, 2, 0).unwrap();
    assert_eq!(newest.hits, found.hits[..2], "the limit leaves out the oldest");
    assert!(newest.more);
}

#[test]
fn a_lost_or_foreign_index_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    fill(&store, 5);
    assert_eq!(found(&store, "number3"), [3]);
    drop(store);
    let (messages, words) = (folder.path().join("chat.db"), folder.path().join("search.db"));
    let backup = std::fs::read(&messages).unwrap();

    std::fs::write(&words, "no database at all ".repeat(500)).unwrap();
    let store = open(folder.path());
    assert_eq!(found(&store, "number3"), [3]);
    fill(&store, 6);
    store.append(&[message("h", "A", "new", "newer")], 9_999).unwrap();
    assert_eq!(found(&store, "newer"), [7]);
    drop(store);

    // Of a version of gx before.
    rusqlite::Connection::open(&words).unwrap().pragma_update(None, "user_version", 1).unwrap();
    let store = open(folder.path());
    assert_eq!((found(&store, "newer"), found(&store, "number3")), (vec![7], vec![3]));
    drop(store);

    // Restored from a backup, and gone on from there.
    std::fs::write(&messages, backup).unwrap();
    let store = open(folder.path());
    for number in 6..9 {
        store.append(&[message("h", "A", &format!("o{number}"), "other")], 10_000).unwrap();
    }
    assert_eq!(found(&store, "newer"), [] as [u64; 0]);
    assert_eq!((found(&store, "other"), found(&store, "number5")), (vec![8, 7, 6], vec![5]));
}

#[test]
fn positions_go_forward_only() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mark = |device: &str, read| {
        let (user, group) = ("A".parse().unwrap(), group("h"));
        store.mark(&[Mark { user, device: device.parse().unwrap(), group, got: at(9), read }]).unwrap();
    };
    mark("one", at(5));
    mark("one", at(3));
    mark("two", at(4));
    assert_eq!(store.positions(&"A".parse().unwrap()).unwrap(), BTreeMap::from([(group("h"), at(5))]));
    assert_eq!(store.positions(&"B".parse().unwrap()).unwrap(), BTreeMap::new());
}

#[test]
fn a_token_is_one_devices_until_it_ends_or_the_account_changes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (user, device, other): (UserName, DeviceId, DeviceId) =
        ("A".parse().unwrap(), "d".parse().unwrap(), "e".parse().unwrap());
    let account =
        Account { user: user.clone(), password: Some("hash".to_owned()), node: None, disabled: false };
    store.put_account(&account).unwrap();
    assert_eq!(store.account(&user).unwrap().as_ref(), Some(&account));
    store.put_token(&[1; 32], &user, &device, 100).unwrap();
    assert!(store.has_token(&[1; 32], &user, &device, 99).unwrap());
    assert!(!store.has_token(&[1; 32], &user, &device, 100).unwrap());
    assert!(!store.has_token(&[1; 32], &user, &other, 1).unwrap());
    assert!(!store.has_token(&[2; 32], &user, &device, 1).unwrap());
    store.put_token(&[2; 32], &user, &device, 100).unwrap();
    assert!(!store.has_token(&[1; 32], &user, &device, 1).unwrap(), "a device has one");
    store.put_account(&account).unwrap();
    assert!(!store.has_token(&[2; 32], &user, &device, 1).unwrap());
    assert_eq!(store.accounts().unwrap(), [account]);
}

/// What somebody does to the store.
#[derive(Debug, Clone)]
enum Step {
    Append(Vec<(u8, u8, u8, u8)>, i64),
    Expire(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let batch = proptest::collection::vec((0..3_u8, 0..3_u8, 0..12_u8, 0..2_u8), 0..12);
    prop_oneof![
        6 => (batch, -50..200_i64).prop_map(|(batch, later)| Step::Append(batch, later)),
        1 => (0..1_000_u64).prop_map(Step::Expire),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Against a store that is lists in memory.
    #[test]
    fn whatever_is_done_the_store_is_dense_ordered_and_has_each_message_once(
        steps in proptest::collection::vec(step(), 1..25)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path());
        let mut groups: BTreeMap<GroupId, Vec<(u64, NewMessage)>> = BTreeMap::new();
        let mut gone: BTreeMap<GroupId, usize> = BTreeMap::new();
        let (mut clock, mut last) = (500_i64, 0_u64);
        for step in steps {
            match step {
                Step::Append(batch, later) => {
                    clock = (clock + later).max(0);
                    let batch: Vec<NewMessage> = batch.iter().map(|(g, from, cid, text)| {
                        let group = ["h", "n", "r"][usize::from(*g)];
                        let from = ["A", "B", "C"][usize::from(*from)];
                        message(group, from, &cid.to_string(), &format!("text {text}"))
                    }).collect();
                    let outcomes = store.append(&batch, clock as u64).unwrap();
                    let ts = last.max(clock as u64);
                    for (new, outcome) in batch.into_iter().zip(outcomes) {
                        let all = groups.values().flatten();
                        let same = all.clone().find(|(_, old)| old.from == new.from && old.cid == new.cid);
                        match (same, outcome) {
                            (None, Outcome::Stored { seq, ts: told }) => {
                                last = ts;
                                let kept = groups.entry(new.group.clone()).or_default();
                                let before = gone.get(&new.group).copied().unwrap_or(0);
                                kept.push((ts, new));
                                prop_assert_eq!((seq.get() as usize, told), (before + kept.len(), ts));
                            }
                            (Some((_, old)), Outcome::Duplicate { .. }) => prop_assert_eq!(old, &new),
                            (Some((_, old)), Outcome::Conflict) => prop_assert_ne!(old, &new),
                            (same, outcome) => prop_assert!(false, "{same:?} {outcome:?}"),
                        }
                    }
                }
                Step::Expire(oldest) => {
                    let before: usize = groups.values().map(Vec::len).sum();
                    for (group, kept) in &mut groups {
                        let number = kept.iter().take_while(|(ts, _)| *ts < oldest).count();
                        kept.drain(..number);
                        *gone.entry(group.clone()).or_default() += number;
                    }
                    let after: usize = groups.values().map(Vec::len).sum();
                    prop_assert_eq!(store.expire(oldest).unwrap() as usize, before - after);
                }
                Step::Reopen => {
                    drop(store);
                    store = open(folder.path());
                }
            }
            for (group, kept) in &groups {
                let page = store.read(group, Range::After(Seq::ZERO), 1_000, 0).unwrap();
                let before = gone.get(group).copied().unwrap_or(0);
                prop_assert_eq!(page.messages.len(), kept.len());
                for (number, (message, (ts, new))) in page.messages.iter().zip(kept).enumerate() {
                    prop_assert_eq!(message.seq.get() as usize, before + number + 1);
                    prop_assert_eq!((message.ts, &message.text, &message.cid), (*ts, &new.text, &new.cid));
                }
            }
            let kept: usize = groups.values().map(Vec::len).sum();
            prop_assert_eq!(store.verify().unwrap() as usize, kept);
            let all: BTreeSet<GroupId> = groups.keys().cloned().collect();
            let found = store.search("text", &all, 1_000, 0).unwrap();
            prop_assert_eq!(found.hits.len(), kept);
        }
    }
}
