//! The file: many that write it, damage, and what a person changed in it.

use std::net::SocketAddr;

use gx_core::peers::{PeerRecord, Source};

use super::*;
use crate::own::{Facts, renew};

fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], number))
}

fn open(data: &Path) -> Peers {
    let key = gx_identity::open(data).unwrap();
    Peers::open(data, &key, TableLimits::default()).unwrap().peers
}

fn add(peers: &Peers, number: u16) {
    peers.change(|table| table.insert_legacy(address(number), "", Source::Own, now()).map(drop)).unwrap();
}

fn rows(peers: &Peers) -> Vec<u16> {
    peers.with(|table| table.legacy().map(|(address, _)| address.port()).collect())
}

#[test]
fn of_many_that_write_at_once_nothing_is_lost() {
    let data = tempfile::tempdir().unwrap();
    gx_identity::open(data.path()).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..8_u16 {
            let data = data.path();
            scope.spawn(move || {
                for number in 0..10 {
                    let peers = open(data);
                    add(&peers, 1 + writer * 10 + number);
                    peers.save().unwrap();
                }
            });
        }
    });
    assert_eq!(rows(&open(data.path())), (1..=80).collect::<Vec<_>>());
}

#[test]
fn what_one_removes_the_other_does_not_bring_back() {
    let data = tempfile::tempdir().unwrap();
    let (a, b) = (open(data.path()), open(data.path()));
    (1..=3).for_each(|number| add(&a, number));
    a.save().unwrap();
    b.refresh().unwrap();
    assert_eq!(rows(&b), [1, 2, 3]);
    b.change(|table| table.remove_legacy(address(2)));
    add(&b, 4);
    b.save().unwrap();
    add(&a, 5);
    a.save().unwrap();
    assert_eq!(rows(&a), [1, 3, 4, 5]);
    assert_eq!(rows(&open(data.path())), [1, 3, 4, 5]);
}

#[test]
fn a_damaged_file_is_set_aside_and_named() {
    let data = tempfile::tempdir().unwrap();
    let key = gx_identity::open(data.path()).unwrap();
    for (number, text) in ["", "{\"ip_address\":[", "\u{0}", "[]"].into_iter().enumerate() {
        fs::write(data.path().join(FILE), text).unwrap();
        let Opened { peers, set_aside } = Peers::open(data.path(), &key, TableLimits::default()).unwrap();
        let set_aside = set_aside.unwrap();
        assert!(set_aside.to_string().contains(&format!("peers.damaged-{number}.json")), "{set_aside}");
        assert_eq!(fs::read_to_string(&set_aside.kept).unwrap(), text);
        assert!(rows(&peers).is_empty());
        assert!(!data.path().join(FILE).exists());
    }
}

#[test]
fn a_program_that_runs_loses_nothing_when_the_file_is_damaged_or_gone() {
    let data = tempfile::tempdir().unwrap();
    let peers = open(data.path());
    add(&peers, 1);
    peers.save().unwrap();
    fs::write(peers.file(), "{").unwrap();
    add(&peers, 2);
    assert!(peers.save().unwrap().is_some());
    assert_eq!(rows(&open(data.path())), [1, 2]);
    fs::remove_file(peers.file()).unwrap();
    add(&peers, 3);
    peers.save().unwrap();
    assert_eq!(rows(&open(data.path())), [1, 2, 3]);
}

#[test]
fn what_a_person_wrote_is_checked() {
    let data = tempfile::tempdir().unwrap();
    let key = gx_identity::open(data.path()).unwrap();
    let peers = open(data.path());
    let facts = Facts { addresses: vec![address(1)], cpus: 4, ..Facts::default() };
    assert!(renew(&peers, &key, &facts, PeerRecord::LEASE).unwrap());
    assert!(!renew(&peers, &key, &facts, PeerRecord::LEASE).unwrap(), "it says the same");
    peers.save().unwrap();
    let text = fs::read_to_string(peers.file()).unwrap();
    assert!(text.contains("\\\"cpus\\\":4") && unsealed(&text).is_some(), "{text}");
    assert_eq!(open(data.path()).with(|table| table.len()), 1);
    fs::write(peers.file(), text.replace("\\\"cpus\\\":4", "\\\"cpus\\\":64")).unwrap();
    assert_eq!(open(data.path()).with(|table| table.len()), 0, "nobody has signed that");
}

#[test]
fn a_seq_is_above_all_that_were_ever_shown() {
    let data = tempfile::tempdir().unwrap();
    let key = gx_identity::open(data.path()).unwrap();
    let facts = Facts { addresses: vec![address(1)], ..Facts::default() };
    // This node with a clock that was far ahead, before its table was lost.
    let ahead = now().unix_ms() as u64 + 3_600_000;
    let lost = PeerRecord {
        addresses: vec![address(1)],
        ..PeerRecord::new(key.id(), ahead, now(), PeerRecord::LEASE)
    };
    let lost = lost.sign(|message| key.sign(message)).unwrap();
    let peers = open(data.path());
    renew(&peers, &key, &facts, PeerRecord::LEASE).unwrap();
    peers.merge(&[lost], Source::Peer(address(1).ip()));
    let more = Facts { cpus: 9, ..facts };
    renew(&peers, &key, &more, PeerRecord::LEASE).unwrap();
    let seq = peers.with(|table| table.get(key.id()).unwrap().record().seq());
    assert_eq!(seq, ahead + 1);
    peers.save().unwrap();
    let again = open(data.path());
    renew(&again, &key, &Facts { cpus: 10, ..more }, PeerRecord::LEASE).unwrap();
    assert_eq!(again.with(|table| table.get(key.id()).unwrap().record().seq()), ahead + 2);
}

#[test]
fn a_draft_that_was_cut_off_at_any_byte_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let peers = open(data.path());
    (1..=3).for_each(|number| add(&peers, number));
    peers.save().unwrap();
    let text = fs::read(peers.file()).unwrap();
    for cut in 0..=text.len() {
        fs::write(data.path().join("peers.json.new"), &text[..cut]).unwrap();
        assert_eq!(rows(&open(data.path())), [1, 2, 3], "{cut} bytes of the draft");
    }
    add(&peers, 4);
    peers.save().unwrap();
    assert_eq!(rows(&open(data.path())), [1, 2, 3, 4]);
    assert!(!data.path().join("peers.json.new").exists());
}

#[test]
fn a_table_that_ends_at_any_byte_is_set_aside_and_never_half_read() {
    let data = tempfile::tempdir().unwrap();
    let key = gx_identity::open(data.path()).unwrap();
    let peers = open(data.path());
    (1..=3).for_each(|number| add(&peers, number));
    peers.save().unwrap();
    let text = fs::read(peers.file()).unwrap();
    // Without its last byte, which ends the line, it is whole; all shorter ones are damaged.
    for cut in 0..text.len() - 1 {
        fs::write(peers.file(), &text[..cut]).unwrap();
        let opened = Peers::open(data.path(), &key, TableLimits::default()).unwrap();
        let set_aside = opened.set_aside.unwrap_or_else(|| panic!("{cut} bytes are a table"));
        assert!(rows(&opened.peers).is_empty(), "{cut}");
        fs::remove_file(set_aside.kept).unwrap();
    }
}
