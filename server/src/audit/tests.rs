//! Tests of the audit log: whole lines whatever happens, bounded, private, and in nobody's way.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use gx_core::Timestamp;
use gx_core::audit::{AuditEvent, CallerKind};
use gx_core::units::Size;

use super::*;

fn entry(number: u64, caller: CallerKind) -> AuditEntry {
    AuditEntry {
        time: Timestamp::from_unix(0),
        request: format!("r{number}"),
        event: AuditEvent::Request,
        caller,
        node: None,
        name: None,
        user: None,
        from: "192.0.2.1:5".to_owned(),
        verb: "POST /v1/containers".to_owned(),
        container: None,
        allowed: true,
        code: None,
        status: 201,
        ms: number,
        missing: 0,
    }
}

fn lines(path: &Path) -> Vec<AuditEntry> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn log(data: &Path, config: AuditConfig) -> file::Log {
    file::Log::new(data, &config, Arc::default())
}

#[test]
fn what_is_recorded_is_in_a_private_file_in_order() {
    let data = tempfile::tempdir().unwrap();
    let audit = Audit::new(data.path(), AuditConfig::default());
    (0..100).for_each(|number| audit.record(entry(number, CallerKind::Member)));
    drop(audit);
    let path = data.path().join("audit.log");
    assert_eq!(lines(&path).iter().map(|entry| entry.ms).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn without_a_log_there_is_no_file() {
    let data = tempfile::tempdir().unwrap();
    let audit = Audit::new(data.path(), AuditConfig { enabled: false, ..AuditConfig::default() });
    audit.record(entry(1, CallerKind::Host));
    drop(audit);
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
}

#[test]
fn half_a_line_that_a_crash_left_is_cut_off() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("audit.log");
    let whole = serde_json::to_string(&entry(1, CallerKind::Host)).unwrap();
    for (left, kept) in [
        (&whole[..20], 0),
        (&whole, 0),
        ("", 0),
        (&format!("{whole}\n{{\"ti"), 1),
        (&format!("{whole}\n"), 1),
    ] {
        fs::write(&path, left).unwrap();
        log(data.path(), AuditConfig::default()).write(entry(2, CallerKind::Host));
        assert_eq!(lines(&path).len(), kept + 1, "{left:?}");
    }
}

#[test]
fn files_are_rotated_by_size_and_the_oldest_goes() {
    let data = tempfile::tempdir().unwrap();
    let config = AuditConfig { max_size: Size(1_000), files: 3.try_into().unwrap(), enabled: true };
    let mut log = log(data.path(), config);
    (0..100).for_each(|number| log.write(entry(number, CallerKind::Host)));
    let mut names: Vec<_> = fs::read_dir(data.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["audit.log", "audit.log.1", "audit.log.2"]);
    let all: Vec<u64> = ["audit.log.2", "audit.log.1", "audit.log"]
        .iter()
        .flat_map(|name| {
            let path = data.path().join(name);
            assert!(fs::metadata(&path).unwrap().len() <= 1_000);
            lines(&path)
        })
        .map(|entry| entry.ms)
        .collect();
    assert_eq!(*all.last().unwrap(), 99);
    assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "{all:?}");
    // With fewer configured, those there are too many go with the next rotation.
    let config = AuditConfig { files: 1.try_into().unwrap(), ..config };
    let mut log = self::log(data.path(), config);
    (0..10).for_each(|number| log.write(entry(number, CallerKind::Host)));
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1);
}

#[test]
fn a_log_that_cannot_be_written_counts_and_says_so_when_it_can() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("audit.log");
    fs::create_dir(&path).unwrap(); // as good as a full disk: nothing can be written to it
    let counts: Arc<Counts> = Arc::default();
    let mut log = file::Log::new(data.path(), &AuditConfig::default(), counts.clone());
    (0..3).for_each(|number| log.write(entry(number, CallerKind::Host)));
    assert_eq!(counts.all.load(Ordering::Relaxed), 3);
    fs::remove_dir(&path).unwrap();
    log.write(entry(3, CallerKind::Host));
    log.write(entry(4, CallerKind::Host));
    let missing: Vec<u64> = lines(&path).iter().map(|entry| entry.missing).collect();
    assert_eq!(missing, [3, 0]);
}

#[test]
fn strangers_cannot_fill_the_log_with_themselves() {
    let data = tempfile::tempdir().unwrap();
    let audit = Audit::new(data.path(), AuditConfig::default());
    let bearable =
        (0..1_000).filter(|number| audit.record_if_bearable(entry(*number, CallerKind::Stranger))).count();
    audit.record(entry(1_000, CallerKind::Member));
    let missing = audit.missing();
    drop(audit);
    let written = lines(&data.path().join("audit.log"));
    assert!((200..300).contains(&bearable), "{bearable}");
    assert_eq!(written.len(), bearable + 1);
    assert_eq!(written.last().unwrap().ms, 1_000);
    assert_eq!(written.iter().map(|entry| entry.missing).sum::<u64>(), missing);
    assert_eq!(written.len() as u64 + missing, 1_001);
}
