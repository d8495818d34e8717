//! Finds Podman's service, or starts one.
//!
//! The sockets looked at, in order: the configured one (then no other); the user's and the system's own; one in the
//! plugin's folder. When none answers, `podman system service` is started on the last. It is told to end by itself
//! some seconds after its last request: a plugin that is killed leaves nothing behind for long, the next command
//! finds it still warm, and no two processes have to agree on who ends it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gx_core::plugin::*;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use crate::config::{Config, ServiceMode, too_long};
use crate::engine::Engine;
use crate::error::HINT_START;

/// How long a service may take to open its socket; on a slow, busy machine it was seen to take a second.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How often the socket of a service that is being started is tried.
const START_POLL: Duration = Duration::from_millis(5);
/// How much of what a failed service said goes into an error, in bytes.
const SAID_BYTES: usize = 1_000;

/// Why there is no service.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error("no podman service answers at {}", .0.display())]
    NoAnswer(PathBuf),
    #[error("no podman service answers, and {} is not there to start one", .0.display())]
    NotInstalled(PathBuf),
    #[error("the podman service ended as soon as it was started: {said}")]
    Ended { said: String },
    #[error("the podman service opened no socket within {} s: {said}", START_LIMIT.as_secs())]
    Slow { said: String },
    #[error("a podman service cannot be started on {}: its path is too long for a socket", .0.display())]
    LongPath(PathBuf),
    #[error("the podman service cannot be started: {0}")]
    Io(Arc<io::Error>),
}

impl From<io::Error> for ServiceError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

impl ServiceError {
    /// Returns what to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::NoAnswer(_) => HINT_START,
            Self::NotInstalled(_) => "install Podman, for example: apt-get install podman",
            Self::Ended { .. } | Self::Slow { .. } | Self::Io(_) => {
                "see what it says when you run: podman info"
            }
            Self::LongPath(_) => "use a data folder with a shorter path, or start podman.socket yourself",
        }
    }
}

impl From<ServiceError> for RuntimeError {
    fn from(error: ServiceError) -> Self {
        let hint = error.hint();
        Self::new(ErrorCode::Unavailable, error.to_string()).hint(hint)
    }
}

/// The way to a service, whichever it is.
#[derive(Debug)]
pub(crate) struct Service {
    config: Config,
    state_dir: PathBuf,
    current: Mutex<Option<Current>>,
}

#[derive(Debug)]
struct Current {
    socket: PathBuf,
    engine: Engine,
    asked: Instant,
}

impl Service {
    pub(crate) fn new(config: Config, state_dir: PathBuf) -> Self {
        Self { config, state_dir, current: Mutex::new(None) }
    }

    /// Returns a service that answers, starting one where that is asked for.
    pub(crate) async fn engine(&self) -> Result<Engine, ServiceError> {
        let mut current = self.current.lock().await;
        if let Some(known) = current.as_mut()
            && self.still_there(known).await
        {
            known.asked = Instant::now();
            return Ok(known.engine.clone());
        }
        *current = None;
        let socket = self.find_or_start().await?;
        let engine = Engine::at(&socket);
        *current = Some(Current { socket, engine: engine.clone(), asked: Instant::now() });
        Ok(engine)
    }

    /// Returns the socket of the service that was reached last.
    pub(crate) async fn socket(&self) -> Option<PathBuf> {
        self.current.lock().await.as_ref().map(|known| known.socket.clone())
    }

    /// Returns whether the plugin itself starts the service of this socket.
    pub(crate) fn is_own(&self, socket: &Path) -> bool {
        socket == self.own_socket()
    }

    /// Where a service of the plugin's own listens.
    pub(crate) fn own_socket(&self) -> PathBuf {
        own_socket(&self.state_dir)
    }

    /// A service of our own that was not asked for a while may be about to end. A ping, harmless to lose, starts its
    /// clock anew, so that a request which must not get lost does not meet it closing.
    async fn still_there(&self, known: &Current) -> bool {
        if !answers(&known.socket).await {
            return false;
        }
        let quiet = known.asked.elapsed() < Duration::from_secs(u64::from(self.config.service_idle_s)) / 2;
        quiet || !self.is_own(&known.socket) || known.engine.podman().ping().await.is_ok()
    }

    async fn find_or_start(&self) -> Result<PathBuf, ServiceError> {
        if self.config.service == ServiceMode::Always {
            return self.start().await;
        }
        let named = self.config.socket_path();
        let usual = usual_sockets();
        for socket in named.iter().chain(usual.iter().filter(|_| named.is_none())) {
            if answers(socket).await {
                return Ok(socket.clone());
            }
        }
        match named {
            Some(socket) => Err(ServiceError::NoAnswer(socket)),
            None if self.config.service == ServiceMode::Never => {
                Err(ServiceError::NoAnswer(usual[0].clone()))
            }
            None => self.start().await,
        }
    }

    /// Starts a service of our own, or finds it started. The lock makes that one, whoever wants it.
    async fn start(&self) -> Result<PathBuf, ServiceError> {
        let socket = self.own_socket();
        if answers(&socket).await {
            return Ok(socket);
        }
        if too_long(&socket) {
            return Err(ServiceError::LongPath(socket));
        }
        let path = self.state_dir.join("service.lock");
        let lock = tokio::task::spawn_blocking(move || {
            let file = File::options().create(true).append(true).open(path)?;
            file.lock()?;
            Ok::<_, io::Error>(file)
        });
        let _lock = lock.await.map_err(io::Error::other)??;
        if answers(&socket).await {
            return Ok(socket);
        }
        remove_if_there(&socket)?;
        let log = self.state_dir.join("service.log");
        let child = self.spawn(&socket, &log)?;
        let opened = opened(child, &socket, &log).await;
        opened.map(|()| socket)
    }

    /// It gets none of our streams, and a process group of its own, so that Ctrl-C for us is not for it.
    fn spawn(&self, socket: &Path, log: &Path) -> Result<Child, ServiceError> {
        let log = File::create(log)?;
        let mut command = Command::new(&self.config.program);
        command
            .args(["--log-level", "error", "system", "service", "--time"])
            .arg(self.config.service_idle_s.to_string())
            .arg(format!("unix://{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .current_dir("/")
            .process_group(0);
        command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ServiceError::NotInstalled(self.config.program.clone()),
            _ => error.into(),
        })
    }
}

/// Where a service of the plugin's own listens.
pub(crate) fn own_socket(state_dir: &Path) -> PathBuf {
    state_dir.join("podman.sock")
}

/// Waits until the socket of a child is open; then leaves the child alone but for reaping it.
async fn opened(mut child: Child, socket: &Path, log: &Path) -> Result<(), ServiceError> {
    let begun = Instant::now();
    let mut clock = tokio::time::interval(START_POLL);
    while !answers(socket).await {
        if child.try_wait()?.is_some() {
            return Err(ServiceError::Ended { said: last_words(log) });
        }
        if begun.elapsed() > START_LIMIT {
            child.start_kill()?;
            return Err(ServiceError::Slow { said: last_words(log) });
        }
        clock.tick().await;
    }
    tokio::spawn(async move { child.wait().await });
    Ok(())
}

fn last_words(log: &Path) -> String {
    let text =
        std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let from = text.len().saturating_sub(SAID_BYTES);
    let from = (from..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    match text[from..].trim() {
        "" => "it said nothing".to_owned(),
        said => said.to_owned(),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn answers(socket: &Path) -> bool {
    UnixStream::connect(socket).await.is_ok()
}

/// Returns where Podman's own units listen: the user's, then the system's. Podman asks the environment too.
fn usual_sockets() -> Vec<PathBuf> {
    let uid = rustix::process::getuid();
    let runtime_dir = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(format!("/run/user/{}", uid.as_raw())),
    };
    let system = PathBuf::from("/run/podman/podman.sock");
    if uid.is_root() { vec![system] } else { vec![runtime_dir.join("podman/podman.sock"), system] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(folder: &Path, config: Config) -> Service {
        Service::new(config, folder.to_path_buf())
    }

    #[tokio::test]
    async fn a_named_socket_without_a_service_is_an_error_with_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("none.sock");
        let config = Config { socket: Some(socket.display().to_string()), ..Config::default() };
        let error = RuntimeError::from(service(folder.path(), config).engine().await.unwrap_err());
        assert_eq!(error.code, ErrorCode::Unavailable);
        assert!(error.message.contains("none.sock"), "{error}");
        assert!(error.hint.unwrap().contains("systemctl start podman.socket"));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_told_apart_from_one_that_fails() {
        let folder = tempfile::tempdir().unwrap();
        let always = Config { service: ServiceMode::Always, ..Config::default() };
        let missing = Config { program: PathBuf::from("/nowhere/podman"), ..always.clone() };
        let error = service(folder.path(), missing).engine().await.unwrap_err();
        assert!(matches!(error, ServiceError::NotInstalled(_)), "{error}");
        let failing = Config { program: PathBuf::from("/bin/false"), ..always };
        let error = service(folder.path(), failing).engine().await.unwrap_err();
        assert!(matches!(error, ServiceError::Ended { .. }), "{error}");
    }
}
