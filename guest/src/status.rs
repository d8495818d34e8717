//! What goes on in the container: logged-in connections, and the processor time of everything but the guest.

use std::time::Instant;

use gx_core::guest::Status;

/// The connections that are logged in, and what was seen before.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    now: u32,
    last_ended: Option<Instant>,
    cpu_ms: u64,
}

impl Sessions {
    /// A connection has logged in.
    pub(crate) fn begun(&mut self) {
        self.now += 1;
    }

    /// A connection that was logged in is gone.
    pub(crate) fn ended(&mut self, now: Instant) {
        self.now = self.now.saturating_sub(1);
        self.last_ended = Some(now);
    }

    /// Returns the state of things. Processor time never goes back, though processes that the engine started beside
    /// the guest take theirs with them when they end.
    pub(crate) fn status(&mut self, now: Instant, changed: bool) -> Status {
        self.cpu_ms = self.cpu_ms.max(cpu_ms());
        let idle = self.last_ended.filter(|_| self.now == 0);
        let idle_s = idle.map(|ended| now.saturating_duration_since(ended).as_secs());
        Status { sessions: self.now, idle_s, changed, cpu_ms: self.cpu_ms }
    }
}

/// Adds up /proc: what lives has its own time and that of its dead children, and the guest has those it reaped.
fn cpu_ms() -> u64 {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = processes.filter_map(|entry| entry.file_name().into_string().ok());
    let numbers = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let ticks: u64 = numbers
        .filter_map(|name| {
            let stat = std::fs::read_to_string(format!("/proc/{name}/stat")).ok()?;
            let times = Times::parse(&stat)?;
            Some(if name == own { times.children } else { times.own + times.children })
        })
        .sum();
    ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second()
}

/// Processor time in clock ticks.
#[derive(Debug, PartialEq, Eq)]
struct Times {
    own: u64,
    children: u64,
}

impl Times {
    /// Reads the fields 14 to 17 of proc_pid_stat(5). The name before them may hold anything, brackets too.
    fn parse(stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
        let mut next = || fields.next().flatten();
        Some(Self { own: next()? + next()?, children: next()? + next()? })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_of_proc_is_read_with_any_name_in_it() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194560 5 6 0 0 100 20 3 4 20 0 1 0 9 1 2";
        assert_eq!(Times::parse(line), Some(Times { own: 120, children: 7 }));
        assert_eq!(Times::parse("7 (x"), None);
        assert_eq!(Times::parse("7 (x) S 1"), None);
    }

    #[test]
    fn idle_is_since_the_last_one_ended() {
        let mut sessions = Sessions::default();
        let now = Instant::now();
        assert_eq!(sessions.status(now, false).idle_s, None);
        sessions.begun();
        sessions.begun();
        sessions.ended(now);
        let status = sessions.status(now + Duration::from_secs(5), false);
        assert_eq!((status.sessions, status.idle_s), (1, None));
        sessions.ended(now);
        let status = sessions.status(now + Duration::from_secs(5), false);
        assert_eq!((status.sessions, status.idle_s), (0, Some(5)));
    }
}
