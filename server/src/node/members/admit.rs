//! Who comes in: joining by a ticket, a member's new key, and who a caller is to this host.

use std::sync::Arc;
use std::time::Duration;

use gx_core::NodeId;
use gx_core::api::{IdentityInfo, JoinRequest, Role, Rotation, Whoami};
use gx_core::member::Member;
use gx_core::ticket::TicketSecret;
use tokio::sync::Semaphore;

use super::book::Joined;
use super::digest::Digest;
use crate::error::{Result, ServerError, TrustError};
use crate::node::{Caller, Node, Verb, authorize};

/// How long who shows a wrong ticket waits for the answer.
const PAUSE: Duration = Duration::from_millis(500);
/// How many wait so at a time; others are told at once to come later.
const WAITING_MAX: usize = 64;

/// Wrong tickets, which are answered slowly. Who shows a right one waits for nobody.
#[derive(Debug, Clone)]
pub(crate) struct Attempts(Arc<Semaphore>);

impl Default for Attempts {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WAITING_MAX)))
    }
}

impl Attempts {
    /// Returns what to tell of a wrong ticket, when it is time to.
    async fn slow(&self, error: ServerError) -> ServerError {
        let Ok(_place) = self.0.try_acquire() else {
            return TrustError::TooManyAttempts.into();
        };
        tokio::time::sleep(PAUSE).await;
        error
    }
}

impl Node {
    /// Makes the caller a member, by a ticket. The same node with the same ticket again is told the same, and uses
    /// nothing.
    ///
    /// # Errors
    /// [`TrustError::NoKey`], [`TrustError::Itself`]; [`TrustError::NoSuchInvite`], [`TrustError::WrongSecret`],
    /// [`TrustError::Expired`], [`TrustError::UsedUp`], [`TrustError::Removed`], [`TrustError::TooManyAttempts`];
    /// [`TrustError::Full`], [`TrustError::Damaged`]; [`ServerError::State`].
    pub async fn join(&self, caller: &Caller, request: JoinRequest) -> Result<Whoami> {
        let node = joining(caller)?;
        authorize(caller, Verb::Join, None)?;
        match self.admit(node, request).await {
            Ok(()) => Ok(self.told_who(&self.caller_of(node))),
            Err(ServerError::Trust(error)) if is_refusal(&error) => {
                tracing::info!(%node, %error, "a join was refused");
                Err(self.attempts.slow(error.into()).await)
            }
            Err(error) => Err(error),
        }
    }

    /// Notes a member's new key: from now on it is the member, and what was made under the old one is its own.
    ///
    /// # Errors
    /// [`TrustError::NoKey`], [`TrustError::Itself`], [`TrustError::NotYours`], [`TrustError::Unsigned`];
    /// [`TrustError::NoMember`], [`TrustError::Damaged`]; [`ServerError::State`].
    pub async fn rotate(&self, caller: &Caller, rotation: Rotation) -> Result<Whoami> {
        let node = joining(caller)?;
        authorize(caller, Verb::Join, None)?;
        // Anybody may have seen it: only who has the new key may say when it holds.
        if rotation.to != node {
            return Err(TrustError::NotYours.into());
        }
        if !gx_identity::is_signed(&rotation) {
            return Err(TrustError::Unsigned.into());
        }
        let from = rotation.from;
        // In memory first: who is nobody here costs neither the disk nor anybody's turn.
        self.members.list()?.book.check_rotation(from, node, super::now())?;
        self.members.change(move |book, now| book.rotate(from, node, now)).await?;
        tracing::info!(%from, to = %node, "a member has a new key");
        Ok(self.told_who(&self.caller_of(node)))
    }

    /// Returns who this host is, and which keys it had.
    ///
    /// # Errors
    /// [`ServerError::NotAllowed`].
    pub async fn identity(&self, caller: &Caller) -> Result<IdentityInfo> {
        authorize(caller, Verb::Describe, None)?;
        Ok(IdentityInfo { id: self.id(), rotations: self.rotations.clone() })
    }

    async fn admit(&self, node: NodeId, request: JoinRequest) -> Result<()> {
        let JoinRequest { invite, secret } = request;
        let secret = TicketSecret::from_text(&secret).ok_or(TrustError::WrongSecret)?;
        let digest = Digest::of(&secret.0);
        // In memory first: a wrong ticket costs neither the disk nor anybody's turn.
        if self.members.list()?.book.check(node, &invite, &digest, super::now())? == Joined::Again {
            return Ok(());
        }
        let id = invite.clone();
        let joined = self.members.change(move |book, now| book.join(node, &id, &digest, now)).await?;
        if joined == Joined::New {
            tracing::info!(%node, %invite, "a node has joined");
        }
        Ok(())
    }

    /// Returns who the caller is to this host, and what it may have.
    ///
    /// # Errors
    /// [`ServerError::NotAllowed`].
    pub async fn whoami(&self, caller: &Caller) -> Result<Whoami> {
        authorize(caller, Verb::Describe, None)?;
        let containers = match caller {
            Caller::Stranger(_) => None,
            Caller::Host | Caller::Member(_) => {
                let listing = self.seen(caller, &[]).await;
                listing.ok().and_then(|listing| u32::try_from(listing.found.len()).ok())
            }
        };
        Ok(Whoami { containers, ..self.told_who(caller) })
    }

    fn told_who(&self, caller: &Caller) -> Whoami {
        let (role, id, member) = match caller {
            Caller::Host => (Role::Host, Some(self.id()), None),
            Caller::Member(member) => {
                // What holds for it, not only what was said of it when it was let in.
                let allowance = member.allowance.or(self.server.member);
                (Role::Member, Some(member.id), Some(Member { allowance, ..(**member).clone() }))
            }
            Caller::Stranger(id) => (Role::Stranger, *id, None),
        };
        let hostname = sysinfo::System::host_name().unwrap_or_default();
        Whoami { host: self.id(), hostname, role, id, member, containers: None }
    }
}

/// Returns the key that somebody would be a member by.
fn joining(caller: &Caller) -> Result<NodeId, TrustError> {
    match caller {
        Caller::Host => Err(TrustError::Itself),
        Caller::Stranger(None) => Err(TrustError::NoKey),
        Caller::Stranger(Some(id)) => Ok(*id),
        Caller::Member(member) => Ok(member.id),
    }
}

/// Returns whether it is the ticket that is not good enough.
fn is_refusal(error: &TrustError) -> bool {
    matches!(
        error,
        TrustError::NoSuchInvite
            | TrustError::WrongSecret
            | TrustError::Expired { .. }
            | TrustError::UsedUp { .. }
            | TrustError::Removed
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wrong_tickets_are_answered_slowly_and_only_so_many_wait() {
        let attempts = Attempts::default();
        let began = std::time::Instant::now();
        let all = (0..WAITING_MAX + 1).map(|_| attempts.slow(TrustError::WrongSecret.into()));
        let told: Vec<String> =
            futures_util::future::join_all(all).await.iter().map(ToString::to_string).collect();
        assert!(began.elapsed() >= PAUSE);
        assert!(told[WAITING_MAX].starts_with("too many wrong tickets"), "{}", told[WAITING_MAX]);
        assert!(told[..WAITING_MAX].iter().all(|told| told == "the secret of the ticket is wrong"));
    }
}
