//! TLS between nodes: a handshake in which each side proves its key (RFC 8446), and nothing else is believed.
//!
//! A host always shows its certificate; a client shows its own if it has one, and else is nobody known. There are no
//! authorities, names or dates. Nothing is resumed: each connection proves its keys anew, so that nobody has to trust what
//! a ticket remembers.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use gx_core::NodeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    ServerConfig, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::NodeKey;
use crate::certificate::{certificate, node_of};

/// A connection as its host has it.
pub type HostStream<S> = server::TlsStream<S>;
/// A connection as its client has it.
pub type ClientStream<S> = client::TlsStream<S>;

/// How long a handshake may take.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// What is spoken inside (RFC 7301): so that no other service's bytes are taken for it.
const HTTP: &[u8] = b"http/1.1";

/// Another node answers than the one that is expected. It has proved that it is this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("node {found} answers, and {expected} is expected")]
pub struct WrongNode {
    /// Who should have answered.
    pub expected: NodeId,
    /// Who did.
    pub found: NodeId,
}

impl WrongNode {
    /// Returns that another node answered, where that is what an error comes of.
    pub fn behind(error: &(dyn StdError + 'static)) -> Option<Self> {
        chain(error).find_map(|error| match error.downcast_ref() {
            Some(Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))) => {
                inner.downcast_ref().copied()
            }
            _ => None,
        })
    }
}

/// Returns whether an error of a connection that is being made comes of its handshake: that both do not speak TLS, or not
/// in the way of nodes, or that the other side has ended it.
pub fn is_handshake(error: &(dyn StdError + 'static)) -> bool {
    let ended = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    chain(error).any(|error| {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        error.is::<Error>() || kind.is_some_and(|kind| ended.contains(&kind))
    })
}

/// Returns an error and what is behind it. The source of an I/O error is its content's source, and not its content.
fn chain<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'e (dyn StdError + 'static)| {
        let error = *error;
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inside.map(|inside| inside as &(dyn StdError + 'static)).or_else(|| error.source())
    })
}

/// The side of a host: shows its certificate and asks for the client's.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

impl Acceptor {
    /// Makes the side of a host with this key.
    pub fn new(key: &NodeKey) -> Self {
        Self(TlsAcceptor::from(Arc::new(server_config(key))))
    }

    /// Shakes hands, within [`HANDSHAKE`], and returns the connection with who is at its other end; `None` is a client that
    /// shows no certificate.
    ///
    /// # Errors
    /// What breaks the connection; [`io::ErrorKind::TimedOut`]; [`io::ErrorKind::InvalidData`] for what is no handshake
    /// between nodes, and for a certificate that is no node's or that its key did not sign.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(HostStream<S>, Option<NodeId>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = timely(self.0.accept(stream)).await?;
        let node = proved(stream.get_ref().1.peer_certificates())?;
        Ok((stream, node))
    }
}

/// The side of a client.
#[derive(Clone)]
pub struct Connector(Arc<ClientConfig>);

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Connector {
    /// Makes the side of a client with this key, that speaks with this node only.
    pub fn to_node(node: NodeId, key: &NodeKey) -> Self {
        Self(Arc::new(client_config(Some(node), Some(key))))
    }

    /// Makes the side of a client without a key, that speaks with this node only.
    pub fn to_node_as_nobody(node: NodeId) -> Self {
        Self(Arc::new(client_config(Some(node), None)))
    }

    /// Makes the side of a client that asks who is there, and shows no key of its own.
    pub fn to_anybody() -> Self {
        Self(Arc::new(client_config(None, None)))
    }

    /// Returns what a library that shakes hands by itself needs.
    pub fn config(&self) -> ClientConfig {
        ClientConfig::clone(&self.0)
    }

    /// Shakes hands, within [`HANDSHAKE`], and returns the connection with the node at its other end, which has proved its
    /// key.
    ///
    /// # Errors
    /// As [`Acceptor::accept`]; [`WrongNode`] is behind the one of another node.
    pub async fn connect<S>(&self, stream: S) -> io::Result<(ClientStream<S>, NodeId)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // The library wants a name; it is not sent, and nobody compares it.
        let name = ServerName::try_from("gx.invalid").expect("it is a name");
        let stream = timely(TlsConnector::from(self.0.clone()).connect(name, stream)).await?;
        let node = proved(stream.get_ref().1.peer_certificates())?;
        let node =
            node.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the host shows no certificate"))?;
        Ok((stream, node))
    }
}

async fn timely<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(HANDSHAKE, handshake).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Returns who has proved their key in a handshake that is over.
fn proved(certificates: Option<&[CertificateDer<'_>]>) -> io::Result<Option<NodeId>> {
    let Some((own, others)) = certificates.and_then(<[_]>::split_first) else {
        return Ok(None);
    };
    let node = node_of(own, others).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some(node))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_config(key: &NodeKey) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has TLS 1.3");
    let mut config = builder
        .with_client_cert_verifier(Arc::new(Nodes::new(None)))
        .with_single_cert(vec![certificate(key)], private(key))
        .expect("a key fits its own certificate");
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![HTTP.to_vec()];
    config
}

fn client_config(expected: Option<NodeId>, key: Option<&NodeKey>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring has TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Nodes::new(expected)));
    let mut config = match key {
        Some(key) => builder
            .with_client_auth_cert(vec![certificate(key)], private(key))
            .expect("a key fits its own certificate"),
        None => builder.with_no_client_auth(),
    };
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false; // the name would be sent in the clear, and the host has one certificate
    config.alpn_protocols = vec![HTTP.to_vec()];
    config
}

fn private(key: &NodeKey) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.pkcs8()).into()
}

/// Checks the other side of a handshake: that its certificate is a node's, that it has the key, and that it is the node
/// that is expected, where one is.
#[derive(Debug)]
struct Nodes {
    expected: Option<NodeId>,
    provider: Arc<CryptoProvider>,
}

impl Nodes {
    fn new(expected: Option<NodeId>) -> Self {
        Self { expected, provider: provider() }
    }

    /// Checks the signature first: who answers in another's place is named only once that is proved.
    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if signed.scheme != SignatureScheme::ED25519 {
            return Err(CertificateError::BadSignature.into());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        let valid = rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)?;
        let found = node_of(certificate, &[])?;
        match self.expected {
            Some(expected) if expected != found => {
                let wrong = WrongNode { expected, found };
                Err(CertificateError::Other(OtherError(Arc::new(wrong))).into())
            }
            _ => Ok(valid),
        }
    }
}

impl ServerCertVerifier for Nodes {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        node_of(certificate, others).map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Nodes {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        node_of(certificate, others).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

#[cfg(test)]
mod tests;
