//! The services of an image: started as the user beside the main process, and again when they end.
//!
//! What they print is dropped: the container's log is the main process's. With `GX_DEBUG` in the container's
//! environment it goes to the log.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gx_core::guest::{Service, Services};
use rustix::process::{Pid, Signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::account::Account;
use crate::launch::{Environment, Launch, Stance};
use crate::place::Place;
use crate::reaper::{End, Running};
use crate::ssh::Guest;
use crate::{say, shell};

/// A description longer than this is not read on.
const LIMIT: u64 = 64 << 10;
/// The pause before the first new start; each doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Who ran so long is well, and the pauses begin anew.
const WELL: Duration = Duration::from_secs(10);
/// How often a port is looked for.
const LOOK: Duration = Duration::from_millis(50);
/// How long preparing may take, and ending.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads what the image says; without the file, and with a wrong one, it has no services.
pub(crate) fn read(place: &Place) -> Services {
    let Ok(file) = std::fs::File::open(place.services()) else { return Services::default() };
    let mut text = String::new();
    let read = file.take(LIMIT).read_to_string(&mut text).map_err(|error| error.to_string());
    read.and_then(|_| toml::from_str(&text).map_err(|error| error.message().to_owned())).unwrap_or_else(
        |error| {
            say::line(format_args!("{}: {error}: no services", place.services().display()));
            Services::default()
        },
    )
}

/// Adds variables; those that are set already are the container's choice.
pub(crate) fn add(environment: &mut Environment, variables: &BTreeMap<String, String>) {
    for (name, value) in variables {
        if environment.get(name).is_none() {
            environment.set(name, value);
        }
    }
}

/// Runs the services as long as the guest runs. `renewed` changes with the desktop's password.
pub(crate) fn serve(guest: &Arc<Guest>, services: Services, renewed: &watch::Receiver<u64>) {
    for service in services.service {
        tokio::spawn(keep_up(guest.clone(), service, renewed.clone()));
    }
}

/// Why a run of a service is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Ended,
    Renewed,
}

async fn keep_up(guest: Arc<Guest>, service: Service, mut renewed: watch::Receiver<u64>) {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(port) = service.after_port {
            while !is_listened_on(port) {
                sleep(LOOK).await;
            }
        }
        renewed.mark_unchanged();
        let start = Instant::now();
        let over = run(&guest, &service, &mut renewed).await;
        if start.elapsed() >= WELL || over == Ok(Over::Renewed) {
            pause = FIRST_PAUSE;
        }
        if let Err(why) = &over {
            say::line(format_args!("service {:?}: {why}", service.name));
        }
        if over != Ok(Over::Renewed) {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Prepares, starts, and waits for the end.
async fn run(guest: &Guest, service: &Service, renewed: &mut watch::Receiver<u64>) -> Result<Over, String> {
    let account = guest.own_account().map_err(|who| who.to_string())?;
    if !service.prepare.is_empty() {
        let prepared = start(guest, service, &service.prepare, &account)?;
        let pid = prepared.pid;
        match timeout(PATIENCE, prepared.ended).await {
            Ok(Ok(End::Code(0))) => {}
            Ok(ended) => {
                return Err(format!("preparing it failed with code {}", ended.map_or(255, End::code)));
            }
            Err(_) => {
                signal(pid, Signal::KILL);
                return Err("preparing it took too long".to_owned());
            }
        }
    }
    let mut running = start(guest, service, &service.command, &account)?;
    let changed = async {
        let gone = renewed.changed().await.is_err();
        if gone || service.prepare.is_empty() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = &mut running.ended => return Ok(Over::Ended),
        () = changed => {}
    }
    signal(running.pid, Signal::TERM);
    if timeout(PATIENCE, &mut running.ended).await.is_err() {
        signal(running.pid, Signal::KILL);
        let _ = running.ended.await;
    }
    Ok(Over::Renewed)
}

fn start(guest: &Guest, service: &Service, words: &[String], account: &Account) -> Result<Running, String> {
    let mut environment = guest.environment.clone();
    let own_home = guest.has_own_home(account);
    shell::log_in(&mut environment, account, Some(&*account.home).filter(|_| own_home));
    for (name, value) in &service.env {
        environment.set(name, value);
    }
    let launch = Launch {
        argv: words.iter().map(OsString::from).collect(),
        arg0: None,
        environment: &environment,
        folder: Some(account.home.clone()),
        account,
        stance: Stance::Session,
    };
    let mut command = launch.command().map_err(|trouble| trouble.to_string())?;
    let output = || if environment.get("GX_DEBUG").is_some() { own_errors() } else { Stdio::null() };
    command.stdin(Stdio::null()).stdout(output()).stderr(output());
    guest.reaper.spawn(&mut command).map_err(|error| launch.trouble(error).to_string())
}

fn own_errors() -> Stdio {
    rustix::io::dup(rustix::stdio::stderr()).map_or_else(|_| Stdio::null(), Stdio::from)
}

fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

/// Looks whether somebody listens. Connecting would be a visit, which a desktop may count.
fn is_listened_on(port: u16) -> bool {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    tables.iter().any(|table| std::fs::read_to_string(table).is_ok_and(|text| lists(&text, port)))
}

/// Reads proc_pid_net(5): local address with the port in hexadecimal digits, and `0A` for listening.
fn lists(table: &str, port: u16) -> bool {
    let end = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let local = words.next().unwrap_or_default();
        local.ends_with(&end) && words.nth(1) == Some("0A")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_port_is_seen_and_a_connected_one_is_not() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n   \
            0: 0100007F:170C 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1\n   \
            1: 0100007F:170D 0100007F:1234 01 00000000:00000000 00:00000000 00000000 0 0 2\n";
        assert!(lists(table, 5900));
        assert!(!lists(table, 5901));
        assert!(!lists(table, 0x1234));
        assert!(!lists("", 5900));
    }

    #[test]
    fn the_containers_own_variables_stay() {
        let mut environment = Environment::default();
        environment.set("DISPLAY", ":7");
        add(&mut environment, &[("DISPLAY", ":0"), ("LANG", "C")].map(|(n, v)| (n.into(), v.into())).into());
        assert_eq!(environment.get("DISPLAY"), Some(":7".as_ref()));
        assert_eq!(environment.get("LANG"), Some("C".as_ref()));
    }
}
