//! `xtask wire`: a wire between two network namespaces, with a rate, a delay, a loss and a queue of a chosen size.
//!
//! The kernels this runs on have no netem(8). So packets go through this program, from one TUN device to the other: each
//! takes its time on the wire, waits its turn, arrives later, or does not. It runs as root, in a process of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::links::DEVICE;
use crate::shell::{Doing, Failure, Result};

/// Packets on their way, each way: a second of 1 Gbit/s in packets of 9,000 bytes.
const MOST: usize = 16_384;

/// What the wire is like.
#[derive(Debug, Clone, Args)]
pub(crate) struct WireArgs {
    /// The namespace at the near end, and its address
    #[arg(long, num_args = 2)]
    near: Vec<String>,
    /// The namespace at the far end, and its address
    #[arg(long, num_args = 2)]
    far: Vec<String>,
    /// Mbit/s to the near end, and from it, of whole IP packets
    #[arg(long, num_args = 2)]
    rates: Vec<f64>,
    /// How long a packet is on its way, one way, in milliseconds
    #[arg(long)]
    delay_ms: f64,
    /// How long it may wait for its turn, in milliseconds
    #[arg(long)]
    queue_ms: u64,
    /// The part of packets that is lost, 0 to 1
    #[arg(long)]
    loss: f64,
    /// The largest packet
    #[arg(long)]
    mtu: u16,
}

impl WireArgs {
    /// Returns the arguments that make these again.
    pub(crate) fn of(near: [&str; 2], far: [&str; 2], link: &super::links::Link) -> Vec<String> {
        let mut words = vec!["wire".to_owned()];
        let mut add = |name: &str, values: &[String]| {
            words.push(format!("--{name}"));
            words.extend_from_slice(values);
        };
        add("near", &near.map(str::to_owned));
        add("far", &far.map(str::to_owned));
        add("rates", &[link.down_mbit, link.up_mbit].map(|rate| rate.to_string()));
        add("delay-ms", &[(link.rtt_ms / 2.0).to_string()]);
        add("queue-ms", &[link.queue_ms.to_string()]);
        add("loss", &[link.loss.to_string()]);
        add("mtu", &[link.mtu.to_string()]);
        words
    }
}

/// Lays the wire, says so in a line, and carries until standard input ends.
pub(crate) fn run(args: &WireArgs) -> Result<()> {
    let ([near, far], [down, up]) = ([&args.near, &args.far], [args.rates[0], args.rates[1]]);
    let near = end(&near[0], &near[1], args.mtu)?;
    let far = end(&far[0], &far[1], args.mtu)?;
    let shape = |mbit: f64, seed: u64| Shape {
        bytes_per_second: mbit * 1e6 / 8.0,
        delay: Duration::from_secs_f64(args.delay_ms / 1e3),
        queue: Duration::from_millis(args.queue_ms),
        loss: args.loss,
        chance: seed,
    };
    carry(near.clone(), far.clone(), shape(up, 0x9e37_79b9_7f4a_7c15));
    carry(far, near, shape(down, 0xd1b5_4a32_d192_ed03));
    println!("laid");
    std::io::stdout().flush().doing("standard output")?;
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}

/// Makes an end of the wire in a namespace.
fn end(namespace: &str, address: &str, mtu: u16) -> Result<Arc<SyncDevice>> {
    let (path, address) = (format!("/run/netns/{namespace}"), address.to_owned());
    // A thread of its own: the namespace is the thread's, and the device stays where it was made.
    let made = std::thread::spawn(move || {
        let file = File::open(&path).doing(&path)?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).doing(&path)?;
        let device = DeviceBuilder::new().name(DEVICE).ipv4(address.as_str(), 24, None).mtu(mtu).build_sync();
        device.map(Arc::new).doing("a TUN device")
    });
    made.join().map_err(|_| Failure::Because("a thread has panicked".to_owned()))?
}

/// What happens to packets one way.
struct Shape {
    bytes_per_second: f64,
    delay: Duration,
    queue: Duration,
    loss: f64,
    /// The state of a generator of chance (xorshift): the same each time.
    chance: u64,
}

impl Shape {
    fn is_lost(&mut self) -> bool {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        ((self.chance >> 11) as f64 / (1_u64 << 53) as f64) < self.loss
    }
}

struct Packet {
    due: Instant,
    bytes: Vec<u8>,
}

fn carry(from: Arc<SyncDevice>, to: Arc<SyncDevice>, shape: Shape) {
    let (sender, receiver) = sync_channel(MOST);
    std::thread::spawn(move || take(&from, shape, &sender));
    std::thread::spawn(move || give(&to, &receiver));
}

/// Takes packets as they come, and decides when each arrives.
fn take(from: &SyncDevice, mut shape: Shape, sender: &SyncSender<Packet>) {
    let mut buffer = vec![0; 65_536];
    let mut free = Instant::now();
    while let Ok(length) = from.recv(&mut buffer) {
        let now = Instant::now();
        let begins = free.max(now);
        if begins - now > shape.queue {
            continue; // the queue is full
        }
        free = begins + Duration::from_secs_f64(length as f64 / shape.bytes_per_second);
        let packet = Packet { due: free + shape.delay, bytes: buffer[..length].to_vec() };
        if !shape.is_lost() && sender.try_send(packet).is_err() {
            continue;
        }
    }
}

fn give(to: &SyncDevice, receiver: &Receiver<Packet>) {
    while let Ok(packet) = receiver.recv() {
        let early = packet.due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            std::thread::sleep(early);
        }
        let _ = to.send(&packet.bytes); // a packet that an end does not take is lost, as on any wire
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_is_lost_as_was_asked_for() {
        let mut shape = Shape {
            bytes_per_second: 1.0,
            delay: Duration::ZERO,
            queue: Duration::ZERO,
            loss: 0.01,
            chance: 0x9e37_79b9_7f4a_7c15,
        };
        let lost = (0..100_000).filter(|_| shape.is_lost()).count();
        assert!((900..1_100).contains(&lost), "{lost}");
    }
}
