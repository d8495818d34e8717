//! How people read times, sizes and ports.

use gx_core::Timestamp;
use gx_core::api::PublishedPort;
use gx_core::measurement::BitsPerSecond;
use time::{Duration, OffsetDateTime};

/// Returns a time to the second.
pub(crate) fn moment(at: Timestamp) -> String {
    let seconds = at.0.replace_nanosecond(0).unwrap_or(at.0);
    Timestamp(seconds).to_string()
}

/// Returns how long ago something was: `3 minutes ago`.
pub(crate) fn ago(at: Timestamp, now: OffsetDateTime) -> String {
    format!("{} ago", roughly(now - at.0))
}

/// From when on it is time to think of the end of a lease.
const SHORT: Duration = Duration::minutes(10);

/// Returns how long there is until something in two units, cut off: `1h 59m`, `45s`, `over`.
pub(crate) fn left(at: Timestamp, now: OffsetDateTime) -> String {
    let seconds = (at.0 - now).whole_seconds();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match seconds {
        ..0 => "over".to_owned(),
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m"),
        3_600..86_400 => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// Returns whether there is little time until something.
pub(crate) fn is_soon(at: Timestamp, now: OffsetDateTime) -> bool {
    at.0 - now < SHORT
}

/// Returns a span in its largest unit. A negative one, which clocks that disagree make, counts as none.
fn roughly(span: Duration) -> String {
    let seconds = span.whole_seconds().max(0);
    let (number, unit) = match seconds {
        ..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

/// Returns so many bytes with three digits and a unit of 1024: `1.5 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit < UNITS.len() - 1 {
        value /= 1_024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if value < 9.995 => format!("{value:.2} {}", UNITS[unit]),
        _ if value < 99.95 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// Returns a rate with three digits: `93.8 Mbit/s`.
pub(crate) fn rate(rate: BitsPerSecond) -> String {
    let mbit = rate.0 / 1e6;
    match mbit {
        ..9.995 => format!("{mbit:.2} Mbit/s"),
        ..99.95 => format!("{mbit:.1} Mbit/s"),
        _ => format!("{mbit:.0} Mbit/s"),
    }
}

const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// Returns published ports, as `127.0.0.1:20000 → 80/tcp`; those of gx itself by their names.
pub(crate) fn ports(ports: &[PublishedPort]) -> String {
    let one = |port: &PublishedPort| match &port.name {
        Some(name) => format!("{} → {name}", port.address()),
        None => format!("{} → {}/{}", port.address(), port.container_port, port.protocol),
    };
    ports.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Returns thousandths of a CPU as CPUs: `1.5`.
pub(crate) fn cpus(milli: u32) -> String {
    let text = format!("{:.3}", f64::from(milli) / 1_000.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rough_and_never_negative() {
        let now = Timestamp::from_unix(1_000_000).0;
        assert_eq!(ago(Timestamp::from_unix(1_000_000 - 61), now), "1 minute ago");
        assert_eq!(ago(Timestamp::from_unix(1_000_009), now), "0 seconds ago");
        assert_eq!(ago(Timestamp::from_unix(0), now), "11 days ago");
        let until = |seconds: i64| left(Timestamp::from_unix(1_000_000 + seconds), now);
        assert_eq!((until(7_199), until(3_599), until(59)), ("1h 59m".into(), "59m".into(), "59s".into()));
        assert_eq!((until(90_000), until(0), until(-1)), ("1d 1h".into(), "0s".into(), "over".into()));
        assert!(is_soon(Timestamp::from_unix(1_000_599), now));
        assert!(!is_soon(Timestamp::from_unix(1_000_600), now));
        let exact: Timestamp = "2026-11-21T23:39:28.804763931Z".parse().unwrap();
        assert_eq!(moment(exact), "2026-11-21T23:39:28Z");
    }

    #[test]
    fn sizes_have_three_digits() {
        for (number, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "0.98 KiB"),
            (1_536, "1.50 KiB"),
            (2 << 30, "2.00 GiB"),
            (123 << 20, "123 MiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn rates_are_of_megabits() {
        let text = |bps| rate(BitsPerSecond(bps));
        assert_eq!(
            [text(0.0), text(93_840_000.0), text(2.5e9)],
            ["0.00 Mbit/s", "93.8 Mbit/s", "2500 Mbit/s"]
        );
    }

    #[test]
    fn ports_and_cpus() {
        let port = PublishedPort {
            name: None,
            container_port: 80,
            protocol: gx_core::Protocol::Tcp,
            host_address: "::1".parse().unwrap(),
            host_port: 20_000,
        };
        let named = PublishedPort { name: Some("ssh".into()), ..port.clone() };
        assert_eq!(ports(&[port, named]), "[::1]:20000 → 80/tcp, [::1]:20000 → ssh");
        assert_eq!((cpus(1_500), cpus(2_000), cpus(1)), ("1.5".into(), "2".into(), "0.001".into()));
    }
}
