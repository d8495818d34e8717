//! What this host says of itself: where it is reached, and what it has.

use std::net::{IpAddr, SocketAddr};

use gx_core::PluginName;
use gx_core::peers::address::{Scope, possible, scope};
use gx_core::peers::{CHAT_LABEL, Gpu, clean_text, is_label_key};
use gx_core::runtime::HealthStatus;
use gx_peers::own::{self, Facts};
use gx_peers::seed::look_up;

use crate::node::Node;
use crate::node::members::outward;
use crate::node::sample::image_platform;

/// Addresses of one record.
const MAX_ADDRESSES: usize = 8;

impl Node {
    /// Signs what is true of this host now, where that is new, or the last record is to end.
    pub(super) async fn renew_record(&self, listening: SocketAddr, public: Option<IpAddr>) {
        let facts = self.facts(listening, public).await;
        if facts.addresses.is_empty() {
            return;
        }
        let Ok(peers) = self.peers() else { return };
        match own::renew(&peers, &self.key, &facts, self.table.config.lease.0) {
            Ok(true) => tracing::debug!(addresses = ?facts.addresses, "said anew what this host is"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "this host cannot say what it is"),
        }
    }

    async fn facts(&self, listening: SocketAddr, public: Option<IpAddr>) -> Facts {
        let (sample, runtimes) = tokio::join!(self.sampler.recent(), self.remembered_statuses());
        let healthy = runtimes.iter().filter(|runtime| runtime.health.status == HealthStatus::Healthy);
        let gpus = sample.gpus.iter().map(|gpu| Gpu {
            model: clean_text(&gpu.name, 64),
            memory_bytes: gpu.memory_total_bytes.unwrap_or(0),
        });
        let chat = self.serves_chat().then(|| (CHAT_LABEL.to_owned(), "yes".to_owned()));
        let labels = self.table.config.labels.clone();
        Facts {
            addresses: self.addresses(listening, public).await,
            version: self.version.chars().filter(char::is_ascii_graphic).take(32).collect(),
            platform: image_platform(),
            cpus: sample.cpu.threads,
            memory_bytes: sample.memory.total_bytes,
            gpus: gpus.take(16).collect(),
            runtimes: healthy.map(|runtime| runtime.name.clone()).take(16).collect::<Vec<PluginName>>(),
            // What no record may say is left out; the configuration's description says which keys are keys.
            labels: (chat.into_iter())
                .chain(labels.into_iter().filter(|(key, _)| is_label_key(key) && key != CHAT_LABEL))
                .take(16)
                .map(|(key, value)| (key, clean_text(&value, 63)))
                .collect(),
        }
    }

    /// Returns where others reach this host: as its owner says; else at its public address, if it is known, and at those
    /// of the machine.
    async fn addresses(&self, listening: SocketAddr, public: Option<IpAddr>) -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = Vec::new();
        for endpoint in &self.advertise {
            all.extend(look_up(endpoint).await);
        }
        if all.is_empty() {
            all.extend(public.map(|ip| SocketAddr::new(ip, listening.port())));
            match listening.ip().is_unspecified() {
                true => all.extend(outward(listening).iter().filter_map(|endpoint| {
                    Some(SocketAddr::new(endpoint.host().parse().ok()?, endpoint.port()))
                })),
                false => all.push(listening),
            }
        }
        let mut seen = Vec::new();
        for address in all.into_iter().filter(|address| possible(*address)) {
            if !seen.contains(&address) && seen.len() < MAX_ADDRESSES {
                seen.push(address);
            }
        }
        seen
    }
}

/// Asks for this host's address in the Internet. What is no such address is none.
pub(super) async fn public_address(url: &str) -> Option<IpAddr> {
    match gx_client::public_address(url).await {
        Ok(address) if scope(address) == Scope::Public => Some(address),
        Ok(address) => {
            tracing::info!(url, %address, "that is no address in the Internet");
            None
        }
        Err(error) => {
            tracing::info!(url, %error, "this host's address in the Internet is not known");
            None
        }
    }
}
