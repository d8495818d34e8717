//! Longer leases. An engine's labels cannot change after create, so the new end is in a small file, one for each
//! container: `DATA/leases/RUNTIME/ID`. Without it the label holds.
//!
//! Files are written beside and renamed, so that a crash leaves the old end or the new one, and under a lock, so that
//! of two extensions at once none is lost.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use gx_core::api::{ContainerInfo, ExtendRequest};
use gx_core::units::Span;
use gx_core::{Container, ContainerId, PluginName, Timestamp};

use super::Node;
use super::caller::Caller;
use super::containers::info;
use super::lock::LeaseLock;
use super::policy::LEASE_MAX_S;
use super::replace::replace;
use crate::error::{Result, ServerError};

/// How long another process is waited for that makes a lease longer, or looks whether one is over.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// The longest file that is read: a time is half as long.
const FILE_MAX: u64 = 64;

/// The ends of leases that were made longer.
#[derive(Debug, Clone)]
pub(crate) struct Extensions {
    folder: PathBuf,
    lock: LeaseLock,
}

impl Extensions {
    pub(crate) fn new(data: &Path) -> Self {
        Self { folder: data.join("leases"), lock: LeaseLock::new(data) }
    }

    pub(super) fn lock(&self) -> &LeaseLock {
        &self.lock
    }

    fn path(&self, name: &PluginName, id: &ContainerId) -> PathBuf {
        self.folder.join(name.as_str()).join(id.as_str())
    }

    /// Returns the end that a lease was given after it was made. A file that cannot be read counts for nothing, and
    /// is told of in the log.
    pub(super) fn get(&self, name: &PluginName, id: &ContainerId) -> Option<Timestamp> {
        let path = self.path(name, id);
        let mut text = String::new();
        let read = File::open(&path).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
        match read.map(|_| text.trim_end().parse()) {
            Ok(Ok(end)) => Some(end),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the end of a lease cannot be read");
                None
            }
            Ok(Err(error)) => {
                tracing::warn!(path = %path.display(), %error, "the end of a lease is damaged");
                None
            }
        }
    }

    fn set(&self, name: &PluginName, id: &ContainerId, end: Timestamp) -> Result<()> {
        let path = self.path(name, id);
        let folder = self.folder.join(name.as_str());
        let draft = folder.join(format!(".{}.{}", id.as_str(), std::process::id()));
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        let written = made.and_then(|()| replace(&draft, &path, format!("{end}\n").as_bytes()));
        written.map_err(ServerError::state("write", &path))
    }

    /// Forgets a container that is gone.
    pub(super) fn forget(&self, name: &PluginName, id: &ContainerId) {
        let path = self.path(name, id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "cannot forget a lease");
            }
            _ => {}
        }
    }

    /// Forgets all containers of a runtime but these, and drafts that a crash has left.
    pub(super) fn sweep(&self, name: &PluginName, there: &BTreeSet<&str>) {
        let files = fs::read_dir(self.folder.join(name.as_str())).into_iter().flatten().flatten();
        for file in files.filter(|file| file.file_name().to_str().is_none_or(|id| !there.contains(id))) {
            if let Err(error) = fs::remove_file(file.path()) {
                tracing::warn!(path = %file.path().display(), %error, "cannot forget a lease");
            }
        }
    }
}

impl Node {
    /// Makes a container's lease longer: the time is added to its end.
    ///
    /// # Errors
    /// [`ServerError::Invalid`]; those of a reference; [`ServerError::NoLease`], [`ServerError::LeaseOver`];
    /// [`ServerError::LeaseLimit`], for others than the host itself; [`ServerError::State`].
    pub async fn extend(
        &self,
        caller: &Caller,
        reference: &str,
        request: ExtendRequest,
    ) -> Result<ContainerInfo> {
        if request.by_s == 0 || request.by_s > LEASE_MAX_S {
            let longest = Span(Duration::from_secs(LEASE_MAX_S));
            return Err(ServerError::invalid("by_s", format!("a lease grows by 1s to {longest} at a time")));
        }
        let found = self.resolve(caller, reference).await?;
        let (name, id) = (found.name, found.container.id.clone());
        let _alone = self.extensions.lock().take(LOCK_PATIENCE).await?;
        let mut told = self.told(&name, found.container);
        let now = Timestamp::from(SystemTime::now());
        let limit = self.frame(caller).longest_lease().unwrap_or(Duration::from_secs(LEASE_MAX_S));
        let end = longer(&told.name, told.expires_at, Duration::from_secs(request.by_s), limit, now)?;
        self.extensions.set(&name, &id, end)?;
        told.expires_at = Some(end);
        self.leases.learn(&told);
        tracing::info!(container = %told.name, runtime = %name, %end, "its lease is longer");
        Ok(told)
    }

    /// Returns what the API tells of a container, with the end of its lease as it is now.
    pub(crate) fn told(&self, name: &PluginName, container: Container) -> ContainerInfo {
        let mut told = info(name, container);
        told.owner = told.owner.map(|owner| self.current(owner));
        if told.expires_at.is_some() {
            told.expires_at = told.expires_at.max(self.extensions.get(name, &told.id));
        }
        told
    }
}

/// Returns the new end of a lease.
fn longer(
    name: &str,
    end: Option<Timestamp>,
    by: Duration,
    limit: Duration,
    now: Timestamp,
) -> Result<Timestamp> {
    let end = end.ok_or_else(|| ServerError::NoLease { name: name.to_owned() })?;
    if end <= now {
        return Err(ServerError::LeaseOver { name: name.to_owned(), end });
    }
    let left = Duration::from_millis((end.unix_ms() - now.unix_ms()).unsigned_abs());
    if left + by > limit {
        let to_give = Duration::from_secs(limit.saturating_sub(left).as_secs());
        return Err(ServerError::LeaseLimit { asked: Span(by), limit: Span(limit), to_give: Span(to_give) });
    }
    Ok(Timestamp::from_unix(end.unix() + by.as_secs().cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (PluginName, ContainerId) {
        ("mock".parse().unwrap(), "0123456789abcdef".parse().unwrap())
    }

    #[test]
    fn an_end_is_kept_and_found_by_another_process() {
        let data = tempfile::tempdir().unwrap();
        let ((name, id), end) = (place(), Timestamp::from_unix(1_800_000_000));
        assert_eq!(Extensions::new(data.path()).get(&name, &id), None);
        Extensions::new(data.path()).set(&name, &id, end).unwrap();
        assert_eq!(Extensions::new(data.path()).get(&name, &id), Some(end));
        Extensions::new(data.path()).forget(&name, &id);
        assert_eq!(Extensions::new(data.path()).get(&name, &id), None);
    }

    #[test]
    fn what_a_crash_leaves_is_the_old_end_or_the_new_one() {
        let data = tempfile::tempdir().unwrap();
        let (extensions, (name, id)) = (Extensions::new(data.path()), place());
        let (old, new) = (Timestamp::from_unix(1_800_000_000), Timestamp::from_unix(1_800_003_600));
        extensions.set(&name, &id, old).unwrap();
        // Killed between writing beside and renaming: half a draft is there.
        let folder = data.path().join("leases/mock");
        fs::write(folder.join(format!(".{id}.1")), "2027-0").unwrap();
        assert_eq!(extensions.get(&name, &id), Some(old));
        extensions.set(&name, &id, new).unwrap();
        assert_eq!(extensions.get(&name, &id), Some(new));
        extensions.sweep(&name, &[id.as_str()].into());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "the draft is swept, the lease is not");
        extensions.sweep(&name, &BTreeSet::new());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_file_counts_for_nothing() {
        let data = tempfile::tempdir().unwrap();
        let (extensions, (name, id)) = (Extensions::new(data.path()), place());
        fs::create_dir_all(data.path().join("leases/mock")).unwrap();
        for text in [&b"soon"[..], b"", b"\xff\xfe", &[b'9'; 1_000]] {
            fs::write(data.path().join("leases/mock").join(id.as_str()), text).unwrap();
            assert_eq!(extensions.get(&name, &id), None, "{text:?}");
        }
    }

    #[test]
    fn a_lease_grows_at_its_end_within_the_limit_from_now() {
        let (now, hour) = (Timestamp::from_unix(1_000_000), Duration::from_secs(3_600));
        let end = Some(Timestamp::from_unix(1_000_600));
        let grow = |end, by, limit| longer("web", end, by, limit, now);
        assert_eq!(grow(end, hour, 10 * hour).unwrap(), Timestamp::from_unix(1_004_200));
        assert_eq!(grow(end, hour, hour + Duration::from_secs(600)).unwrap().unix(), 1_004_200);
        let error = grow(end, hour, hour).unwrap_err();
        assert_eq!(error.to_string(), "an extension of 1h is more than this host has left to give, 50m");
        assert!(error.hint().unwrap().contains("1h from now"), "{:?}", error.hint());
        assert_eq!(grow(None, hour, 10 * hour).unwrap_err().to_string(), "web has no lease that could end");
        assert!(matches!(grow(Some(now), hour, 10 * hour), Err(ServerError::LeaseOver { .. })));
    }
}
