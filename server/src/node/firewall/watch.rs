//! Notices changes of the rules, by the kernel's own messages (netlink(7), the group of nf_tables): whoever flushes the
//! rules, or loads others in their place, opens nothing for longer than it takes to write them again.

use std::io;

use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use tokio::net::unix::pipe::Receiver;

use crate::node::Node;

/// The group of those who want to know of changes of rules (`NFNLGRP_NFTABLES`, 7), as a mask.
const CHANGES: u32 = 1 << 6;
/// The longest message; a longer one is cut off, and taken for a change.
const MESSAGE: usize = 64 * 1024;

impl Node {
    /// Keeps the rules of members' containers standing for ever, whoever takes them away.
    pub(crate) async fn keep_firewall(&self) {
        if !self.policy.firewall {
            return;
        }
        let watch = match TableWatch::new(&self.firewall.table) {
            Ok(watch) => watch,
            // Without the right to hear of changes there is none to write rules either, and no member has a container.
            Err(error) => return tracing::debug!(%error, "changes of the firewall cannot be watched"),
        };
        loop {
            if let Err(error) = watch.changed().await {
                return tracing::warn!(%error, "changes of the firewall cannot be watched any more");
            }
            if let Err(error) = self.firewall.restore().await {
                tracing::error!(%error, hint = error.hint(), "members' containers are not closed off");
            }
        }
    }
}

/// What tells of changes of one table. Messages are read as from a pipe, which is what the socket looks like to a program.
struct TableWatch {
    messages: Receiver,
    /// How its name looks in a message: an attribute that ends in a zero.
    name: Vec<u8>,
}

impl TableWatch {
    fn new(table: &str) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))?;
        bind(&socket, &SocketAddrNetlink::new(0, CHANGES))?;
        let name = [table.as_bytes(), b"\0"].concat();
        Ok(Self { messages: Receiver::from_owned_fd_unchecked(socket)?, name })
    }

    /// Waits until the table may have changed since the last time. What others do with their own tables costs a look
    /// at each message, and nothing else.
    async fn changed(&self) -> io::Result<()> {
        let mut message = vec![0; MESSAGE];
        let mut ours = false;
        loop {
            match self.messages.try_read(&mut message) {
                Ok(length) => ours |= length == MESSAGE || self.is_in(&message[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // More has changed than the kernel keeps for us.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => ours = true,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Err(_) if ours => return Ok(()),
                Err(_) => self.messages.readable().await?,
            }
        }
    }

    fn is_in(&self, message: &[u8]) -> bool {
        message.windows(self.name.len()).any(|part| part == self.name)
    }
}
