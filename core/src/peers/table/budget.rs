//! How often a server may connect to addresses nobody has proved, so that a posted row makes it no weapon.

use crate::id::Timestamp;

/// So many dials a minute to addresses that were never reached.
const PER_MINUTE: u32 = 10;

/// What is left of the dials of this minute.
#[derive(Debug, Clone, Copy, Default)]
pub struct DialBudget {
    minute: i64,
    spent: u32,
}

impl DialBudget {
    /// Takes one dial; `false` when there is none left until the next minute.
    pub fn take(&mut self, now: Timestamp) -> bool {
        let minute = now.unix().div_euclid(60);
        if minute > self.minute {
            *self = Self { minute, spent: 0 };
        }
        // A clock that was set back brings no new dials until it has caught up or an hour is between.
        if self.minute - minute > 60 {
            *self = Self { minute, spent: 0 };
        }
        self.spent += 1;
        self.spent <= PER_MINUTE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_a_minute_whatever_the_clock_does() {
        let mut budget = DialBudget::default();
        let at = |s: i64| Timestamp::from_unix(1_000_000_020 + s);
        let taken = (0..100).filter(|_| budget.take(at(0))).count();
        assert_eq!(taken, 10);
        assert!(!budget.take(at(-120)), "a clock set back brings none");
        assert!(budget.take(at(60)));
        assert!(budget.take(at(-7_200)), "unless it is set back for good");
    }
}
