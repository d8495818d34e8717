//! When a container has been idle for long enough: pure, the moment is passed in.

use std::time::Duration;

use gx_core::Timestamp;
use tokio::time::Instant;

/// The longest time between two looks that a short time to be idle makes necessary.
const PACE: Duration = Duration::from_secs(30);
/// How often it is looked within a long time to be idle.
const LOOKS: u32 = 10;
/// This part of a CPU, and more, is work: one in a hundred.
const WORK_PART: u64 = 100;

/// What was seen of a running container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Whether anybody is in it.
    pub(crate) session: bool,
    /// How long ago the last session ended, where that is known.
    pub(crate) ended: Option<Duration>,
    /// Processor time used since it was started, in milliseconds.
    pub(crate) cpu_ms: u64,
    /// When it was started, as the engine tells: another time is another life, with a count of its own.
    pub(crate) started_at: Option<Timestamp>,
}

/// Since when a container is quiet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quiet {
    since: Instant,
    looked: Instant,
    cpu_ms: u64,
    started_at: Option<Timestamp>,
}

impl Quiet {
    /// Returns since when it is quiet, by what is seen now and what was known before. A first look, and the first one
    /// after a start, has nothing to compare with: it counts as work.
    pub(crate) fn after(before: Option<&Self>, seen: &Seen, now: Instant) -> Self {
        let same_life = before.filter(|b| b.started_at == seen.started_at && b.cpu_ms <= seen.cpu_ms);
        let since = match same_life {
            Some(before) if !seen.session && !before.has_worked(seen.cpu_ms, now) => {
                let ended = seen.ended.and_then(|ago| now.checked_sub(ago));
                before.since.max(ended.unwrap_or(before.since))
            }
            _ => now,
        };
        Self { since, looked: now, cpu_ms: seen.cpu_ms, started_at: seen.started_at }
    }

    fn has_worked(&self, cpu_ms: u64, now: Instant) -> bool {
        let used = u128::from(cpu_ms.saturating_sub(self.cpu_ms));
        used * u128::from(WORK_PART) >= now.saturating_duration_since(self.looked).as_millis()
    }

    /// Notes that somebody was in it until now.
    pub(crate) fn left(&mut self, now: Instant) {
        self.since = self.since.max(now);
    }

    /// Returns whether it has been quiet for this long.
    pub(crate) fn lasts(&self, limit: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= limit
    }
}

/// Returns the time between two looks: a tenth of the limit but at least [`PACE`], so that one of the looks is when the
/// limit is reached.
pub(crate) fn interval(limit: Duration) -> Duration {
    let wanted = PACE.max(limit / LOOKS);
    let looks = (limit.as_millis() / wanted.as_millis()).max(1);
    limit / u32::try_from(looks).unwrap_or(LOOKS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(1_800);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// Looks every three minutes, and returns after how many of them it is to be stopped.
    fn looks_until_stopped(seen: impl Fn(u64) -> Seen) -> Option<u64> {
        let begin = Instant::now();
        let mut quiet = None;
        (0..100).find(|look| {
            let now = begin + interval(LIMIT) * u32::try_from(*look).unwrap();
            let next = Quiet::after(quiet.as_ref(), &seen(*look), now);
            quiet.insert(next).lasts(LIMIT, now)
        })
    }

    #[test]
    fn one_that_nobody_uses_is_stopped_at_the_limit() {
        assert_eq!(looks_until_stopped(|_| Seen { cpu_ms: 7_000, ..Seen::default() }), Some(10));
    }

    #[test]
    fn less_than_a_hundredth_of_a_cpu_is_no_work() {
        let used = |ms: u64| move |look: u64| Seen { cpu_ms: look * ms, ..Seen::default() };
        assert_eq!(looks_until_stopped(used(1_799)), Some(10), "in 180 s");
        assert_eq!(looks_until_stopped(used(1_800)), None);
        assert_eq!(looks_until_stopped(used(u64::MAX / 100)), None);
    }

    #[test]
    fn a_session_keeps_it_and_its_end_is_when_it_becomes_idle() {
        assert_eq!(looks_until_stopped(|_| Seen { session: true, ..Seen::default() }), None);
        let until = |look| Seen { session: look < 5, ..Seen::default() };
        assert_eq!(looks_until_stopped(until), Some(14));
        // It ended one second before the sixth look.
        let ended = |look: u64| (look >= 5).then(|| seconds((look - 5) * 180 + 1));
        let told = |look| Seen { ended: ended(look), ..until(look) };
        assert_eq!(looks_until_stopped(told), Some(15));
        // One between two looks.
        let between = |look: u64| Seen {
            ended: (look >= 7).then(|| seconds((look - 7) * 180 + 90)),
            ..Seen::default()
        };
        assert_eq!(looks_until_stopped(between), Some(17));
    }

    #[test]
    fn a_session_that_ended_before_anybody_looked_does_not_stop_it_at_once() {
        let long_ago = Seen { ended: Some(LIMIT * 2), ..Seen::default() };
        assert_eq!(looks_until_stopped(|_| long_ago), Some(10));
        let longer_than_time = Seen { ended: Some(Duration::MAX), ..Seen::default() };
        assert_eq!(looks_until_stopped(|_| longer_than_time), Some(10));
    }

    #[test]
    fn a_start_begins_anew() {
        let lives = |look: u64| Seen {
            started_at: Some(Timestamp::from_unix(if look < 6 { 100 } else { 200 })),
            ..Seen::default()
        };
        assert_eq!(looks_until_stopped(lives), Some(16));
        let counted_anew = |look: u64| Seen { cpu_ms: if look < 6 { 50 } else { 0 }, ..Seen::default() };
        assert_eq!(looks_until_stopped(counted_anew), Some(16));
    }

    #[test]
    fn who_has_just_left_was_in_it_until_now() {
        let begin = Instant::now();
        let mut quiet = Quiet::after(None, &Seen::default(), begin);
        quiet.left(begin + seconds(60));
        quiet.left(begin + seconds(50));
        assert!(!quiet.lasts(seconds(100), begin + seconds(159)));
        assert!(quiet.lasts(seconds(100), begin + seconds(160)));
    }

    #[test]
    fn looks_are_rare_and_one_is_at_the_limit() {
        for (limit, every) in [(2, 2), (30, 30), (45, 45), (75, 37), (300, 30), (1_800, 180)] {
            assert_eq!(interval(seconds(limit)).as_secs(), every, "{limit}");
        }
    }

    proptest! {
        #[test]
        fn looks_keep_their_pace(limit in 1_u64..=100 * 366 * 86_400) {
            let (limit, every) = (seconds(limit), interval(seconds(limit)));
            prop_assert!(every <= limit && every >= PACE.min(limit) && every >= limit / LOOKS);
            let looks = u32::try_from((limit.as_nanos() + every.as_nanos() / 2) / every.as_nanos()).unwrap();
            prop_assert!((every * looks).abs_diff(limit) < Duration::from_micros(1));
        }

        /// Whatever happens: it is stopped when, and only when, nothing has gone on for the limit.
        #[test]
        fn it_is_stopped_when_nothing_went_on_for_the_limit(
            looks in prop::collection::vec((1_u64..10_000, 0_u8..8, 0_u64..20_000, 0_u64..200), 1..60),
            limit in 1_u64..30_000,
        ) {
            let begin = Instant::now();
            let ms = Duration::from_millis;
            let (mut at, mut cpu_ms, mut life, mut last) = (0, 0, 0, 0);
            let mut quiet: Option<Quiet> = None;
            for (index, (gap, event, ago, used)) in looks.into_iter().enumerate() {
                at += gap;
                cpu_ms += used;
                life += i64::from(event == 1);
                let ended = (event == 2).then_some(ago);
                if index == 0 || event <= 1 || used * 100 >= gap {
                    last = at;
                } else if let Some(ago) = ended {
                    last = last.max(at.saturating_sub(ago));
                }
                let seen = Seen {
                    session: event == 0,
                    ended: ended.map(ms),
                    cpu_ms,
                    started_at: Some(Timestamp::from_unix(life)),
                };
                let next = Quiet::after(quiet.as_ref(), &seen, begin + ms(at));
                prop_assert_eq!(next.lasts(ms(limit), begin + ms(at)), at - last >= limit);
                quiet = Some(next);
            }
        }
    }
}
