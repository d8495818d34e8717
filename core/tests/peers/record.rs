//! What is a record and what is not, with real signatures.

use std::time::Duration;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use gx_core::peers::{Gpu, PeerRecord, RecordError, SignedRecord, clean_text};
use gx_core::{NodeId, Timestamp};
use proptest::prelude::*;

const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_unix(NOW)
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn verify(node: NodeId, message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(node.as_bytes())
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

fn record() -> PeerRecord {
    let node = NodeId::from_bytes(key().verifying_key().to_bytes());
    let mut record = PeerRecord::new(node, 1, now(), PeerRecord::LEASE);
    record.addresses = vec!["203.0.113.7:7467".parse().unwrap()];
    record
}

fn sign(record: &PeerRecord) -> Result<SignedRecord, RecordError> {
    record.sign(|message| key().sign(message).to_bytes())
}

/// Signs any text, as a program with other ideas of a record would.
fn sign_text(text: &str) -> SignedRecord {
    let message = ["gx peer record 1\n", text].concat();
    let mut signed = sign(&record()).unwrap();
    signed.signature.0 = key().sign(message.as_bytes()).to_bytes();
    signed.record = text.to_owned();
    signed
}

#[test]
fn a_record_survives_its_way() {
    let mut record = record();
    record.gpus = vec![Gpu { model: "NVIDIA A100".to_owned(), memory_bytes: 80 << 30 }];
    record.labels.insert("region".to_owned(), "Zürich 1".to_owned());
    record.runtimes = vec!["podman".parse().unwrap()];
    let sent = serde_json::to_string(&sign(&record).unwrap()).unwrap();
    let got: SignedRecord = serde_json::from_str(&sent).unwrap();
    let verified = got.verify(&verify, now()).unwrap();
    assert_eq!(verified.record(), record);
    assert_eq!(verified.signed(), got, "it goes on as it came");
    assert!(verified.wire_bytes() >= sent.len() && verified.wire_bytes() <= sent.len() + 8);
}

#[test]
fn fields_of_tomorrow_are_kept() {
    let text = serde_json::to_string(&record()).unwrap();
    let text = text.replacen('{', "{ \"color\" : [1, {\"deep\": null}],", 1);
    let verified = sign_text(&text).verify(&verify, now()).unwrap();
    assert_eq!(verified.text(), text);
    assert_eq!(verified.record(), record());
}

#[test]
fn every_field_has_its_limits() {
    let bad = |field: &str, change: &dyn Fn(&mut PeerRecord)| {
        let mut record = record();
        change(&mut record);
        match sign(&record) {
            Err(RecordError::Field { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{field}: {other:?}"),
        }
        // A program with other ideas does not get it past either.
        let text = serde_json::to_string(&record).unwrap();
        assert!(sign_text(&text).verify(&verify, now()).is_err(), "{field}");
    };
    let at = |text: &str| vec![text.parse().unwrap()];
    bad("seq", &|r| r.seq = 1 << 53);
    bad("expires_at", &|r| r.expires_at = r.issued_at);
    bad("expires_at", &|r| r.expires_at = Timestamp::from_unix(NOW + 8 * 86_400));
    bad("addresses", &|r| r.addresses.clear());
    bad("addresses", &|r| r.addresses = at("0.0.0.0:1"));
    bad("addresses", &|r| r.addresses = at("224.0.0.1:1"));
    bad("addresses", &|r| r.addresses = at("169.254.169.254:80"));
    bad("addresses", &|r| r.addresses = at("[::ffff:10.0.0.1]:80"));
    bad("addresses", &|r| r.addresses = at("203.0.113.7:0"));
    bad("addresses", &|r| r.addresses = vec!["203.0.113.7:1".parse().unwrap(); 9]);
    bad("version", &|r| r.version = "v".repeat(33));
    bad("platform", &|r| r.platform = "linux amd64".to_owned());
    bad("memory_bytes", &|r| r.memory_bytes = u64::MAX);
    bad("gpus", &|r| r.gpus = vec![Gpu::default(); 17]);
    bad("gpus", &|r| r.gpus = vec![Gpu { model: "\u{1b}[31mred".to_owned(), memory_bytes: 1 }]);
    bad("runtimes", &|r| r.runtimes = vec!["docker".parse().unwrap(); 17]);
    bad("labels", &|r| drop(r.labels.insert("UPPER".to_owned(), "x".to_owned())));
    bad("labels", &|r| drop(r.labels.insert("x".to_owned(), "a\u{202e}b".to_owned())));
    bad("labels", &|r| drop(r.labels.insert("x".to_owned(), "a\u{200b}b".to_owned())));
    bad("labels", &|r| drop(r.labels.insert("x".to_owned(), "y".repeat(64))));
    let mut large = record();
    (0..16).for_each(|n| drop(large.labels.insert(format!("label-{n}"), "x".repeat(60))));
    assert!(matches!(sign(&large), Err(RecordError::TooLarge { bytes }) if bytes > 960));
}

#[test]
fn a_record_is_only_taken_in_its_time() {
    let signed = sign(&record()).unwrap();
    let at = |seconds: i64| signed.verify(&verify, Timestamp::from_unix(NOW + seconds)).map(drop);
    let lease = PeerRecord::LEASE.as_secs() as i64;
    assert_eq!(at(lease - 1), Ok(()));
    assert!(matches!(at(lease), Err(RecordError::Expired { .. })));
    assert_eq!(at(-600), Ok(()), "clocks may be ten minutes apart");
    assert!(matches!(at(-601), Err(RecordError::Future { .. })));
    assert!(sign(&PeerRecord::new(record().node_id, 1, now(), Duration::MAX)).is_err());
}

#[test]
fn a_farewell_lasts_as_long_as_what_it_ends() {
    let record = record();
    for seconds in [-5, 0, 60, 10_000_000] {
        let last = record.farewell(Timestamp::from_unix(NOW + seconds));
        assert!(last.gone && last.seq == record.seq + 1 && last.expires_at == record.expires_at);
        assert!(sign(&last).unwrap().verify(&verify, now()).is_ok() || seconds > 600);
    }
}

#[test]
fn text_of_this_machine_is_cleaned() {
    for (text, clean) in [
        ("  Tesla\tV100 \n", "Tesla V100"),
        ("a\u{202e}b\u{200b}c\u{7}", "abc"),
        ("äöü", "äö"),
        ("\u{1b}[31m", "[31m"),
    ] {
        assert_eq!(clean_text(text, if text == "äöü" { 5 } else { 64 }), clean);
    }
}

#[test]
fn what_is_no_record_is_said_to_be_none() {
    for text in ["", "[]", "{}", "null", "{\"node_id\":7}", "\u{0}", "{\"seq\":1,\"seq\":2}"] {
        assert!(matches!(sign_text(text).verify(&verify, now()), Err(RecordError::Damaged { .. })), "{text}");
    }
    let twice = serde_json::to_string(&record()).unwrap().replacen('{', "{\"seq\":1,", 1);
    assert!(matches!(sign_text(&twice).verify(&verify, now()), Err(RecordError::Damaged { .. })));
    let deep = "[".repeat(900);
    assert!(sign_text(&deep).verify(&verify, now()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_change_goes_unnoticed(at in 0_usize..400, bit in 0_u8..7, in_signature: bool) {
        let mut signed = sign(&record()).unwrap();
        if in_signature {
            let at = at % 64;
            signed.signature.0[at] ^= 1 << bit;
        } else {
            let mut bytes = signed.record.into_bytes();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            signed.record = String::from_utf8(bytes).unwrap();
        }
        prop_assert!(signed.verify(&verify, now()).is_err());
    }

    #[test]
    fn any_text_is_a_record_or_an_error(text in "\\PC{0,200}") {
        let _ = sign_text(&text).verify(&|_, _, _| true, now());
    }
}
