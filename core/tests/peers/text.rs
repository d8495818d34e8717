//! The table as text: what is written is read again, what others write is read with care.

use gx_core::Timestamp;
use gx_core::measurement::Millis;
use gx_core::peers::file::{Row, Skipped, TablePage, Upload, rows};
use gx_core::peers::{PeerTable, RecordError, Refused, Source, TableLimits, VerifiedRecord};
use proptest::prelude::*;

use crate::world::{START, population, record, signed, verified, verify};

fn now() -> Timestamp {
    Timestamp::from_unix(START)
}

fn stranger() -> Source {
    Source::Peer("198.51.100.1".parse().unwrap())
}

fn lived_in() -> PeerTable {
    let records = population(40, 9);
    let mut table = PeerTable::new(TableLimits::default(), Some(records[0].node_id()));
    table.insert(records[0].clone(), Source::Own, now()).unwrap();
    table.merge(records[1..30].iter().cloned(), stranger(), now());
    for entry in &records[1..9] {
        table.observe(entry.node_id(), |seen| seen.answered(Some(Millis(2.5)), now()));
    }
    table.observe(records[9].node_id(), |seen| seen.failed(now()));
    table.pin(records[3].node_id());
    let mut other = records[5].record();
    other.cpus += 1;
    table.insert(verified(&other), stranger(), now()).unwrap();
    table.insert_legacy("203.0.113.9:8088".parse().unwrap(), "old", stranger(), now()).unwrap();
    table.insert_legacy("192.168.7.9:8088".parse().unwrap(), "mine", Source::Own, now()).unwrap();
    table
}

fn described(table: &PeerTable) -> String {
    let keyed: Vec<String> = table
        .iter()
        .map(|(node, e)| {
            let dial: Vec<_> = e.addresses().collect();
            format!(
                "{node} {:?} {:?} {:?} {} {dial:?} {:?}\n",
                e.record().fingerprint(),
                e.rival().map(VerifiedRecord::fingerprint),
                e.source(),
                e.is_pinned(),
                e.observation()
            )
        })
        .collect();
    format!(
        "{}{:?}",
        keyed.concat(),
        table.legacy().map(|(at, row)| (at, row.pinned, row.name.clone())).collect::<Vec<_>>()
    )
}

#[test]
fn what_is_written_is_read_again() {
    let mut table = lived_in();
    let text = table.to_text();
    assert!(text.starts_with("{\"ip_address\":[\n{"), "people recognise it");
    let mut again = PeerTable::new(table.limits(), table.own());
    let read = again.read_own(&text, &verify, now()).unwrap();
    assert_eq!(read.skipped, []);
    assert_eq!(described(&again), described(&table));
    assert_eq!(again.digest(), table.digest());
    assert_eq!(again.to_text(), text);
}

#[test]
fn after_a_long_absence_those_who_answered_can_be_asked() {
    let table = lived_in();
    let next_week = Timestamp::from_unix(START + 6 * 86_400);
    let mut again = PeerTable::new(table.limits(), table.own());
    let read = again.read_own(&table.to_text(), &verify, next_week).unwrap();
    assert_eq!(again.len(), 0, "all records have ended");
    assert_eq!(again.legacy().count(), 2 + 7, "two had no key, seven had answered and said one thing");
    assert!(read.skipped.iter().all(|(_, why)| matches!(why, Skipped::Record(RecordError::Expired { .. }))));
}

#[test]
fn a_time_without_a_network_forgets_nobody_until_they_are_silent_for_long() {
    let mut table = lived_in();
    let nodes: Vec<_> = table.iter().map(|(node, _)| node).collect();
    let offline = Timestamp::from_unix(START + 3_600);
    for node in nodes {
        table.observe(node, |seen| seen.failed(offline));
    }
    let read_after = |days: i64| {
        let mut again = PeerTable::new(table.limits(), table.own());
        let then = Timestamp::from_unix(START + 3_600 + days * 86_400);
        again.read_own(&table.to_text(), &verify, then).unwrap();
        again.legacy().count()
    };
    assert_eq!(read_after(2), 2 + 7, "two had no key, seven had answered once");
    assert_eq!(read_after(7), 2 + 1, "all but the pinned one were silent for a week");
}

#[test]
fn rows_of_the_predecessor_are_read() {
    let text = r#"{
 "ip_address": [
  {"ipv4": "203.0.113.1", "latency": 139109233, "download": 6.38, "upload": 896786.58},
  {"Name": "two\u001b[31m", "IPV4": "203.0.113.2", "IPV6": "", "Latency": 1, "ServerPort": "9090", "NAT": true},
  {"Ipv6": "2001:db8::3", "ServerPort": 9091, "EscapeImplementation": "None"},
  {"ipv4": "0.0.0.0"}, {"ipv4": "203.0.113.4", "serverport": "99999"}, 7, null, "x", {"ipv4": ["x"]},
  {"ipv4": "127.0.0.1"}, {"ipv4": "10.0.0.1"}
 ]
}"#;
    let mut table = PeerTable::new(TableLimits::default(), None);
    let read = table.merge_rows(&rows(text).unwrap(), stranger(), &verify, now());
    let known: Vec<String> = table.legacy().map(|(at, row)| format!("{at} {}", row.name)).collect();
    assert_eq!(known, ["203.0.113.1:8088 ", "203.0.113.2:9090 two[31m", "[2001:db8::3]:9091 "]);
    assert_eq!((read.keyless, read.skipped.len()), (3, 8));
    assert!(table.legacy().all(|(_, row)| row.seen.latency_ms.is_none()), "their figures are not mine");
    assert_eq!(table.page(None, 512, stranger(), now()).records.len(), 0, "they are not passed on");
}

#[test]
fn what_is_damaged_is_shown_with_its_place() {
    let whole = lived_in().to_text();
    let half = &whole[..whole.len() / 2];
    let mut table = PeerTable::new(TableLimits::default(), None);
    let error = table.read_own(half, &verify, now()).unwrap_err();
    assert_eq!(error.line, half.lines().count(), "{error}");
    assert!(error.to_string().starts_with("the table of servers is damaged at line "), "{error}");
    assert!(table.is_empty());
    for (text, line, column) in
        [("", 1, 0), ("{\"ip_address\":[}", 1, 16), ("[]\n", 1, 2), ("{\n\"other\": []}", 2, 12)]
    {
        let error = rows(text).unwrap_err();
        assert_eq!((error.line, error.column), (line, column), "{text:?}: {error}");
    }
}

#[test]
fn a_row_that_is_forged_is_passed_over_and_says_why() {
    let mut chance = gx_core::peers::exchange::Chance::new(3);
    let node = crate::world::node_id(&mut chance);
    let good = record(&mut chance, node, "203.0.113.77".parse().unwrap(), now());
    let mut forged = signed(&good);
    forged.record = forged.record.replace("203.0.113.77", "203.0.113.78");
    let row = Row { record: Some(forged.record), signature: Some(forged.signature), ..Row::default() };
    let mut table = PeerTable::new(TableLimits::default(), None);
    let read = table.merge_rows(&[Some(row)], stranger(), &verify, now());
    assert_eq!(read.skipped, [(0, Skipped::Record(RecordError::Forged { node }))]);
    assert!(table.is_empty());
    // A row is no way to pin, to measure or to vouch for an address.
    let sly = Row {
        pinned: true,
        observed: Some(Default::default()),
        dial: Some(vec!["127.0.0.1:1".parse().unwrap()]),
        ..Row::of(&verified(&good))
    };
    table.merge_rows(&[Some(sly)], stranger(), &verify, now());
    let entry = table.get(node).unwrap();
    assert!(!entry.is_pinned() && entry.observed().is_none() && entry.addresses().count() == 1);
}

#[test]
fn a_page_and_an_upload_are_the_same_rows() {
    let table = lived_in();
    let page = TablePage::from(table.page(None, 3, stranger(), now()));
    let text = serde_json::to_string(&page).unwrap();
    assert_eq!(serde_json::from_str::<TablePage>(&text).unwrap(), page);
    let upload: Upload = serde_json::from_str(&text).unwrap();
    assert_eq!((upload.ip_address, upload.ask), (page.ip_address, None));
}

#[test]
fn nine_rows_without_a_key_of_one_network_are_one_too_many() {
    let mut table = PeerTable::new(TableLimits::default(), None);
    let mut insert =
        |last: u8, source| table.insert_legacy(([203, 0, 113, last], 80).into(), "", source, now());
    assert!((1..=8).all(|last| insert(last, stranger()).is_ok()));
    assert_eq!(insert(9, stranger()), Err(Refused::NetworkQuota));
    assert!(insert(9, Source::Own).is_ok(), "the user may");
}

#[test]
fn a_server_that_proves_its_key_takes_over_its_row() {
    let mut table = PeerTable::new(TableLimits::default(), None);
    let one = population(1, 1).remove(0);
    let at = one.addresses()[0];
    table.insert_legacy(at, "", Source::Own, now()).unwrap();
    table.insert(one.clone(), stranger(), now()).unwrap();
    assert_eq!(table.candidates(now()).len(), 2, "who only claims the address takes nothing over");
    table.reached(one.node_id(), at);
    assert_eq!((table.legacy().count(), table.get(one.node_id()).unwrap().is_pinned()), (0, true));
}

proptest! {
    #[test]
    fn any_text_is_a_table_or_an_error_with_a_place(cut in 0_usize..8_000, noise in "\\PC{0,6}") {
        let mut text = lived_in().to_text();
        let cut = (0..=cut.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        text.insert_str(cut, &noise);
        let mut table = PeerTable::new(TableLimits::default(), None);
        match table.read_own(&text, &verify, now()) {
            Ok(_) => {}
            Err(error) => prop_assert!(error.line >= 1 && !error.because.is_empty()),
        }
    }
}
