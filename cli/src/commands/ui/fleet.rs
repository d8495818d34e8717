//! The machines of the dashboard: this one, the hosts that were joined, and the one that `--on` names; and the peers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use gx_core::NodeId;
use tokio::sync::OnceCell;

use super::peers::Watched;
use crate::cli::{Environment, Globals};
use crate::error::Result;
use crate::hosts::Hosts;
use crate::output::Out;
use crate::settings::Settings;
use crate::target::{BEST, LOCAL, Target};

/// A machine, and the way to it once it was needed.
pub(super) struct Machine {
    /// What the page calls it: short, and safe in a path.
    pub(super) key: String,
    /// What people call it.
    pub(super) name: String,
    /// Who it is, where that is known beforehand.
    pub(super) node: Option<NodeId>,
    /// Where it is told to be.
    pub(super) address: Option<String>,
    target: OnceCell<Target>,
}

/// All machines, and all peers.
pub(super) struct Fleet {
    /// The table of servers, as it is measured.
    pub(super) watched: Arc<Watched>,
    settings: Settings,
    environment: Environment,
    /// By what `--on` takes for it. Machines are added and never taken away, so that their keys stay.
    machines: Mutex<BTreeMap<String, Arc<Machine>>>,
}

impl Fleet {
    /// Finds the machines.
    pub(super) fn of(settings: Settings, environment: Environment, watched: Arc<Watched>) -> Result<Self> {
        let fleet = Self { watched, settings, environment, machines: Mutex::default() };
        fleet.all()?;
        Ok(fleet)
    }

    /// Returns all machines that are known by now, this one first.
    pub(super) fn all(&self) -> Result<Vec<Arc<Machine>>> {
        let mut found = vec![(LOCAL.to_owned(), None, None)];
        for host in Hosts::of(&self.settings.data).all()? {
            let address = host.addresses.first().map(ToString::to_string);
            found.push((host.name.to_string(), Some(host.node), address));
        }
        let on = &self.settings.config.client.on;
        if ![BEST, LOCAL].contains(&on.as_str()) && found.iter().all(|(name, ..)| name != on) {
            found.push((on.clone(), None, Some(on.clone())));
        }
        let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, node, address) in found {
            let key = format!("m{}", machines.len());
            machines
                .entry(name.clone())
                .or_insert_with(|| Arc::new(Machine { key, name, node, address, target: OnceCell::new() }));
        }
        let mut all: Vec<_> = machines.values().cloned().collect();
        all.sort_by_key(|machine| machine.name != LOCAL);
        Ok(all)
    }

    /// Returns the machine that the page calls so.
    pub(super) fn machine(&self, key: &str) -> Option<Arc<Machine>> {
        let machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        machines.values().find(|machine| machine.key == key).cloned()
    }

    /// Opens the way to a machine. One that failed is tried again by the next who asks.
    pub(super) async fn target<'m>(&self, machine: &'m Machine) -> Result<&'m Target> {
        let open = async || {
            let mut settings = self.settings.clone();
            settings.config.client.on.clone_from(&machine.name);
            let quiet = Out::new(&Globals { quiet: true, ..Globals::default() });
            Target::open(&settings, &self.environment, &quiet).await
        };
        machine.target.get_or_try_init(open).await
    }

    /// Lets what was cancelled clean up after itself.
    pub(super) async fn close(&self) {
        let machines: Vec<_> = {
            let machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
            machines.values().cloned().collect()
        };
        for target in machines.iter().filter_map(|machine| machine.target.get()) {
            target.close().await;
        }
    }
}
