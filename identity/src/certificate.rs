//! The certificate of a node: its key in the form that TLS wants, and nothing that anybody has to believe.
//!
//! It is made anew at each start, of the key alone, and is the same each time (RFC 5280, RFC 8410). It never runs out, and
//! nobody reads its dates or its name: a node is its key.

use ed25519_dalek::VerifyingKey;
use gx_core::NodeId;
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error};
use sha2::{Digest as _, Sha256};

use crate::NodeKey;

/// The `AlgorithmIdentifier` of Ed25519 (RFC 8410, section 3).
const ED25519: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];
/// What a `SubjectPublicKeyInfo` has before the 32 bytes of the key (RFC 8410, section 4).
const PUBLIC_KEY: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// The `OBJECT IDENTIFIER` of a common name (RFC 5280, appendix A.1).
const COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];
const VERSION_3: &[u8] = &[0xa0, 0x03, 0x02, 0x01, 0x02];
const FROM: &[u8] = b"700101000000Z";
/// The date of what has no end (RFC 5280, section 4.1.2.5).
const UNTIL: &[u8] = b"99991231235959Z";

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// Returns the certificate of a key.
pub(crate) fn certificate(key: &NodeKey) -> CertificateDer<'static> {
    let node = key.id();
    let text = der(UTF8_STRING, &[node.to_string().as_bytes()]);
    let name = der(SEQUENCE, &[&der(SET, &[&der(SEQUENCE, &[COMMON_NAME, &text])])]);
    let validity = der(SEQUENCE, &[&der(UTC_TIME, &[FROM]), &der(GENERALIZED_TIME, &[UNTIL])]);
    let public = [PUBLIC_KEY, node.as_bytes()].concat();
    let signed = der(SEQUENCE, &[VERSION_3, &serial(node), ED25519, &name, &validity, &name, &public]);
    let signature = der(BIT_STRING, &[&[0], &key.sign(&signed)]);
    der(SEQUENCE, &[&signed, ED25519, &signature]).into()
}

/// Returns the key as PKCS #8 (RFC 8410, section 7).
pub(crate) fn private(seed: &[u8; 32]) -> Vec<u8> {
    let inner = der(0x04, &[seed]);
    der(SEQUENCE, &[&[INTEGER, 1, 0], ED25519, &der(0x04, &[&inner])])
}

/// Returns a number of the key's own: some programs take two certificates of one issuer and number for a forgery.
fn serial(node: NodeId) -> Vec<u8> {
    let digest = Sha256::digest(node.as_bytes());
    let mut number: [u8; 16] = std::array::from_fn(|at| digest[at]);
    number[0] = number[0] & 0x3f | 0x40; // positive, and without zeros in front
    der(INTEGER, &[&number])
}

/// Returns a value of at most 65535 bytes with its tag and length (X.690).
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let [high, low] = u16::try_from(value.len()).expect("a certificate is short").to_be_bytes();
    let mut bytes = match (high, low) {
        (0, 0..=0x7f) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    bytes.extend(value);
    bytes
}

/// Returns whose certificate it is; that they have the key is proved by their signature alone.
///
/// # Errors
/// What is no certificate of an Ed25519 key, or comes with others, or has a key that proves nothing, as anybody can sign
/// in its name.
pub(crate) fn node_of(
    certificate: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
) -> Result<NodeId, Error> {
    if !others.is_empty() {
        return Err(CertificateError::BadEncoding.into());
    }
    let parsed = ParsedCertificate::try_from(certificate)?;
    let info = parsed.subject_public_key_info();
    let bytes = info.strip_prefix(PUBLIC_KEY).and_then(|key| <[u8; 32]>::try_from(key).ok());
    let bytes = bytes.ok_or(CertificateError::BadEncoding)?;
    match VerifyingKey::from_bytes(&bytes) {
        Ok(key) if !key.is_weak() => Ok(NodeId::from_bytes(bytes)),
        _ => Err(CertificateError::BadEncoding.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_certificate_is_the_same_each_time_and_names_its_node() {
        let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let key = crate::open(data.path()).unwrap();
        let made = certificate(&key);
        assert_eq!(made, certificate(&crate::open(data.path()).unwrap()));
        assert_ne!(made, certificate(&crate::open(other.path()).unwrap()));
        assert_eq!(node_of(&made, &[]).unwrap(), key.id());
        assert!(node_of(&made, std::slice::from_ref(&made)).is_err(), "a chain");
    }

    #[test]
    fn openssl_finds_the_key_the_name_and_the_signature() {
        let data = tempfile::tempdir().unwrap();
        let key = crate::open(data.path()).unwrap();
        let file = data.path().join("certificate.der");
        std::fs::write(&file, certificate(&key)).unwrap();
        let openssl = |args: &[&str]| {
            let output = Command::new("openssl").args(args).arg(&file).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let text = openssl(&["x509", "-inform", "DER", "-noout", "-text", "-in"]);
        assert!(text.contains("Public Key Algorithm: ED25519"), "{text}");
        assert!(text.replace(" = ", "=").contains(&format!("Subject: CN={}", key.id())), "{text}");
        assert!(text.contains("Not Before: Jan  1 00:00:00 1970 GMT"), "{text}");
        assert!(text.contains("Not After : Dec 31 23:59:59 9999 GMT"), "{text}");
        let pem = data.path().join("certificate.pem");
        std::fs::write(&pem, openssl(&["x509", "-inform", "DER", "-in"])).unwrap();
        let mut verify = Command::new("openssl");
        verify.args(["verify", "-partial_chain", "-check_ss_sig", "-trusted"]).args([&pem, &pem]);
        let verified = verify.output().unwrap();
        assert!(verified.status.success(), "{verified:?}");
    }

    proptest! {
        #[test]
        fn whatever_is_changed_it_is_an_error_or_the_key_that_is_in_it(place in 0_usize..400, byte: u8) {
            let data = tempfile::tempdir().unwrap();
            let mut changed = certificate(&crate::open(data.path()).unwrap()).to_vec();
            let place = place % changed.len();
            changed[place] = byte;
            let at = changed.windows(PUBLIC_KEY.len()).position(|window| window == PUBLIC_KEY);
            if let Ok(node) = node_of(&changed.clone().into(), &[]) {
                let at = at.unwrap() + PUBLIC_KEY.len();
                prop_assert_eq!(&changed[at..at + 32], &node.as_bytes()[..]);
            }
        }

        #[test]
        fn any_bytes_are_refused(bytes: Vec<u8>) {
            prop_assert!(node_of(&bytes.into(), &[]).is_err());
        }
    }

    #[test]
    fn other_keys_and_keys_of_everybody_are_refused() {
        let data = tempfile::tempdir().unwrap();
        let made = certificate(&crate::open(data.path()).unwrap());
        let at = made.windows(PUBLIC_KEY.len()).position(|window| window == PUBLIC_KEY).unwrap();
        let with = |place: usize, bytes: &[u8]| {
            let mut changed = made.to_vec();
            changed[place..place + bytes.len()].copy_from_slice(bytes);
            node_of(&changed.into(), &[])
        };
        assert!(with(at + 8, &[0x6e]).is_err(), "X25519 is no key that signs");
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(
            with(at + PUBLIC_KEY.len(), &identity).is_err(),
            "anybody signs in the name of the neutral element"
        );
        assert!(with(at + PUBLIC_KEY.len(), &[2; 32]).is_err(), "no point of the curve");
        assert!(node_of(&b"rubbish".to_vec().into(), &[]).is_err());
        assert!(node_of(&made[..made.len() - 1].to_vec().into(), &[]).is_err());
    }
}
