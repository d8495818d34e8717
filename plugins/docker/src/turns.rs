//! One at a time for each name, and for different names at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// Who is at what.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Weak<Turn<()>>>>);

impl Turns {
    /// Waits for the turn of a name; it lasts as long as the returned value.
    pub(crate) async fn take(&self, name: String) -> OwnedMutexGuard<()> {
        self.turn(name).lock_owned().await
    }

    fn turn(&self, name: String) -> Arc<Turn<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(&name).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(Turn::new(()));
        turns.insert(name, Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn one_name_has_one_turn() {
        let turns = Turns::default();
        let first = turns.take("a".to_owned()).await;
        assert!(turns.take("a".to_owned()).now_or_never().is_none());
        let other = turns.take("b".to_owned()).now_or_never();
        drop(first);
        assert!(turns.take("a".to_owned()).now_or_never().is_some() && other.is_some());
        drop(other);
        drop(turns.take("c".to_owned()).await);
        assert_eq!(turns.0.lock().unwrap().len(), 1, "what is over is forgotten");
    }
}
