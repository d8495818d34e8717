//! The whole road: a client, a socket, the routes, the node, a runtime, and back.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use gx_client::{Client, ClientError};
use gx_core::api::{BuildQuery, CreateRequest, PullBody};
use gx_core::runtime::{BuildRequest, ExecSpec, LogOptions, PullRequest, RemoveOptions, Stats, StopOptions};
use gx_core::stream::{Input, InputChunk, Kind, Output, input, pipe};
use gx_core::{ContainerState, ErrorCode, RuntimeError};
use gx_identity::tls::{ClientStream, Connector};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Host, argv, named, sleeper, until};
use crate::error::ServerError;
use crate::{Transport, run};

/// A host that serves.
pub(super) struct Served {
    pub(super) host: Host,
    pub(super) client: Client,
    pub(super) address: SocketAddr,
    pub(super) stop: oneshot::Sender<()>,
    running: JoinHandle<crate::Result<()>>,
}

impl Served {
    pub(super) async fn new() -> Self {
        Self::of(Host::new().await).await
    }

    pub(super) async fn of(host: Host) -> Self {
        Self::listening(host, TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// Starts another host where one was.
    pub(super) async fn at(address: SocketAddr) -> Self {
        Self::listening(Host::new().await, TcpListener::bind(address).await.unwrap())
    }

    fn listening(host: Host, listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(run(listener, host.node.clone(), Transport::Tls, async move {
            let _ = stopped.await;
        }));
        let client = Client::to_node(&address.into(), host.node.id(), host.node.key());
        Self { host, client, address, stop, running }
    }

    /// Ends it in good order.
    pub(super) async fn stop(self) {
        drop(self.stop_keeping().await);
    }

    /// Ends it in good order, and returns the host, whose data folder is still there.
    pub(super) async fn stop_keeping(self) -> Host {
        self.stop.send(()).unwrap();
        self.running.await.unwrap().unwrap();
        self.host
    }

    /// Connects as the host's owner, for what the client would never send.
    pub(super) async fn connect(&self) -> ClientStream<TcpStream> {
        let connector = Connector::to_node(self.host.node.id(), self.host.node.key());
        connector.connect(TcpStream::connect(self.address).await.unwrap()).await.unwrap().0
    }

    pub(super) async fn create(
        &self,
        request: CreateRequest,
    ) -> gx_client::Result<gx_core::api::ContainerInfo> {
        self.client.create(request, None, Output::null()).await
    }
}

/// Has a command run on a host, ends the host, and returns what its audit log has of that.
pub(super) async fn logged_session() -> Vec<gx_core::audit::AuditEntry> {
    let served = Served::new().await;
    served.create(named("web")).await.unwrap();
    let (_, input) = input();
    served.client.exec("web", exec_spec(&["true"]), input, Output::null()).await.unwrap();
    let path = served.host.node.data().join("audit.log");
    served.stop.send(()).unwrap();
    served.running.await.unwrap().unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let all = text.lines().map(|line| serde_json::from_str::<gx_core::audit::AuditEntry>(line).unwrap());
    all.filter(|entry| entry.verb.starts_with("GET")).collect()
}

fn exec_spec(words: &[&str]) -> ExecSpec {
    ExecSpec { argv: argv(words), ..ExecSpec::default() }
}

async fn collect(mut items: gx_core::stream::Items) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(item) = items.next().await {
        match item.kind {
            Kind::Stdout => out.extend_from_slice(&item.bytes),
            Kind::Stderr => err.extend_from_slice(&item.bytes),
            Kind::Event | Kind::Progress => {}
        }
    }
    (out, err)
}

#[tokio::test]
async fn a_container_lives_on_a_host() {
    let served = Served::new().await;
    let client = &served.client;
    let made = served.create(named("web")).await.unwrap();
    assert_eq!(client.list().await.unwrap().containers.len(), 1);
    assert_eq!(client.show(made.id.short()).await.unwrap().id, made.id);
    let stopped =
        client.stop("web", StopOptions { signal: Some("SIGKILL".to_owned()), grace_ms: None }).await.unwrap();
    assert_eq!(stopped.state, ContainerState::Exited);
    assert_eq!(client.wait("web").await.unwrap().code, 137);
    assert_eq!(client.start("web").await.unwrap().state, ContainerState::Running);
    let error = client.remove("web", RemoveOptions::default()).await.unwrap_err();
    let ClientError::Host(error) = error else { panic!("{error:?}") };
    assert_eq!(error.code, ErrorCode::FailedPrecondition);
    assert_eq!(client.remove("web", RemoveOptions { force: true }).await.unwrap(), made.id);
    let ClientError::Host(error) = client.show("web").await.unwrap_err() else { panic!() };
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::NotFound, "no container web"));
    assert_eq!(client.specs().await.unwrap().node_id, Some(served.host.node.id()));
    assert!(client.runtimes().await.unwrap()[0].default);
}

#[tokio::test]
async fn images_come_with_progress() {
    let served = Served::new().await;
    let (out, items) = pipe(0);
    let body = PullBody {
        runtime: None,
        pull: PullRequest { image: "app".parse().unwrap(), platform: None, auth: None },
    };
    let collected = tokio::spawn(async move {
        let mut items = items;
        let mut steps = 0;
        while let Some(item) = items.next().await {
            steps += usize::from(item.kind == Kind::Progress);
        }
        steps
    });
    let pulled = served.client.pull(body, out).await.unwrap();
    assert_eq!(pulled.image.tags, ["app:latest"]);
    assert_eq!(collected.await.unwrap(), 4);
    assert_eq!(served.client.images(None).await.unwrap().images.len(), 2);

    let mut tar = Tar::default();
    tar.file("Containerfile", b"FROM gx-busybox\n");
    let request = BuildRequest {
        tag: "built".parse().unwrap(),
        containerfile: None,
        args: [("A".to_owned(), "b & c".to_owned())].into(),
        no_cache: true,
        no_network: false,
    };
    let query = BuildQuery { runtime: Some("mock".parse().unwrap()), build: request };
    let built = served.client.build(query, tar.input(), Output::null()).await.unwrap();
    assert_eq!(built.image.tags, ["built:latest"]);
}

#[tokio::test]
async fn a_command_gets_input_and_gives_output_and_its_exit() {
    let served = Served::new().await;
    served.create(named("web")).await.unwrap();
    let (out, items) = pipe(0);
    let (sender, input) = input();
    let spec = ExecSpec { stdin: true, ..exec_spec(&["sh", "-c", "cat; exit 43"]) };
    let exec = tokio::spawn({
        let client = served.client.clone();
        async move { client.exec("web", spec, input, out).await }
    });
    sender.send(InputChunk::Data(Bytes::from_static(b"hello\n"))).await.unwrap();
    drop(sender);
    let (written, _) = collect(items).await;
    assert_eq!(exec.await.unwrap().unwrap().code, 43);
    assert_eq!(String::from_utf8_lossy(&written), "hello\n");

    let (out, items) = pipe(0);
    let spec = exec_spec(&["sh", "-c", "yes | head -c 3000000"]);
    let (exit, (written, _)) =
        tokio::join!(served.client.exec("web", spec, Input::empty(), out), collect(items));
    assert_eq!((exit.unwrap().code, written.len()), (0, 3_000_000));

    let error =
        served.client.exec("none", exec_spec(&["true"]), Input::empty(), Output::null()).await.unwrap_err();
    assert!(matches!(error, ClientError::Host(error) if error.code == ErrorCode::NotFound));
    let error = served.client.exec("web", exec_spec(&[]), Input::empty(), Output::null()).await.unwrap_err();
    assert!(matches!(error, ClientError::Host(error) if error.field.as_deref() == Some("argv")));
}

#[tokio::test]
async fn a_terminal_changes_its_size() {
    let served = Served::new().await;
    served.create(named("web")).await.unwrap();
    let (sender, input) = input();
    let (out, items) = pipe(0);
    let spec = ExecSpec {
        tty: true,
        stdin: true,
        size: Some((80, 24)),
        ..exec_spec(&["sh", "-c", "cat; stty size"])
    };
    sender.send(InputChunk::Resize { columns: 132, rows: 43 }).await.unwrap();
    drop(sender);
    let (exit, (written, _)) = tokio::join!(served.client.exec("web", spec, input, out), collect(items));
    assert_eq!(exit.unwrap().code, 0);
    assert_eq!(String::from_utf8_lossy(&written), "43 132\r\n");
}

#[tokio::test]
async fn a_command_ends_with_its_client() {
    let served = Served::new().await;
    served.create(named("web")).await.unwrap();
    let exec = tokio::spawn({
        let client = served.client.clone();
        let (_sender, input) = input();
        async move { client.exec("web", exec_spec(&["sleep", "1000"]), input, Output::null()).await }
    });
    until("it runs", async || served.host.probe().under_way("exec") == 1).await;
    exec.abort();
    until("it has ended", async || served.host.probe().under_way("exec") == 0).await;
}

#[tokio::test]
async fn a_command_that_reads_nothing_ends_with_its_client_too() {
    let served = Served::new().await;
    served.create(named("web")).await.unwrap();
    served.host.probe().close("exec"); // it takes no input
    let (sender, input) = input();
    let exec = tokio::spawn({
        let client = served.client.clone();
        let spec = ExecSpec { stdin: true, ..exec_spec(&["sleep", "1000"]) };
        async move { client.exec("web", spec, input, Output::null()).await }
    });
    until("it runs", async || served.host.probe().under_way("exec") == 1).await;
    // More than fits into everything on the way, so that the host's reading waits.
    let piece = Bytes::from(vec![0; 1 << 20]);
    let full = async {
        loop {
            let sent = sender.send(InputChunk::Data(piece.clone()));
            if tokio::time::timeout(Duration::from_millis(300), sent).await.is_err() {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), full).await.unwrap();
    exec.abort();
    until("it has ended", async || served.host.probe().under_way("exec") == 0).await;
}

#[tokio::test]
async fn files_go_in_and_come_out() {
    let served = Served::new().await;
    served.create(named("web")).await.unwrap();
    let mut tar = Tar::default();
    let big = vec![7; 2_000_000];
    tar.file("big", &big);
    served.client.copy_in("web", "/tmp", tar.input()).await.unwrap();
    let (out, items) = pipe(0);
    let (copied, (archive, _)) = tokio::join!(served.client.copy_out("web", "/tmp/big", out), collect(items));
    copied.unwrap();
    assert!(archive.windows(1000).any(|window| window == &big[..1000]));
    assert!(archive.len() > big.len());
    // The host answers while the archive is still on its way.
    let error = served.client.copy_in("web", "/none", tar.input()).await.unwrap_err();
    assert!(matches!(&error, ClientError::Host(error) if error.code == ErrorCode::NotFound), "{error:?}");
}

#[tokio::test]
async fn half_an_archive_is_not_unpacked() {
    let served = Served::new().await;
    served.create(named("web")).await.unwrap();
    let mut stream = served.connect().await;
    let head = "PUT /v1/containers/web/archive?path=/tmp HTTP/1.1\r\nhost: localhost\r\n\
                content-type: application/x-tar\r\ncontent-length: 10000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[0; 512]).await.unwrap();
    until("it is being unpacked", async || served.host.probe().under_way("copy_in") == 1).await;
    drop(stream);
    until("it is not any more", async || served.host.probe().under_way("copy_in") == 0).await;
}

#[tokio::test]
async fn following_ends_with_the_client() {
    let served = Served::new().await;
    served.create(named("web")).await.unwrap();
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let (out, items) = pipe(0);
    let logs = tokio::spawn({
        let client = served.client.clone();
        let follow = follow.clone();
        async move { client.logs("web", follow, out).await }
    });
    until("it is followed", async || served.host.probe().under_way("logs") == 1).await;
    drop(items); // nobody reads any more: the call ends well
    logs.await.unwrap().unwrap();
    until("it is not any more", async || served.host.probe().under_way("logs") == 0).await;

    let logs = tokio::spawn({
        let client = served.client.clone();
        async move { client.logs("web", follow, Output::null()).await }
    });
    until("it is followed", async || served.host.probe().under_way("logs") == 1).await;
    logs.abort();
    until("it is not any more", async || served.host.probe().under_way("logs") == 0).await;
}

/// What may be on its way: windows and buffers of the program, and the kernel's for a socket on loopback.
const ON_THE_WAY: usize = 16 << 20;

/// Waits until a flood stands still because nobody reads it, and returns how much of it there is.
async fn standstill(served: &Served) -> usize {
    let (mut last, mut still) = (0, 0);
    until("the flood stands still", async || {
        let written = served.host.probe().written();
        still = if written == last && written > 0 { still + 1 } else { 0 };
        last = written;
        still == 40
    })
    .await;
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_makes_the_host_wait() {
    for method in ["logs", "exec"] {
        let served = Served::new().await;
        served.create(named("web")).await.unwrap();
        served.host.probe().flood();
        let (out, mut items) = pipe(0);
        let call = tokio::spawn({
            let client = served.client.clone();
            async move {
                match method {
                    "logs" => client.logs("web", LogOptions::default(), out).await,
                    _ => client.exec("web", exec_spec(&["yes"]), Input::empty(), out).await.map(drop),
                }
            }
        });
        let ahead = standstill(&served).await;
        assert!(ahead < ON_THE_WAY, "{method}: {ahead} bytes are on their way to nobody");
        let mut read = 0;
        while read < 3 * ON_THE_WAY {
            read += items.next().await.unwrap().bytes.len();
        }
        assert!(served.host.probe().written() < read + ON_THE_WAY);
        call.abort();
        until("it has ended", async || served.host.probe().under_way(method) == 0).await;
    }
}

#[tokio::test]
async fn statistics_come_one_after_another() {
    let served = Served::new().await;
    served.create(named("web")).await.unwrap();
    let (out, mut items) = pipe(0);
    let stats = tokio::spawn({
        let client = served.client.clone();
        async move { client.stats("web", 100, out).await }
    });
    for _ in 0..2 {
        let item = items.next().await.unwrap();
        assert_eq!(serde_json::from_slice::<Stats>(&item.bytes).unwrap().pids, 1);
    }
    drop(items);
    stats.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_create_nobody_waits_for_is_undone() {
    let served = Served::new().await;
    let probe = served.host.probe().clone();
    probe.close("start");
    let mut stream = served.connect().await;
    let body = serde_json::to_string(&sleeper()).unwrap();
    let head = format!(
        "POST /v1/containers HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    until("it is being started", async || probe.under_way("start") == 1).await;
    drop(stream);
    until("nothing is left", async || probe.all().await.is_empty()).await;
    probe.open("start");
}

#[tokio::test]
async fn a_create_whose_connection_breaks_is_sent_again_and_made_once() {
    let served = Served::new().await;
    // A relay that cuts the first connection once the request has passed.
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relayed = relay.local_addr().unwrap().into();
    let client = Client::to_node(&relayed, served.host.node.id(), served.host.node.key());
    let target = served.address;
    let probe = served.host.probe().clone();
    let cutting = async move {
        let (mut near, _) = relay.accept().await.unwrap();
        let mut far = TcpStream::connect(target).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            () = until("it is made", async || probe.calls("start") == 1) => {}
        }
        drop((near, far));
        let (mut near, _) = relay.accept().await.unwrap();
        let mut far = TcpStream::connect(target).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    };
    let create = client.create(named("web"), None, Output::null());
    let made = tokio::select! {
        made = create => made.unwrap(),
        () = cutting => panic!("the second connection ended before the answer"),
    };
    assert_eq!(made.name, "web");
    until("there is one", async || served.host.probe().all().await.len() == 1).await;
}

#[tokio::test]
async fn the_end_waits_for_work_and_not_for_followers() {
    let served = Served::new().await;
    served.create(named("web")).await.unwrap();
    let follower = tokio::spawn({
        let client = served.client.clone();
        let follow = LogOptions { follow: true, ..LogOptions::default() };
        async move { client.logs("web", follow, Output::null()).await }
    });
    until("it is followed", async || served.host.probe().under_way("logs") == 1).await;
    served.host.probe().close("start");
    let creating = tokio::spawn({
        let client = served.client.clone();
        async move { client.create(named("late"), None, Output::null()).await }
    });
    until("it is being started", async || served.host.probe().under_way("start") == 1).await;
    served.stop.send(()).unwrap();
    let ended = follower.await.unwrap().unwrap_err();
    assert!(matches!(&ended, ClientError::Host(error) if error.code == ErrorCode::Unavailable), "{ended:?}");
    served.host.probe().open("start");
    assert_eq!(creating.await.unwrap().unwrap().name, "late");
    served.running.await.unwrap().unwrap();
    let gone = served.client.list().await.unwrap_err();
    assert!(matches!(gone, ClientError::Unreachable { .. }), "{gone:?}");
}

#[tokio::test]
async fn a_folder_has_one_server_and_without_tls_nobody_listens_to_the_world() {
    let served = Served::new().await;
    until("it serves", async || served.client.specs().await.is_ok()).await;
    let node = served.host.node.clone();
    let second = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = run(second, node.clone(), Transport::Tls, std::future::pending()).await.unwrap_err();
    assert!(matches!(&error, ServerError::Locked { .. }), "{error:?}");
    let world = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let error = run(world, node, Transport::Plain, std::future::pending()).await.unwrap_err();
    assert!(matches!(&error, ServerError::NotLoopback { .. }), "{error:?}");
}

#[tokio::test]
async fn errors_of_the_engine_come_with_their_hint() {
    let served = Served::new().await;
    served
        .host
        .probe()
        .fail("start", RuntimeError::new(ErrorCode::Unavailable, "no engine").hint("start it"));
    let ClientError::Host(error) = served.create(sleeper()).await.unwrap_err() else { panic!() };
    assert_eq!((error.message.as_str(), error.hint.as_deref()), ("mock: no engine", Some("start it")));
}

#[tokio::test]
async fn what_is_no_http_is_turned_away() {
    let served = Served::new().await;
    let mut stream = served.connect().await;
    stream.write_all(b"\x16\x03\x01\x02\x00 what is this\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 400"), "{answer:?}");
}

/// A tar archive (POSIX ustar), just enough of it.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn file(&mut self, name: &str, content: &[u8]) {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        header[136..148].copy_from_slice(b"00000000000\0");
        header[148..156].copy_from_slice(b"        ");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    fn input(&self) -> Input {
        let mut bytes = self.0.clone();
        bytes.extend_from_slice(&[0; 1024]);
        let (sender, input) = input();
        tokio::spawn(async move { sender.send(InputChunk::Data(bytes.into())).await });
        input
    }
}
