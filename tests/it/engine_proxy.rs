//! A road to an engine that can be cut and held: for faults that a real engine cannot be made to have on demand.
//!
//! Everything else that passes is the real engine's.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

/// A socket that leads to an engine's socket.
pub(crate) struct EngineProxy {
    socket: PathBuf,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Default)]
struct Now {
    /// Both ends of each connection, by its number.
    open: BTreeMap<u64, [UnixStream; 2]>,
    next: u64,
    connections: usize,
    held: Option<String>,
    /// What answers say instead of something, of the same length.
    told: Option<(String, String)>,
    /// How often they said so.
    retold: usize,
    holding: usize,
    closed: bool,
}

impl EngineProxy {
    /// Listens at `socket` and leads to `engine`.
    pub(crate) fn start(socket: PathBuf, engine: &Path) -> Self {
        let state = Arc::new(State::default());
        let proxy = Self { socket, state };
        proxy.listen(engine.to_owned());
        proxy
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends all connections and takes the socket away, as when the engine is stopped.
    pub(crate) fn cut(&self) {
        let mut now = self.state.now.lock().expect("no thread panicked");
        let _ = std::fs::remove_file(&self.socket);
        for stream in std::mem::take(&mut now.open).into_values().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Brings the engine back.
    pub(crate) fn restore(&self, engine: &Path) {
        self.listen(engine.to_owned());
    }

    /// Holds back every request whose bytes contain `pattern` until [`release`](Self::release).
    pub(crate) fn hold(&self, pattern: &str) {
        self.state.now.lock().expect("no thread panicked").held = Some(pattern.to_owned());
    }

    /// Has every answer say `instead` where the engine says `what`; both have the same length.
    pub(crate) fn tell(&self, what: &str, instead: &str) {
        assert_eq!(what.len(), instead.len(), "the answer's length is told before it");
        let told = Some((what.to_owned(), instead.to_owned()));
        self.state.now.lock().expect("no thread panicked").told = told;
    }

    /// Returns how often an answer said something else than the engine.
    pub(crate) fn retold(&self) -> usize {
        self.state.now.lock().expect("no thread panicked").retold
    }

    /// Waits until a request is held back; panics after a minute.
    pub(crate) fn wait_until_holding(&self) {
        let now = self.state.now.lock().expect("no thread panicked");
        let minute = std::time::Duration::from_secs(60);
        let waited = self.state.changed.wait_timeout_while(now, minute, |now| now.holding == 0);
        assert!(!waited.expect("no thread panicked").1.timed_out(), "no such request within a minute");
    }

    /// Returns how many connections are open now.
    pub(crate) fn open(&self) -> usize {
        self.state.now.lock().expect("no thread panicked").connections
    }

    /// Lets everything through again.
    pub(crate) fn release(&self) {
        self.state.now.lock().expect("no thread panicked").held = None;
        self.state.changed.notify_all();
    }

    fn listen(&self, engine: PathBuf) {
        let listener = UnixListener::bind(&self.socket).expect("a socket can be made");
        let state = self.state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { break };
                if state.now.lock().expect("no thread panicked").closed {
                    break;
                }
                join(&state, client, &engine);
            }
        });
    }
}

impl Drop for EngineProxy {
    fn drop(&mut self) {
        self.state.now.lock().expect("no thread panicked").closed = true;
        self.release();
        let _ = UnixStream::connect(&self.socket);
        self.cut();
    }
}

fn join(state: &Arc<State>, client: UnixStream, engine: &Path) {
    let Ok(server) = UnixStream::connect(engine) else { return };
    let copy = |stream: &UnixStream| stream.try_clone().expect("a socket can be cloned");
    let number = {
        let mut now = state.now.lock().expect("no thread panicked");
        now.next += 1;
        now.connections += 1;
        let number = now.next;
        now.open.insert(number, [copy(&client), copy(&server)]);
        number
    };
    let (to, from, state) = (copy(&server), copy(&client), state.clone());
    std::thread::spawn(move || {
        let known = state.clone();
        let back = std::thread::spawn(move || pump(server, client, |bytes| retell(&known, bytes)));
        pump(from, to, |bytes| wait_while_held(&state, bytes));
        state.now.lock().expect("no thread panicked").connections -= 1;
        // Its copies would keep the connection open, and there may be thousands.
        let _ = back.join();
        state.now.lock().expect("no thread panicked").open.remove(&number);
    });
}

fn pump(mut from: UnixStream, mut to: UnixStream, on_its_way: impl Fn(&mut [u8])) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        on_its_way(&mut buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn retell(state: &State, bytes: &mut [u8]) {
    let Some((what, instead)) = state.now.lock().expect("no thread panicked").told.clone() else { return };
    for at in 0..bytes.len() {
        if bytes[at..].starts_with(what.as_bytes()) {
            bytes[at..at + instead.len()].copy_from_slice(instead.as_bytes());
            state.now.lock().expect("no thread panicked").retold += 1;
        }
    }
}

fn wait_while_held(state: &State, bytes: &mut [u8]) {
    let text = String::from_utf8_lossy(bytes);
    let is_held = |now: &Now| now.held.as_deref().is_some_and(|pattern| text.contains(pattern));
    let mut now = state.now.lock().expect("no thread panicked");
    if !is_held(&now) {
        return;
    }
    now.holding += 1;
    state.changed.notify_all();
    while is_held(&now) {
        now = state.changed.wait(now).expect("no thread panicked");
    }
    now.holding -= 1;
}
