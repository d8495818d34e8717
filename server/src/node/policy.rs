//! What a host lends: a request is measured against the configured limits and the machine. Pure.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;

use gx_core::api::CreateRequest;
use gx_core::config::LimitConfig;
use gx_core::ssh::PublicKey;
use gx_core::units::{Size, Span};
use gx_core::{Gpus, Resources, Security};

use crate::error::{Result, ServerError};

/// What the machine has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    pub(crate) milli_cpus: u32,
    pub(crate) memory_bytes: u64,
}

/// What a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) resources: Resources,
    /// How long the lease is; `None` is without end.
    pub(crate) ttl: Option<Duration>,
}

/// The longest name: the engine's has `gx-` in front of it.
const NAME_MAX: usize = 60;

/// The most public keys of one container.
const KEYS_MAX: usize = 64;

/// The longest lease there can be, and the longest extension of one, in seconds: a hundred years, as a
/// [`Span`] has it.
pub(super) const LEASE_MAX_S: u64 = 100 * 366 * 86_400;

/// What the processes of anybody's container may do at most: what ordinary images need to install and serve, and
/// nothing that touches the machine (capabilities(7)).
const CAPABILITIES: [&str; 11] = [
    // Without it OpenSSH's server ends every login: it may only add to the kernel's audit log.
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Returns what the processes in a container may do.
pub(crate) fn security(request: &CreateRequest) -> Security {
    Security {
        no_new_privileges: true,
        capabilities: Some(CAPABILITIES.map(str::to_owned).to_vec()),
        read_only_root: request.read_only,
    }
}

/// Checks what is wrong with a request on any host.
///
/// # Errors
/// [`ServerError::Invalid`].
pub(crate) fn check(request: &CreateRequest) -> Result<()> {
    if let Some(name) = &request.name
        && name.as_str().len() > NAME_MAX
    {
        let length = name.as_str().len();
        return Err(ServerError::invalid(
            "name",
            format!("a name of {length} characters is over {NAME_MAX}"),
        ));
    }
    if let Some(label) = request.labels.keys().find(|label| label.starts_with("gx.") || label.is_empty()) {
        return Err(ServerError::invalid("labels", format!("the label {label:?} is gx's own")));
    }
    if let Some(name) = request.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return Err(ServerError::invalid("env", format!("{name:?} is not the name of a variable")));
    }
    if request.milli_cpus == Some(0) {
        return Err(ServerError::invalid("milli_cpus", "a container needs more than no CPU"));
    }
    if request.memory_bytes == Some(0) {
        return Err(ServerError::invalid("memory_bytes", "a container needs more than no memory"));
    }
    if let Gpus::Ids(ids) = &request.gpus
        && ids.iter().collect::<BTreeSet<_>>().len() < ids.len()
    {
        return Err(ServerError::invalid("gpus", "a GPU is asked for twice"));
    }
    if request.ttl_s == Some(0) {
        return Err(ServerError::invalid("ttl_s", "a lease is at least a second long"));
    }
    if request.idle_s.is_some_and(|idle| !(1..=LEASE_MAX_S).contains(&idle)) {
        let longest = Span(Duration::from_secs(LEASE_MAX_S));
        return Err(ServerError::invalid("idle_s", format!("an idle time is from 1s to {longest} long")));
    }
    if request.ttl_s.is_some_and(|ttl| ttl > LEASE_MAX_S) {
        let longest = Span(Duration::from_secs(LEASE_MAX_S));
        return Err(ServerError::invalid("ttl_s", format!("a lease is at most {longest} long")));
    }
    check_ssh(request)?;
    check_ports(request)
}

fn check_ssh(request: &CreateRequest) -> Result<()> {
    if request.ssh_keys.len() > KEYS_MAX {
        let count = request.ssh_keys.len();
        return Err(ServerError::invalid("ssh_keys", format!("{count} public keys are over {KEYS_MAX}")));
    }
    for (number, key) in request.ssh_keys.iter().enumerate() {
        if let Err(error) = key.parse::<PublicKey>() {
            return Err(ServerError::invalid(
                format!("ssh_keys[{number}]"),
                format!("no public key: {error}"),
            ));
        }
    }
    Ok(())
}

fn check_ports(request: &CreateRequest) -> Result<()> {
    let mut inside = BTreeSet::new();
    let mut outside = BTreeSet::new();
    for port in &request.ports {
        if port.container_port == 0 || port.host_port == Some(0) {
            return Err(ServerError::invalid("ports", "a port is a number from 1 to 65535"));
        }
        let fresh_outside = port.host_port.is_none_or(|host| outside.insert((port.protocol, host)));
        if !fresh_outside || !inside.insert((port.protocol, port.container_port, port.host_port)) {
            let (port, protocol) = (port.host_port.unwrap_or(port.container_port), port.protocol);
            return Err(ServerError::invalid("ports", format!("port {port}/{protocol} is asked for twice")));
        }
    }
    Ok(())
}

/// Measures a request against the limits and the machine.
///
/// # Errors
/// [`ServerError::OverLimit`], which says of what, and by how much.
pub(crate) fn grant(request: &CreateRequest, limits: &LimitConfig, machine: Machine) -> Result<Grant> {
    let cpus = Measure { field: "milli_cpus", noun: "CPU time", limit: "milli_cpus", show: show_cpus };
    let memory =
        Measure { field: "memory_bytes", noun: "memory", limit: "memory", show: |n| Size(n).to_string() };
    let lease = Measure {
        field: "ttl_s",
        noun: "a lease",
        limit: "ttl",
        show: |n| Span(Duration::from_secs(n)).to_string(),
    };
    let milli_cpus = cpus.grant(
        request.milli_cpus.map(u64::from),
        limits.milli_cpus.map(u64::from),
        Some(u64::from(machine.milli_cpus)),
    )?;
    let memory_bytes =
        memory.grant(request.memory_bytes, limits.memory.map(|size| size.0), Some(machine.memory_bytes))?;
    let ttl = lease.grant(request.ttl_s, limits.ttl.map(|ttl| ttl.0.as_secs()), None)?;
    Ok(Grant {
        resources: Resources {
            milli_cpus: milli_cpus.and_then(|cpus| u32::try_from(cpus).ok()),
            memory_bytes,
            pids: Some(limits.pids),
        },
        ttl: ttl.map(Duration::from_secs),
    })
}

struct Measure {
    field: &'static str,
    noun: &'static str,
    limit: &'static str,
    show: fn(u64) -> String,
}

impl Measure {
    /// Returns what is asked for, or the limit where nothing is, but never more than there is.
    fn grant(&self, asked: Option<u64>, limit: Option<u64>, there: Option<u64>) -> Result<Option<u64>> {
        let Some(asked) = asked else {
            return Ok(limit.map(|limit| limit.min(there.unwrap_or(u64::MAX))));
        };
        if let Some(limit) = limit.filter(|&limit| asked > limit) {
            return Err(self.over(Some(self.limit), asked, limit));
        }
        if let Some(there) = there.filter(|&there| asked > there) {
            return Err(self.over(None, asked, there));
        }
        Ok(Some(asked))
    }

    fn over(&self, limit: Option<&'static str>, asked: u64, allowed: u64) -> ServerError {
        ServerError::OverLimit {
            field: self.field,
            noun: self.noun,
            limit,
            asked: (self.show)(asked),
            allowed: (self.show)(allowed),
            over: (self.show)(asked - allowed),
        }
    }
}

fn show_cpus(milli: u64) -> String {
    let number = |milli: u64| match milli % 1000 {
        0 => (milli / 1000).to_string(),
        _ => format!("{}", milli as f64 / 1000.0),
    };
    counted(number(milli), if milli == 1000 { "CPU" } else { "CPUs" })
}

fn show_gpus(number: u64) -> String {
    counted(number, if number == 1 { "GPU" } else { "GPUs" })
}

fn counted(number: impl Display, noun: &str) -> String {
    format!("{number} {noun}")
}

/// Checks GPUs asked for against the limit and those the machine has, by uuid.
///
/// # Errors
/// [`ServerError::OverLimit`], [`ServerError::NoGpu`].
pub(crate) fn check_gpus(asked: &Gpus, there: &[String], limits: &LimitConfig) -> Result<()> {
    let (wanted, missing) = match asked {
        Gpus::None => return Ok(()),
        Gpus::All => (there.len(), there.is_empty()),
        Gpus::Count(count) => (*count as usize, *count as usize > there.len()),
        Gpus::Ids(ids) => (ids.len(), ids.iter().any(|id| !there.contains(id))),
    };
    let measure = Measure { field: "gpus", noun: "a request", limit: "gpus", show: show_gpus };
    measure.grant(Some(wanted as u64), limits.gpus.map(u64::from), None)?;
    if missing { Err(ServerError::NoGpu { asked: asked.clone(), there: there.to_vec() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine { milli_cpus: 4_000, memory_bytes: 8 << 30 };

    fn request() -> CreateRequest {
        CreateRequest::new("x".parse().unwrap())
    }

    #[test]
    fn a_refusal_says_which_limit_and_by_how_much() {
        let limits = LimitConfig {
            milli_cpus: Some(1_500),
            memory: Some(Size(2 << 30)),
            ttl: Some(Span(Duration::from_secs(7_200))),
            ..LimitConfig::default()
        };
        let refused = |request: CreateRequest| grant(&request, &limits, MACHINE).unwrap_err();
        let error = refused(CreateRequest { memory_bytes: Some(3 << 30), ..request() });
        assert_eq!(error.to_string(), "memory of 3 GiB is 1 GiB over the limit of this host, 2 GiB");
        let error = refused(CreateRequest { milli_cpus: Some(2_000), ..request() });
        assert_eq!(error.to_string(), "CPU time of 2 CPUs is 0.5 CPUs over the limit of this host, 1.5 CPUs");
        let error = refused(CreateRequest { ttl_s: Some(10_800), ..request() });
        assert_eq!(error.to_string(), "a lease of 3h is 1h over the limit of this host, 2h");
        assert!(error.hint().unwrap().contains("`ttl` in [server.limits]"));
    }

    #[test]
    fn nobody_gets_more_than_there_is() {
        let request = CreateRequest { memory_bytes: Some(16 << 30), ..request() };
        let error = grant(&request, &LimitConfig::default(), MACHINE).unwrap_err();
        assert_eq!(error.to_string(), "memory of 16 GiB is 8 GiB over what this machine has, 8 GiB");
    }

    #[test]
    fn who_asks_for_nothing_gets_the_limits() {
        let limits = LimitConfig { memory: Some(Size(1 << 30)), pids: 64, ..LimitConfig::default() };
        let granted = grant(&request(), &limits, MACHINE).unwrap();
        assert_eq!(granted.resources.memory_bytes, Some(1 << 30));
        assert_eq!((granted.resources.milli_cpus, granted.resources.pids), (None, Some(64)));
        assert_eq!(granted.ttl, None);
    }

    #[test]
    fn a_request_that_is_wrong_anywhere_is_refused_with_its_field() {
        let field = |request: CreateRequest| check(&request).unwrap_err().field().unwrap();
        let labels = [("gx.owner".to_owned(), "me".to_owned())].into();
        assert_eq!(field(CreateRequest { labels, ..request() }), "labels");
        let name = Some("x".repeat(61).parse().unwrap());
        assert_eq!(field(CreateRequest { name, ..request() }), "name");
        let ports = vec!["80".parse().unwrap(), "80".parse().unwrap()];
        assert_eq!(field(CreateRequest { ports, ..request() }), "ports");
        assert_eq!(field(CreateRequest { ttl_s: Some(0), ..request() }), "ttl_s");
        assert_eq!(field(CreateRequest { idle_s: Some(0), ..request() }), "idle_s");
        assert_eq!(field(CreateRequest { idle_s: Some(u64::MAX), ..request() }), "idle_s");
        assert_eq!(field(CreateRequest { ttl_s: Some(u64::MAX), ..request() }), "ttl_s");
        let gpus = "GPU-a,GPU-a".parse().unwrap();
        assert_eq!(field(CreateRequest { gpus, ..request() }), "gpus");
        let key = PublicKey::ed25519(&[7; 32]).to_string();
        let private = "-----BEGIN OPENSSH PRIVATE KEY-----".to_owned();
        assert_eq!(field(CreateRequest { ssh_keys: vec![key.clone(), private], ..request() }), "ssh_keys[1]");
        assert_eq!(field(CreateRequest { ssh_keys: vec![key; 65], ..request() }), "ssh_keys");
    }

    #[test]
    fn gpus_that_are_not_there_are_refused() {
        let (one, limits) = (["GPU-1a".to_owned()], LimitConfig::default());
        let check = |asked: &Gpus, there: &[String]| check_gpus(asked, there, &limits);
        assert!(check(&Gpus::None, &[]).is_ok());
        assert!(check(&Gpus::All, &[]).is_err());
        assert!(check(&Gpus::Count(1), &one).is_ok());
        let error = check(&Gpus::Count(2), &one).unwrap_err();
        assert_eq!(error.to_string(), "2 GPUs are asked for, and this host has 1");
        let error = check(&Gpus::Ids(vec!["GPU-2b".to_owned()]), &one).unwrap_err();
        assert_eq!(error.to_string(), "GPU-2b is asked for, and this host has GPU-1a");
    }
}
