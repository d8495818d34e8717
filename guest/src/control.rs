//! The words `apply` and `status`: a socket between them and the guest that runs, for root alone.
//!
//! A request is a line of JSON, and so is its answer. Where no socket can be made in the guest's folder (a read-only
//! root), it has a name in the container's network instead, and both ends look who the other is.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener, UnixStream as StdStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gx_core::guest::{Credentials, Status};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::place::Place;
use crate::say;
use crate::ssh::Guest;

/// A line longer than this is refused.
const LIMIT: u64 = 1 << 20;
/// Whoever asks must have asked by then, and have his answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize)]
enum Request {
    Apply(Credentials),
    Status,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Applied,
    Status(Status),
    Failed(String),
}

/// Answers requests as long as the guest runs.
pub(crate) fn serve(guest: &Arc<Guest>) {
    let listener = match listen(&guest.place).and_then(UnixListener::from_std) {
        Ok(listener) => listener,
        Err(error) => return say::line(format_args!("nobody can change the passwords: {error}")),
    };
    let guest = guest.clone();
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) if is_root(stream.peer_cred().map(|who| who.uid())) => {
                    let guest = guest.clone();
                    tokio::spawn(async move {
                        let _ = tokio::time::timeout(PATIENCE, answer(stream, &guest)).await;
                    });
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
}

fn listen(place: &Place) -> io::Result<StdListener> {
    let path = place.socket();
    let _ = std::fs::remove_file(&path);
    let listener = StdListener::bind(&path).and_then(|listener| {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
        Ok(listener)
    });
    let listener = match listener {
        Ok(listener) => listener,
        Err(_) => StdListener::bind_addr(&unwritten()?)?,
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The name where no file can be made.
fn unwritten() -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name("gx-guest")
}

/// Root may ask; in tests also who runs the guest.
fn is_root(uid: io::Result<u32>) -> bool {
    uid.is_ok_and(|uid| uid == 0 || uid == rustix::process::geteuid().as_raw())
}

async fn answer(mut stream: UnixStream, guest: &Guest) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    tokio::io::BufReader::new(read.take(LIMIT)).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        Ok(Request::Apply(credentials)) => match guest.apply(credentials) {
            Ok(()) => Answer::Applied,
            Err(error) => Answer::Failed(error.to_string()),
        },
        Ok(Request::Status) => Answer::Status(guest.sessions().status(Instant::now(), guest.is_changed())),
        Err(_) => Answer::Failed("not a request".to_owned()),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    write.write_all(&text).await
}

/// `apply`: hands the credentials on standard input to the guest that runs.
pub(crate) fn apply(place: &Place) -> ExitCode {
    let mut text = String::new();
    let read = io::stdin().take(LIMIT).read_to_string(&mut text);
    let credentials = read.ok().and_then(|_| serde_json::from_str::<Credentials>(&text).ok());
    let Some(credentials) = credentials else {
        say::line("standard input holds no credentials");
        return ExitCode::from(2);
    };
    match ask(place, &Request::Apply(credentials)) {
        Ok(Answer::Applied) => ExitCode::SUCCESS,
        other => failed(other),
    }
}

/// `status`: prints what the guest that runs says.
pub(crate) fn status(place: &Place) -> ExitCode {
    match ask(place, &Request::Status) {
        Ok(Answer::Status(status)) => {
            let text = serde_json::to_string(&status).unwrap_or_default();
            match writeln!(io::stdout(), "{text}") {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        other => failed(other),
    }
}

fn failed(answer: io::Result<Answer>) -> ExitCode {
    match answer {
        Ok(Answer::Failed(text)) => say::line(text),
        Ok(Answer::Applied | Answer::Status(_)) => say::line("the guest answered something else"),
        Err(error) => say::line(format_args!("no guest answers: {error}")),
    }
    ExitCode::FAILURE
}

fn ask(place: &Place, request: &Request) -> io::Result<Answer> {
    let mut stream = match StdStream::connect(place.socket()) {
        Ok(stream) => stream,
        Err(error) => match StdStream::connect_addr(&unwritten()?) {
            Ok(stream) => stream,
            Err(_) => return Err(error),
        },
    };
    let other = rustix::net::sockopt::socket_peercred(&stream).map(|who| who.uid.as_raw());
    if !is_root(other.map_err(io::Error::from)) {
        return Err(io::Error::other("somebody else answers in its place"));
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut line = String::new();
    BufReader::new(stream.take(LIMIT)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
