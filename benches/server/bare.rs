//! The measure of `gx serve`: hyper and rustls with the same settings, and nothing but the answer.
//!
//! TLS 1.3 by ring with an Ed25519 certificate; a client is asked for one, and that it has the key is checked. Nothing is
//! resumed. Who the client is, and what it may, nobody asks.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use gx_identity::tls::Connector;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::{Result, until_input_ends};

/// Serves the content of a file until the program's input ends.
pub(crate) async fn serve(data: &Path, body: &str) -> Result<()> {
    let key = gx_identity::open(data)?;
    let acceptor = TlsAcceptor::from(Arc::new(config(&Connector::to_node(key.id(), &key))?));
    let body = Bytes::from(std::fs::read(body)?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", serde_json::json!({ "listening": listener.local_addr()?, "node_id": key.id() }));
    tokio::select! {
        ended = until_input_ends() => ended,
        failed = accept(&listener, &acceptor, &body) => failed,
    }
}

async fn accept(listener: &TcpListener, acceptor: &TlsAcceptor, body: &Bytes) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, body) = (acceptor.clone(), body.clone());
        tokio::spawn(async move {
            // A client that goes away is no failure of the bench.
            let _ = answer(stream, &acceptor, &body).await;
        });
    }
}

async fn answer(stream: TcpStream, acceptor: &TlsAcceptor, body: &Bytes) -> Result<()> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let service = service_fn(|_: Request<hyper::body::Incoming>| {
        let mut response = Response::new(Full::new(body.clone()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        async { Ok::<_, Infallible>(response) }
    });
    Ok(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?)
}

/// As a host of gx has it; the certificate is the one that the key's owner shows as a client.
fn config(own: &Connector) -> Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let shown = own.config().client_auth_cert_resolver.resolve(&[], &[SignatureScheme::ED25519]);
    let shown = shown.ok_or("a node's key comes with a certificate")?;
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(Anybody(provider)))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Takes every certificate whose key the client has.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ClientCertVerifier for Anybody {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> std::result::Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
