//! What a host lends: a request is measured against the limits, its caller's allowance and the machine. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use gx_core::api::CreateRequest;
use gx_core::config::{LimitConfig, TotalConfig};
use gx_core::member::Allowance;
use gx_core::ssh::PublicKey;
use gx_core::units::Span;
use gx_core::{Gpus, NodeId, Resources, Security};

use super::amounts::{Bounds, Good, Scope, Whose, count_gpus};
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
pub(crate) fn security(request: &CreateRequest, user_namespace: bool) -> Security {
    Security {
        no_new_privileges: true,
        capabilities: Some(CAPABILITIES.map(str::to_owned).to_vec()),
        read_only_root: request.read_only,
        user_namespace,
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
    if request.pids == Some(0) {
        return Err(ServerError::invalid("pids", "a container needs more than no process"));
    }
    if request.disk_bytes == Some(0) {
        return Err(ServerError::invalid("disk_bytes", "a container needs more than no disk"));
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

/// What bounds a request: the host's limits, what its caller may have, and the machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) limits: &'a LimitConfig,
    pub(crate) totals: &'a TotalConfig,
    /// The member's; `None` for the host itself.
    pub(crate) allowance: Option<Allowance>,
    pub(crate) machine: Machine,
}

/// Where a bound comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `[server.limits]`.
    Limits,
    /// `[server.totals]`: nothing can be more than all.
    Totals,
    /// What the member who asks may have.
    Allowance,
    /// What the machine has.
    Machine,
}

/// Measures a request, which means so many GPUs, against everything that bounds it, whatever others have.
///
/// # Errors
/// [`ServerError::OverLimit`], which says of what, and by how much.
pub(crate) fn grant(request: &CreateRequest, gpus: u64, frame: Frame<'_>) -> Result<Grant> {
    let give = |good, asked: Option<u64>| frame.give(good, asked);
    let narrow = |amount: Option<u64>| amount.and_then(|amount| u32::try_from(amount).ok());
    let ports = request.ports.len() as u64 + u64::from(request.extra_ports);
    give(Good::Ports, Some(ports))?;
    give(Good::Containers, Some(1))?;
    give(Good::Gpus, Some(gpus))?;
    Ok(Grant {
        resources: Resources {
            milli_cpus: narrow(give(Good::Cpus, request.milli_cpus.map(u64::from))?),
            memory_bytes: give(Good::Memory, request.memory_bytes)?,
            pids: narrow(give(Good::Pids, request.pids.map(u64::from))?),
            disk_bytes: give(Good::Disk, request.disk_bytes)?,
        },
        ttl: give(Good::Lease, request.ttl_s)?.map(Duration::from_secs),
    })
}

impl Frame<'_> {
    /// Returns what is asked for, or, where nothing is, what one may have: at most the limit, and of a member's
    /// allowance an equal share for each of the containers it may have.
    fn give(&self, good: Good, asked: Option<u64>) -> Result<Option<u64>> {
        let bounds = self.bounds(good);
        let Some(asked) = asked else {
            let share = self.share(good);
            let least =
                bounds.iter().filter(|(origin, _)| *origin != Origin::Machine).map(|(_, bound)| *bound);
            let least = least.chain(share).min();
            let there = bounds.iter().find(|(origin, _)| *origin == Origin::Machine).map(|(_, bound)| *bound);
            return Ok(least.map(|least| least.min(there.unwrap_or(u64::MAX))));
        };
        match bounds.into_iter().find(|(_, bound)| asked > *bound) {
            Some((origin, allowed)) => Err(ServerError::OverLimit { good, origin, asked, allowed }),
            None => Ok(Some(asked)),
        }
    }

    /// Returns what bounds one container.
    fn bounds(&self, good: Good) -> Vec<(Origin, u64)> {
        let limits = self.limits;
        let limit = match good {
            Good::Containers => None,
            Good::Cpus => limits.milli_cpus.map(u64::from),
            Good::Memory => limits.memory.map(|size| size.0),
            Good::Pids => Some(u64::from(limits.pids)),
            Good::Gpus => limits.gpus.map(u64::from),
            Good::Disk => limits.disk.map(|size| size.0),
            Good::Ports => limits.container_ports.map(u64::from),
            Good::Lease => limits.ttl.map(|ttl| ttl.0.as_secs()),
        };
        let allowed = match good {
            Good::Lease => {
                self.allowance.and_then(|allowance| allowance.longest_lease()).map(|ttl| ttl.as_secs())
            }
            good => self.allowance.and_then(|allowance| Bounds::of_member(&allowance).get(good)),
        };
        let total = Bounds::of_host(limits, self.totals).get(good);
        let machine = match good {
            Good::Cpus => Some(u64::from(self.machine.milli_cpus)),
            Good::Memory => Some(self.machine.memory_bytes),
            _ => None,
        };
        let all = [
            (Origin::Limits, limit),
            (Origin::Allowance, allowed),
            (Origin::Totals, total),
            (Origin::Machine, machine),
        ];
        all.into_iter().filter_map(|(origin, bound)| Some((origin, bound?))).collect()
    }

    fn share(&self, good: Good) -> Option<u64> {
        let allowance = self.allowance?;
        let containers = u64::from(allowance.containers?).max(1);
        let all = Bounds::of_member(&allowance).get(good)?;
        Some((all / containers).max(1))
    }

    /// Returns the longest lease there is for the caller; the host's own have no end.
    pub(crate) fn longest_lease(&self) -> Option<Duration> {
        let allowance = self.allowance?;
        [self.limits.ttl.map(|ttl| ttl.0), allowance.longest_lease()].into_iter().flatten().min()
    }

    /// Returns within what a container must fit together with others.
    pub(crate) fn scopes(&self, owner: NodeId) -> Vec<Scope> {
        let host = Bounds::of_host(self.limits, self.totals);
        let host = Scope { whose: Whose::Host, owner: None, bounds: host };
        let own = |allowance: Allowance| Scope {
            whose: Whose::Member,
            owner: Some(owner),
            bounds: Bounds::of_member(&allowance),
        };
        self.allowance.map(own).into_iter().chain([host]).collect()
    }
}

/// Checks GPUs asked for against the limit and those the machine has, by uuid.
///
/// # Errors
/// [`ServerError::OverLimit`], [`ServerError::NoGpu`].
pub(crate) fn check_gpus(asked: &Gpus, there: &[String], limits: &LimitConfig) -> Result<()> {
    let missing = match asked {
        Gpus::None => return Ok(()),
        Gpus::All => there.is_empty(),
        Gpus::Count(count) => *count as usize > there.len(),
        Gpus::Ids(ids) => ids.iter().any(|id| !there.contains(id)),
    };
    let (asked_for, allowed) = (count_gpus(asked, there.len() as u64), limits.gpus.map(u64::from));
    if let Some(allowed) = allowed.filter(|&allowed| asked_for > allowed) {
        let (good, origin) = (Good::Gpus, Origin::Limits);
        return Err(ServerError::OverLimit { good, origin, asked: asked_for, allowed });
    }
    if missing { Err(ServerError::NoGpu { asked: asked.clone(), there: there.to_vec() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::units::Size;

    const MACHINE: Machine = Machine { milli_cpus: 4_000, memory_bytes: 8 << 30 };

    fn frame<'a>(limits: &'a LimitConfig, totals: &'a TotalConfig) -> Frame<'a> {
        Frame { limits, totals, allowance: None, machine: MACHINE }
    }

    fn granted(request: CreateRequest, limits: &LimitConfig) -> Result<Grant> {
        grant(&request, 0, frame(limits, &TotalConfig::default()))
    }

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
        let refused = |request: CreateRequest| granted(request, &limits).unwrap_err();
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
        let error = granted(request, &LimitConfig::default()).unwrap_err();
        assert_eq!(error.to_string(), "memory of 16 GiB is 8 GiB over what this machine has, 8 GiB");
    }

    #[test]
    fn who_asks_for_nothing_gets_the_limits() {
        let limits = LimitConfig { memory: Some(Size(1 << 30)), pids: 64, ..LimitConfig::default() };
        let granted = granted(request(), &limits).unwrap();
        assert_eq!(granted.resources.memory_bytes, Some(1 << 30));
        assert_eq!((granted.resources.milli_cpus, granted.resources.pids), (None, Some(64)));
        assert_eq!(granted.ttl, None);
    }

    #[test]
    fn a_member_is_bound_by_its_allowance_and_gets_a_share_of_it() {
        let allowance = Allowance {
            containers: Some(4),
            memory: Some(Size(2 << 30)),
            milli_cpus: Some(2_000),
            pids: Some(400),
            ttl: Some(Span(Duration::from_secs(3_600))),
            ..Allowance::default()
        };
        let (limits, totals) = (LimitConfig::default(), TotalConfig::default());
        let member = Frame { allowance: Some(allowance), ..frame(&limits, &totals) };
        let granted = grant(&request(), 0, member).unwrap();
        let expected = Resources {
            milli_cpus: Some(500),
            memory_bytes: Some(512 << 20),
            pids: Some(100),
            disk_bytes: None,
        };
        assert_eq!((granted.resources, granted.ttl), (expected, Some(Duration::from_secs(3_600))));
        let error =
            grant(&CreateRequest { memory_bytes: Some(3 << 30), ..request() }, 0, member).unwrap_err();
        assert_eq!(error.to_string(), "memory of 3 GiB is 1 GiB over your allowance, 2 GiB");
        let error = grant(&CreateRequest { ttl_s: Some(7_200), ..request() }, 0, member).unwrap_err();
        assert_eq!(error.to_string(), "a lease of 2h is 1h over your allowance, 1h");
    }

    #[test]
    fn nothing_is_more_than_all_of_the_host() {
        let (limits, totals) = (
            LimitConfig { container_ports: Some(2), ..LimitConfig::default() },
            TotalConfig { memory: Some(Size(1 << 30)), ..TotalConfig::default() },
        );
        let host = frame(&limits, &totals);
        assert_eq!(grant(&request(), 0, host).unwrap().resources.memory_bytes, Some(1 << 30));
        let error = grant(&CreateRequest { memory_bytes: Some(2 << 30), ..request() }, 0, host).unwrap_err();
        assert_eq!(error.to_string(), "memory of 2 GiB is 1 GiB over all that this host lends, 1 GiB");
        assert!(error.hint().unwrap().contains("[server.totals]"));
        let error = grant(&CreateRequest { extra_ports: 3, ..request() }, 0, host).unwrap_err();
        assert_eq!(error.to_string(), "a request of 3 ports is 1 port over the limit of this host, 2 ports");
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
