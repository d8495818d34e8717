//! How much containers have of what a host lends, and how much they may have. Pure.
//!
//! What a container was given is in its labels. A stopped one has given back CPUs, memory and processes; it keeps its
//! GPUs, what it may write, its ports and its place, so that it can be started again where there is room.

use std::collections::BTreeMap;
use std::time::Duration;

use gx_core::api::{Quota, TotalSpecs};
use gx_core::config::{LimitConfig, TotalConfig};
use gx_core::container::label;
use gx_core::member::Allowance;
use gx_core::units::{Size, Span};
use gx_core::{Container, ContainerState, Gpus, NodeId};
use serde::{Deserialize, Serialize};

use super::containers::{name_of, owner};
use super::policy::Machine;
use crate::error::{Result, ServerError};

/// Something a host lends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Good {
    /// Places for containers.
    Containers,
    /// CPU time, in thousandths of a CPU.
    Cpus,
    /// Memory, in bytes.
    Memory,
    /// Processes and threads.
    Pids,
    /// GPUs.
    Gpus,
    /// What may be written, in bytes.
    Disk,
    /// Published ports.
    Ports,
    /// Time, in seconds. It is never summed up.
    Lease,
}

/// All goods that are summed up, in the order of [`Amounts`].
pub(crate) const SUMMED: [Good; 7] =
    [Good::Containers, Good::Cpus, Good::Memory, Good::Pids, Good::Gpus, Good::Disk, Good::Ports];

impl Good {
    /// Returns the key of its limit in the configuration.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::Cpus => "milli_cpus",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Gpus => "gpus",
            Self::Disk => "disk",
            Self::Ports => "ports",
            Self::Lease => "ttl",
        }
    }

    /// Returns the field of a request that asks for it.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::Cpus => "milli_cpus",
            Self::Memory => "memory_bytes",
            Self::Pids => "pids",
            Self::Gpus => "gpus",
            Self::Disk => "disk_bytes",
            Self::Ports => "ports",
            Self::Lease => "ttl_s",
        }
    }

    /// Returns what is asked for, in words.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Cpus => "CPU time",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Lease => "a lease",
            Self::Containers | Self::Pids | Self::Gpus | Self::Ports => "a request",
        }
    }

    /// Returns so much of it, as people read it.
    pub(crate) fn show(self, amount: u64) -> String {
        let counted = |noun: &str| format!("{amount} {noun}{}", if amount == 1 { "" } else { "s" });
        match self {
            Self::Containers => counted("container"),
            Self::Cpus => cpus(amount),
            Self::Memory | Self::Disk => Size(amount).to_string(),
            Self::Pids if amount == 1 => "1 process".to_owned(),
            Self::Pids => format!("{amount} processes"),
            Self::Gpus => counted("GPU"),
            Self::Ports => counted("port"),
            Self::Lease => Span(Duration::from_secs(amount)).to_string(),
        }
    }
}

fn cpus(milli: u64) -> String {
    let number = match milli % 1000 {
        0 => (milli / 1000).to_string(),
        _ => format!("{}", milli as f64 / 1000.0),
    };
    format!("{number} {}", if milli == 1000 { "CPU" } else { "CPUs" })
}

/// So much of each good that is summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Amounts([u64; SUMMED.len()]);

/// At most so much of each; `None` is without a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Bounds([Option<u64>; SUMMED.len()]);

impl Amounts {
    pub(crate) fn of(amount: impl Fn(Good) -> u64) -> Self {
        Self(SUMMED.map(amount))
    }

    pub(crate) fn get(&self, good: Good) -> u64 {
        SUMMED.iter().position(|&summed| summed == good).map_or(0, |at| self.0[at])
    }

    fn with(mut self, other: &Self, join: fn(u64, u64) -> u64) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(one, other)| *one = join(*one, other));
        self
    }
}

impl Bounds {
    pub(crate) fn of(bound: impl Fn(Good) -> Option<u64>) -> Self {
        Self(SUMMED.map(bound))
    }

    pub(crate) fn get(&self, good: Good) -> Option<u64> {
        SUMMED.iter().position(|&summed| summed == good).and_then(|at| self.0[at])
    }

    /// Returns what all containers of a host may have.
    pub(crate) fn of_host(limits: &LimitConfig, totals: &TotalConfig) -> Self {
        Self::of(|good| match good {
            Good::Containers => Some(u64::from(limits.containers)),
            Good::Cpus => totals.milli_cpus.map(u64::from),
            Good::Memory => totals.memory.map(|size| size.0),
            Good::Pids => totals.pids.map(u64::from),
            Good::Gpus => totals.gpus.map(u64::from),
            Good::Disk => totals.disk.map(|size| size.0),
            Good::Ports => totals.ports.map(u64::from),
            Good::Lease => None,
        })
    }

    /// Returns what all containers of a member may have.
    pub(crate) fn of_member(allowance: &Allowance) -> Self {
        Self::of(|good| match good {
            Good::Containers => allowance.containers.map(u64::from),
            Good::Cpus => allowance.milli_cpus.map(u64::from),
            Good::Memory => allowance.memory.map(|size| size.0),
            Good::Pids => allowance.pids.map(u64::from),
            Good::Gpus => allowance.gpus.map(u64::from),
            Good::Disk => allowance.disk.map(|size| size.0),
            Good::Ports => allowance.ports.map(u64::from),
            Good::Lease => None,
        })
    }
}

/// A container, made or about to be, and what it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holding {
    pub(crate) name: String,
    /// Whose it is, where that can be told.
    pub(crate) owner: Option<NodeId>,
    pub(crate) amounts: Amounts,
}

impl Holding {
    /// Returns what a container has, as its labels and its state tell.
    pub(crate) fn of(container: &Container, machine: Machine) -> Self {
        let amounts = if is_ended(container.state) {
            Amounts::of(|good| match good {
                Good::Cpus | Good::Memory | Good::Pids => 0,
                good => given(container, machine, good),
            })
        } else {
            Amounts::of(|good| given(container, machine, good))
        };
        Self { name: name_of(container).to_owned(), owner: owner(container), amounts }
    }

    /// Returns what a container will have once it runs.
    pub(crate) fn running(container: &Container, machine: Machine) -> Self {
        Self { amounts: Amounts::of(|good| given(container, machine, good)), ..Self::of(container, machine) }
    }
}

fn is_ended(state: ContainerState) -> bool {
    match state {
        ContainerState::Exited => true,
        ContainerState::Created
        | ContainerState::Running
        | ContainerState::Paused
        | ContainerState::Removing
        | ContainerState::Unknown => false,
    }
}

/// Returns what a container was given. Without a bound it may use all the machine has; but what it writes, and how
/// many processes it has, is then known of nobody.
fn given(container: &Container, machine: Machine, good: Good) -> u64 {
    let number = |key: &str| container.labels.get(key).and_then(|text| text.parse::<u64>().ok());
    match good {
        Good::Containers => 1,
        Good::Cpus => number(label::CPUS).unwrap_or(u64::from(machine.milli_cpus)),
        Good::Memory => number(label::MEMORY).unwrap_or(machine.memory_bytes),
        Good::Pids => number(label::PIDS).unwrap_or(0),
        Good::Disk => number(label::DISK).unwrap_or(0),
        Good::Ports => number(label::PORTS).unwrap_or(container.ports.len() as u64),
        Good::Gpus => {
            let gpus = container.labels.get(label::GPUS).and_then(|text| text.parse().ok());
            count_gpus(&gpus.unwrap_or_default(), 0)
        }
        Good::Lease => 0,
    }
}

/// Returns how many GPUs these are, on a machine with so many.
pub(crate) fn count_gpus(gpus: &Gpus, there: u64) -> u64 {
    match gpus {
        Gpus::None => 0,
        Gpus::All => there,
        Gpus::Count(count) => u64::from(*count),
        Gpus::Ids(ids) => ids.len() as u64,
    }
}

/// Whose containers are summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// All of the host.
    Host,
    /// Those of the member who asks.
    Member,
}

/// What some containers may have together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) whose: Whose,
    /// The owner of the containers that count; `None` counts all.
    pub(crate) owner: Option<NodeId>,
    pub(crate) bounds: Bounds,
}

impl Scope {
    /// Returns what those of the containers that count have together; a container that is named twice counts once.
    pub(crate) fn sum<'a>(&self, holdings: impl IntoIterator<Item = &'a Holding>) -> Amounts {
        let counts = |holding: &&Holding| self.owner.is_none() || holding.owner == self.owner;
        let mut by_name: BTreeMap<&str, Amounts> = BTreeMap::new();
        for holding in holdings.into_iter().filter(counts) {
            let known = by_name.entry(&holding.name).or_default();
            *known = known.with(&holding.amounts, u64::max);
        }
        by_name.values().fold(Amounts::default(), |sum, amounts| sum.with(amounts, u64::saturating_add))
    }

    /// Checks that a container fits beside the others.
    ///
    /// # Errors
    /// [`ServerError::Full`], [`ServerError::OverTotal`].
    pub(crate) fn check<'a>(
        &self,
        asked: &Holding,
        others: impl IntoIterator<Item = &'a Holding>,
    ) -> Result<()> {
        let used = self.sum(others.into_iter().filter(|other| other.name != asked.name));
        for good in SUMMED {
            let Some(limit) = self.bounds.get(good) else { continue };
            let (asked, used) = (asked.amounts.get(good), used.get(good));
            // Who asks for nothing of it is not to blame that there is too much.
            if asked == 0 || used.saturating_add(asked) <= limit {
                continue;
            }
            return Err(match good {
                Good::Containers => ServerError::Full { limit, whose: self.whose },
                good => ServerError::OverTotal { good, whose: self.whose, asked, used, limit },
            });
        }
        Ok(())
    }

    /// Returns what containers have, and may have, as the API tells it.
    pub(crate) fn told<'a>(&self, holdings: impl IntoIterator<Item = &'a Holding>) -> TotalSpecs {
        let used = self.sum(holdings);
        let quota = |good| Quota { used: used.get(good), limit: self.bounds.get(good) };
        TotalSpecs {
            containers: quota(Good::Containers),
            milli_cpus: quota(Good::Cpus),
            memory_bytes: quota(Good::Memory),
            pids: quota(Good::Pids),
            gpus: quota(Good::Gpus),
            disk_bytes: quota(Good::Disk),
            ports: quota(Good::Ports),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine { milli_cpus: 4_000, memory_bytes: 8 << 30 };

    fn container(state: ContainerState, labels: &[(&str, &str)]) -> Container {
        Container {
            id: "c0ffee".parse().unwrap(),
            name: "gx-web".to_owned(),
            image: "x".to_owned(),
            state,
            created_at: None,
            started_at: None,
            exit: None,
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ports: Vec::new(),
        }
    }

    fn scope(owner: Option<NodeId>, bounds: &[(Good, u64)]) -> Scope {
        let bound = |good| bounds.iter().find(|(bounded, _)| *bounded == good).map(|(_, bound)| *bound);
        let whose = if owner.is_some() { Whose::Member } else { Whose::Host };
        Scope { whose, owner, bounds: Bounds::of(bound) }
    }

    fn holding(name: &str, owner: u8, memory: u64) -> Holding {
        let amounts = Amounts::of(|good| match good {
            Good::Containers => 1,
            Good::Memory => memory,
            _ => 0,
        });
        Holding { name: name.to_owned(), owner: Some(NodeId::from_bytes([owner; 32])), amounts }
    }

    #[test]
    fn a_stopped_container_keeps_what_cannot_be_lent_meanwhile() {
        let labels = [
            (label::CPUS, "500"),
            (label::MEMORY, "1024"),
            (label::PIDS, "9"),
            (label::GPUS, "GPU-a,GPU-b"),
            (label::DISK, "77"),
            (label::PORTS, "3"),
        ];
        let amounts =
            |state| SUMMED.map(|good| Holding::of(&container(state, &labels), MACHINE).amounts.get(good));
        assert_eq!(amounts(ContainerState::Running), [1, 500, 1024, 9, 2, 77, 3]);
        assert_eq!(amounts(ContainerState::Created), [1, 500, 1024, 9, 2, 77, 3], "it is about to run");
        assert_eq!(amounts(ContainerState::Exited), [1, 0, 0, 0, 2, 77, 3]);
        let again = Holding::running(&container(ContainerState::Exited, &labels), MACHINE);
        assert_eq!(again.amounts.get(Good::Memory), 1024);
    }

    #[test]
    fn without_a_bound_all_of_the_machine_is_in_use() {
        for labels in [&[][..], &[(label::MEMORY, ""), (label::CPUS, "lots")]] {
            let holding = Holding::of(&container(ContainerState::Running, labels), MACHINE);
            assert_eq!(holding.amounts.get(Good::Memory), 8 << 30);
            assert_eq!(holding.amounts.get(Good::Cpus), 4_000);
        }
    }

    #[test]
    fn a_refusal_says_what_is_left_and_of_how_much() {
        let others = [holding("a", 1, 10 << 30), holding("b", 2, 3 << 30), holding("b", 2, 2 << 30)];
        let host = scope(None, &[(Good::Memory, 16 << 30), (Good::Containers, 3)]);
        host.check(&holding("c", 1, 3 << 30), &others).unwrap();
        let error = host.check(&holding("c", 1, 4 << 30), &others).unwrap_err();
        assert_eq!(
            error.to_string(),
            "memory of 4 GiB is 1 GiB over what this host has left, 3 GiB of 16 GiB"
        );
        assert!(error.hint().unwrap().contains("`memory` in [server.totals]"), "{:?}", error.hint());
        let member = scope(others[1].owner, &[(Good::Memory, 4 << 30)]);
        member.check(&holding("c", 2, 1 << 30), &others).unwrap();
        let error = member.check(&holding("c", 2, 2 << 30), &others).unwrap_err();
        assert_eq!(
            error.to_string(),
            "memory of 2 GiB is 1 GiB over what your allowance has left, 1 GiB of 4 GiB"
        );
        assert_eq!(error.field().unwrap(), "memory_bytes");
    }

    #[test]
    fn a_start_counts_the_container_once() {
        let host = scope(None, &[(Good::Memory, 100), (Good::Containers, 1)]);
        host.check(&holding("a", 1, 100), &[holding("a", 1, 0)]).unwrap();
        assert!(host.check(&holding("b", 1, 0), &[holding("a", 1, 0)]).is_err());
    }

    #[test]
    fn amounts_are_read_as_people_say_them() {
        let shown = [
            (Good::Cpus, 1_000, "1 CPU"),
            (Good::Cpus, 1_500, "1.5 CPUs"),
            (Good::Gpus, 1, "1 GPU"),
            (Good::Ports, 2, "2 ports"),
            (Good::Pids, 1, "1 process"),
            (Good::Lease, 7_200, "2h"),
        ];
        for (good, amount, text) in shown {
            assert_eq!(good.show(amount), text);
        }
    }
}
