//! Whoever waits for an answer that has come at once lately stays awake for it: to sleep and be woken takes longer
//! than a short call. Plugins that take their time are waited for asleep.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

/// How long an answer is waited for awake.
const AWAKE: Duration = Duration::from_micros(50);
/// After so many answers in a row that took longer, only one in [`AGAIN`] is waited for awake.
const PATIENCE: u32 = 4;
/// See [`PATIENCE`].
const AGAIN: u32 = 64;

/// What is known of how fast a plugin answers.
#[derive(Debug)]
pub(crate) struct Eager {
    /// Answers in a row that were not there in time.
    late: AtomicU32,
    alone: bool,
}

impl Eager {
    pub(crate) fn new() -> Self {
        // With one CPU the plugin could not run meanwhile.
        Self { late: AtomicU32::new(0), alone: available_parallelism().map_or(1, usize::from) == 1 }
    }

    /// Waits awake, where that has been worth it; `None`: it is not there yet, or never will be.
    pub(crate) fn wait<T>(&self, answer: &mut oneshot::Receiver<T>) -> Option<T> {
        if !self.is_worth_it() {
            return None;
        }
        let begun = Instant::now();
        loop {
            match answer.try_recv() {
                Ok(answer) => {
                    self.late.store(0, Ordering::Relaxed);
                    return Some(answer);
                }
                Err(TryRecvError::Closed) => return None,
                // Whoever is to answer may be waiting for this very CPU.
                Err(TryRecvError::Empty) if begun.elapsed() < AWAKE => std::thread::yield_now(),
                Err(TryRecvError::Empty) => {
                    self.late.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
            }
        }
    }

    fn is_worth_it(&self) -> bool {
        let late = self.late.load(Ordering::Relaxed);
        if self.alone {
            return false;
        }
        if late < PATIENCE {
            return true;
        }
        self.late.store(PATIENCE + (late + 1 - PATIENCE) % AGAIN, Ordering::Relaxed);
        late == PATIENCE + AGAIN - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_takes_its_time_is_seldom_waited_for_awake() {
        let eager = Eager { late: AtomicU32::new(0), alone: false };
        let (_sender, mut never) = oneshot::channel::<()>();
        for _ in 0..PATIENCE {
            assert!(eager.is_worth_it());
            assert_eq!(eager.wait(&mut never), None);
        }
        assert_eq!((0..10 * AGAIN).filter(|_| eager.is_worth_it()).count(), 10);
    }

    #[test]
    fn an_answer_in_time_is_taken_and_makes_eager_again() {
        let eager = Eager { late: AtomicU32::new(PATIENCE - 1), alone: false };
        let (sender, mut answer) = oneshot::channel();
        sender.send(7).unwrap();
        assert_eq!(eager.wait(&mut answer), Some(7));
        assert_eq!(eager.late.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn with_one_cpu_nobody_waits_awake() {
        let eager = Eager { late: AtomicU32::new(0), alone: true };
        let (sender, mut answer) = oneshot::channel();
        sender.send(7).unwrap();
        assert_eq!(eager.wait(&mut answer), None);
    }
}
