//! Handshakes that hold, and those that must not: stolen and foreign certificates, wrong clocks, old versions, garbage,
//! silence, and what somebody on the way has recorded.

use std::process::{Command, Stdio};
use std::sync::Mutex;

use rustls::client::ResolvesClientCert;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::time_provider::TimeProvider;
use rustls::{SignatureAlgorithm, SignatureScheme};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const YEAR: u64 = 365 * 24 * 60 * 60;

struct Somebody {
    key: NodeKey,
    data: TempDir,
}

fn somebody() -> Somebody {
    let data = tempfile::tempdir().unwrap();
    Somebody { key: crate::open(data.path()).unwrap(), data }
}

type Accepted = io::Result<(HostStream<DuplexStream>, Option<NodeId>)>;
type Connected = io::Result<(ClientStream<DuplexStream>, NodeId)>;

async fn shake(acceptor: &Acceptor, connector: &Connector) -> (Accepted, Connected) {
    let (near, far) = duplex(64 * 1024);
    let accepting = async {
        let mut accepted = acceptor.accept(far).await?;
        // What a host refuses of a client, the client learns from the first bytes.
        accepted.0.write_all(b"in").await?;
        accepted.0.flush().await?;
        Ok(accepted)
    };
    let connecting = async {
        let mut connected = connector.connect(near).await?;
        let mut told = [0; 2];
        connected.0.read_exact(&mut told).await?;
        Ok(connected)
    };
    tokio::join!(accepting, connecting)
}

#[tokio::test]
async fn both_sides_know_each_other_by_their_keys() {
    let (host, client) = (somebody(), somebody());
    let acceptor = Acceptor::new(&host.key);
    let (accepted, connected) = shake(&acceptor, &Connector::to_node(host.key.id(), &client.key)).await;
    assert_eq!(accepted.unwrap().1, Some(client.key.id()));
    let (stream, node) = connected.unwrap();
    assert_eq!(node, host.key.id());
    let session = stream.get_ref().1;
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(session.alpn_protocol(), Some(HTTP));
    assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full));
    let (accepted, connected) = shake(&acceptor, &Connector::to_anybody()).await;
    assert_eq!((accepted.unwrap().1, connected.unwrap().1), (None, host.key.id()));
    let (accepted, _) = shake(&acceptor, &Connector::to_node_as_nobody(host.key.id())).await;
    assert_eq!(accepted.unwrap().1, None);
}

#[tokio::test]
async fn nothing_is_resumed() {
    let (host, client) = (somebody(), somebody());
    let acceptor = Acceptor::new(&host.key);
    let connector = Connector::to_node(host.key.id(), &client.key);
    for _ in 0..2 {
        let (accepted, _) = shake(&acceptor, &connector).await;
        let (stream, node) = accepted.unwrap();
        assert_eq!(node, Some(client.key.id()));
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test]
async fn another_node_than_the_expected_one_is_refused_with_both_ids() {
    let (host, expected, client) = (somebody(), somebody(), somebody());
    let connector = Connector::to_node(expected.key.id(), &client.key);
    let (accepted, connected) = shake(&Acceptor::new(&host.key), &connector).await;
    let error = connected.unwrap_err();
    let wrong = WrongNode { expected: expected.key.id(), found: host.key.id() };
    assert_eq!(WrongNode::behind(&error), Some(wrong), "{error:?}");
    assert!(accepted.is_err(), "the host has not learned who asked");
}

#[tokio::test]
async fn clocks_that_are_wrong_keep_nobody_out() {
    #[derive(Debug)]
    struct Clock(u64);
    impl TimeProvider for Clock {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
        }
    }
    let (host, client) = (somebody(), somebody());
    let now = 56 * YEAR;
    let day = 24 * 60 * 60;
    for (there, here) in [
        (now, now + day),
        (now + day, now),
        (now, now - 10 * YEAR),
        (now - 10 * YEAR, now),
        (0, 9_000 * YEAR),
    ] {
        let mut accepting = server_config(&host.key);
        accepting.time_provider = Arc::new(Clock(there));
        let mut connecting = client_config(Some(host.key.id()), Some(&client.key));
        connecting.time_provider = Arc::new(Clock(here));
        let acceptor = Acceptor(TlsAcceptor::from(Arc::new(accepting)));
        let (accepted, connected) = shake(&acceptor, &Connector(Arc::new(connecting))).await;
        assert_eq!(accepted.unwrap().1, Some(client.key.id()), "{there} and {here}");
        assert_eq!(connected.unwrap().1, host.key.id());
    }
}

/// Shows a certificate and signs by a key, whatever the other side has asked for.
#[derive(Debug)]
struct Liar {
    shown: Arc<CertifiedKey>,
}

#[derive(Debug)]
struct Stubborn(Arc<dyn SigningKey>);

impl SigningKey for Stubborn {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let all = [
            SignatureScheme::ED25519,
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::RSA_PSS_SHA256,
        ];
        self.0.choose_scheme(&all)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl Liar {
    fn new(certificates: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'static>) -> Arc<Self> {
        let key = rustls::crypto::ring::sign::any_supported_type(key).unwrap();
        Arc::new(Self { shown: Arc::new(CertifiedKey::new(certificates, Arc::new(Stubborn(key)))) })
    }

    fn connector(self: &Arc<Self>) -> Connector {
        let mut config = client_config(None, None);
        config.client_auth_cert_resolver = self.clone();
        Connector(Arc::new(config))
    }

    fn acceptor(self: &Arc<Self>) -> Acceptor {
        let mut config = server_config(&somebody().key);
        config.cert_resolver = self.clone();
        Acceptor(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesClientCert for Liar {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.clone())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Liar {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.clone())
    }
}

/// Lets a liar be a client and a host; neither may come of it.
async fn is_refused(liar: Arc<Liar>, what: &str) {
    let host = somebody();
    let (accepted, connected) = shake(&Acceptor::new(&host.key), &liar.connector()).await;
    let error = accepted.expect_err(what);
    assert!(is_handshake(&error), "{what}: {error:?}");
    assert!(connected.is_err(), "{what}: the client is told");
    for connector in [Connector::to_anybody(), Connector::to_node(host.key.id(), &host.key)] {
        let (_, connected) = shake(&liar.acceptor(), &connector).await;
        let error = connected.expect_err(what);
        assert!(is_handshake(&error) && WrongNode::behind(&error).is_none(), "{what}: {error:?}");
    }
}

#[tokio::test]
async fn another_nodes_certificate_is_of_no_use_without_its_key() {
    let (victim, thief) = (somebody(), somebody());
    is_refused(Liar::new(vec![certificate(&victim.key)], &private(&thief.key)), "a stolen certificate").await;
    // Also where the victim is the one who is expected.
    let liar = Liar::new(vec![certificate(&victim.key)], &private(&thief.key));
    let (_, connected) = shake(&liar.acceptor(), &Connector::to_node(victim.key.id(), &thief.key)).await;
    assert!(is_handshake(&connected.unwrap_err()));
}

#[tokio::test]
async fn a_chain_is_refused() {
    let (own, other) = (somebody(), somebody());
    let chain = vec![certificate(&own.key), certificate(&other.key)];
    is_refused(Liar::new(chain, &private(&own.key)), "a chain").await;
}

#[tokio::test]
async fn certificates_of_other_algorithms_are_refused() {
    for (algorithm, options) in [("rsa:2048", &[][..]), ("ec", &["-pkeyopt", "ec_paramgen_curve:P-256"][..])]
    {
        let made = somebody().data;
        let path = |name: &str| made.path().join(name).display().to_string();
        let openssl = |args: &[&str]| {
            let output = Command::new("openssl").args(args).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        let (pem, key, shown) = (path("pem"), path("key"), path("shown"));
        let request = ["req", "-x509", "-nodes", "-subj", "/CN=x", "-outform", "DER", "-keyout", &pem];
        openssl(&[&request[..], &["-out", &shown, "-newkey", algorithm], options].concat());
        openssl(&["pkcs8", "-topk8", "-nocrypt", "-outform", "DER", "-in", &pem, "-out", &key]);
        let key = PrivatePkcs8KeyDer::from(std::fs::read(key).unwrap()).into();
        let shown = std::fs::read(shown).unwrap().into();
        is_refused(Liar::new(vec![shown], &key), algorithm).await;
    }
}

/// Lets OpenSSL connect, and returns what came of it and what it said.
async fn openssl_says(options: &[&str]) -> (io::Result<Option<NodeId>>, String) {
    let host = somebody();
    let acceptor = Acceptor::new(&host.key);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", &address]).args(options);
    let client = client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let accepted = acceptor.accept(stream).await.map(|(_, node)| node);
    let output = tokio::task::spawn_blocking(|| client.wait_with_output().unwrap()).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (accepted, String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
async fn openssl_speaks_with_a_host_and_only_tls_1_3() {
    let (accepted, said) = openssl_says(&[]).await;
    assert_eq!(accepted.unwrap(), None);
    let said = said.to_lowercase();
    assert!(said.contains("tlsv1.3") && said.contains("peer signature type: ed25519"), "{said}");
    let (accepted, said) = openssl_says(&["-tls1_2"]).await;
    assert!(is_handshake(&accepted.unwrap_err()), "{said}");
    assert!(said.contains("protocol version"), "it is told why: {said}");
}

/// Sends bytes to a host and returns what it says of them.
async fn sent(bytes: &[u8]) -> io::Error {
    let (mut near, far) = duplex(1 << 20);
    near.write_all(bytes).await.unwrap();
    Acceptor::new(&somebody().key).accept(far).await.unwrap_err()
}

#[tokio::test]
async fn what_is_no_handshake_is_refused_at_once() {
    let oversized = [&[0x16, 3, 1, 0xff, 0xff][..], &[0; 0xffff]].concat();
    let endless = [&[0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &[0; 0x4000 - 4]].concat();
    for (what, bytes) in [
        ("text", &b"hello, is this a chat?\r\n\r\n"[..]),
        ("zeros", &[0; 4096]),
        ("a record that is too long", &oversized),
        ("a message that is too long", &endless),
        ("application data", &[0x17, 3, 3, 0, 5, 1, 2, 3, 4, 5]),
        ("an empty record", &[0x16, 3, 1, 0, 0]),
    ] {
        let error = tokio::time::timeout(HANDSHAKE / 2, sent(bytes)).await.expect(what);
        assert!(is_handshake(&error), "{what}: {error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_handshake_ends_in_time_on_either_side() {
    let began = tokio::time::Instant::now();
    for bytes in [&b""[..], &[0x16], &[0x16, 3, 1, 1, 0, 1, 0, 0, 0xfc, 3, 3]] {
        assert_eq!(sent_and_held(bytes).await.kind(), io::ErrorKind::TimedOut);
    }
    let (near, _held) = duplex(64 * 1024);
    let silent = Connector::to_anybody().connect(near).await.unwrap_err();
    assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
    assert!(began.elapsed() < 5 * HANDSHAKE);
}

async fn sent_and_held(bytes: &[u8]) -> io::Error {
    let (mut near, far) = duplex(64 * 1024);
    near.write_all(bytes).await.unwrap();
    let error = Acceptor::new(&somebody().key).accept(far).await.unwrap_err();
    drop(near);
    error
}

/// Passes on what a client and a host say to each other, and returns what the client said, and the host.
async fn recorded(host: &Somebody, client: &Somebody, secret: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = Acceptor::new(&host.key);
    let hosting = async {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut stream, _) = acceptor.accept(stream).await.unwrap();
        let mut heard = vec![0; secret.len()];
        stream.read_exact(&mut heard).await.unwrap();
        stream.write_all(&heard).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let (near, wire) = duplex(64 * 1024);
    let (said, answered) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let relaying = async {
        let far = TcpStream::connect(address).await.unwrap();
        let ((from_near, to_near), (from_far, to_far)) = (tokio::io::split(wire), tokio::io::split(far));
        tokio::join!(pass(from_near, to_far, &said), pass(from_far, to_near, &answered));
    };
    let asking = async {
        let (mut stream, _) = Connector::to_node(host.key.id(), &client.key).connect(near).await.unwrap();
        stream.write_all(secret).await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, secret);
        stream.shutdown().await.unwrap();
    };
    tokio::join!(hosting, relaying, asking);
    (said.into_inner().unwrap(), answered.into_inner().unwrap())
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, seen: &Mutex<Vec<u8>>) {
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        seen.lock().unwrap().extend_from_slice(&piece[..length]);
        if to.write_all(&piece[..length]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

#[tokio::test]
async fn who_listens_on_the_way_learns_nothing_and_can_replay_nothing() {
    let (host, client) = (somebody(), somebody());
    let secret = b"POST /v1/containers HTTP/1.1";
    let (said, answered) = recorded(&host, &client, secret).await;
    let both = [&said[..], &answered].concat();
    for hidden in [&secret[..], host.key.id().as_bytes(), client.key.id().as_bytes()] {
        assert!(!both.windows(hidden.len()).any(|window| window == hidden), "{hidden:?} is in the clear");
    }
    let (mut near, far) = duplex(1 << 20);
    near.write_all(&said).await.unwrap();
    let error = Acceptor::new(&host.key).accept(far).await.unwrap_err();
    assert!(is_handshake(&error), "{error:?}");
}
