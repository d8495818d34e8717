//! How many containers there are, counted so that requests in parallel never go beyond the limit; and one request at a
//! time for each idempotency key.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::error::{Result, ServerError};

/// The containers that are being made.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    pending: Arc<Mutex<BTreeSet<String>>>,
    keys: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

/// A container that is being made; it counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// No two containers of a node have the same name, in whichever runtimes.
    name: String,
    before: BTreeSet<String>,
    pending: Arc<Mutex<BTreeSet<String>>>,
    ours: bool,
}

impl Admission {
    /// Waits until no other request with this key is under way.
    pub(crate) async fn one_at_a_time(&self, key: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            keys.retain(|_, turn| turn.strong_count() > 0);
            match keys.get(key).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::new(tokio::sync::Mutex::new(()));
                    keys.insert(key.to_owned(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }

    /// Gets in line. The containers that exist must be listed after this, and given to [`Ticket::admit`].
    pub(crate) fn enter(&self, name: String) -> Ticket {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let before = pending.clone();
        let ours = pending.insert(name.clone());
        Ticket { name, before, pending: self.pending.clone(), ours }
    }
}

impl Ticket {
    /// Decides whether there is room. Whoever entered before counts, made or not: made after that, it is in the list;
    /// else it was pending. So the last to be admitted has counted all others.
    ///
    /// # Errors
    /// [`ServerError::Full`]; [`ServerError::NameInUse`] when a container of this name is being made just now.
    pub(crate) fn admit(&self, listed: impl IntoIterator<Item = String>, limit: u32) -> Result<()> {
        if !self.ours {
            return Err(ServerError::NameInUse { name: self.name.clone() });
        }
        let mut all = self.before.clone();
        all.extend(listed);
        if all.len() < limit as usize { Ok(()) } else { Err(ServerError::Full { limit }) }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.ours {
            self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pending_counts_once() {
        let admission = Admission::default();
        let first = admission.enter("a".to_owned());
        let second = admission.enter("b".to_owned());
        first.admit([], 1).unwrap();
        assert!(matches!(second.admit([], 1), Err(ServerError::Full { limit: 1 })));
        second.admit(["a".to_owned()], 2).unwrap();
    }

    #[test]
    fn a_name_that_is_being_made_is_taken() {
        let admission = Admission::default();
        let first = admission.enter("a".to_owned());
        assert!(matches!(admission.enter("a".to_owned()).admit([], 9), Err(ServerError::NameInUse { .. })));
        drop(first);
        admission.enter("a".to_owned()).admit([], 9).unwrap();
    }
}
