//! Whom a host lends to. The book is a file; here is what is known of it in memory, so that telling who somebody is costs
//! next to nothing, and every change of it: under a lock, as several processes may make one.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use gx_core::member::{Allowance, Member};
use gx_core::{NodeId, Timestamp};
use tokio::sync::watch;

use super::lock::TurnLock;
use crate::error::{Result, ServerError, TrustError};

mod admit;
mod book;
mod digest;
mod file;
mod invite;
mod leave;
mod list;

use book::Book;
use file::Stamp;

pub(crate) use admit::Attempts;
pub(in crate::node) use invite::outward;

/// How long another process is waited for that changes the list.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// The members of a host. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Members {
    shared: Arc<Shared>,
    lock: TurnLock,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    path: PathBuf,
    /// Who is a member by the configuration, and since this program has begun.
    configured: RwLock<BTreeSet<NodeId>>,
    /// Who was one until the configuration was read again, and what that leaves to do is not written down yet.
    dropped: Mutex<BTreeSet<NodeId>>,
    since: Timestamp,
    known: RwLock<Known>,
    /// Whoever reads the file has this, so that nobody replaces what is new by what is old.
    reading: Mutex<()>,
    changed: watch::Sender<()>,
    /// Whether the kernel tells of changes; else they are looked for at each question.
    watched: AtomicBool,
}

#[derive(Debug)]
struct Known {
    /// `None` before the file was first looked at.
    stamp: Option<Option<Stamp>>,
    list: Result<Arc<List>, TrustError>,
}

/// The members at one moment. It never changes; another takes its place.
#[derive(Debug, Default)]
pub(crate) struct List {
    members: HashMap<NodeId, Arc<Member>>,
    book: Book,
}

impl List {
    fn new(book: Book, configured: &BTreeSet<NodeId>, since: Timestamp) -> Self {
        let plain =
            |id: NodeId| Member { id, name: None, since, until: None, allowance: Allowance::default() };
        let mut members: HashMap<_, _> = configured.iter().map(|id| (*id, Arc::new(plain(*id)))).collect();
        for entry in &book.members {
            let ended = entry.member.until.is_some();
            // What ends may not hide what the configuration says without an end.
            if !(ended && configured.contains(&entry.member.id)) {
                members.insert(entry.member.id, Arc::new(entry.member.clone()));
            }
        }
        Self { members, book }
    }

    /// Returns a member that is one at this moment.
    fn member(&self, id: NodeId, now: impl FnOnce() -> Timestamp) -> Option<&Arc<Member>> {
        let member = self.members.get(&id)?;
        member.until.is_none_or(|until| until > now()).then_some(member)
    }

    /// Returns when the next membership or invitation ends.
    fn next_end(&self) -> Option<Timestamp> {
        let members = self.book.members.iter().filter_map(|entry| entry.member.until);
        members.chain(self.book.invites.iter().map(|invite| invite.info.until)).min()
    }
}

impl Members {
    /// Opens the list in a data folder; it is read when somebody asks.
    pub(crate) fn new(data: &Path, configured: impl IntoIterator<Item = NodeId>) -> Self {
        let shared = Shared {
            folder: data.to_owned(),
            path: file::path(data),
            configured: RwLock::new(configured.into_iter().collect()),
            dropped: Mutex::default(),
            since: now(),
            known: RwLock::new(Known { stamp: None, list: Ok(Arc::default()) }),
            reading: Mutex::default(),
            changed: watch::Sender::new(()),
            watched: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), lock: TurnLock::new(data, "members.lock") }
    }

    /// Returns a member, if the node is one now. Where the list cannot be used nobody is, and the log says why.
    pub(crate) fn member(&self, id: NodeId) -> Option<Arc<Member>> {
        if !self.shared.watched.load(Ordering::Relaxed) {
            self.shared.refresh();
        }
        let known = self.shared.known.read().unwrap_or_else(PoisonError::into_inner);
        known.list.as_ref().ok()?.member(id, now).cloned()
    }

    /// Returns the key that stands for this one now.
    pub(crate) fn current(&self, id: NodeId) -> NodeId {
        self.list().map_or(id, |list| list.book.current(id))
    }

    /// Returns all keys whose containers are this node's, its own first.
    pub(crate) fn keys_of(&self, id: NodeId) -> Vec<NodeId> {
        let formerly = self.list().map(|list| list.book.formerly(id)).unwrap_or_default();
        std::iter::once(id).chain(formerly).collect()
    }

    /// Returns who is a member by the configuration.
    fn configured(&self) -> BTreeSet<NodeId> {
        self.shared.configured()
    }

    /// Takes over whom the configuration names now.
    fn configure(&self, nodes: BTreeSet<NodeId>) {
        {
            let mut configured = self.shared.configured.write().unwrap_or_else(PoisonError::into_inner);
            let mut dropped = self.shared.dropped.lock().unwrap_or_else(PoisonError::into_inner);
            dropped.extend(configured.difference(&nodes));
            *configured = nodes;
        }
        self.shared.reread();
    }

    /// Writes down whom the configuration names, and who is leaving since it does not.
    ///
    /// # Errors
    /// [`ServerError::State`]; [`TrustError::Damaged`].
    async fn note_configured(&self) -> Result<()> {
        let configured = self.configured();
        let dropped = std::mem::take(&mut *self.dropped());
        if dropped.is_empty() && self.list()?.book.configured == configured {
            return Ok(());
        }
        let again = dropped.clone();
        let note = move |book: &mut Book, _| {
            book.configure(configured, &dropped);
            Ok(())
        };
        let noted = self.change(note).await;
        noted.inspect_err(|_| self.dropped().extend(again))
    }

    fn dropped(&self) -> MutexGuard<'_, BTreeSet<NodeId>> {
        self.shared.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks whether another process has changed the list; it costs no more than a look at the file's dates.
    pub(crate) fn refresh(&self) {
        self.shared.refresh();
    }

    /// Returns what tells of each change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.shared.changed.subscribe()
    }

    /// Returns all who are members at this moment; nothing where the list cannot be used.
    pub(crate) fn ids(&self) -> Option<BTreeSet<NodeId>> {
        let (list, now) = (self.list().ok()?, now());
        let lasting = list.members.values().filter(|member| member.until.is_none_or(|until| until > now));
        Some(lasting.map(|member| member.id).collect())
    }

    /// Returns the list as it is now.
    ///
    /// # Errors
    /// [`TrustError::Damaged`].
    fn list(&self) -> Result<Arc<List>> {
        if !self.shared.watched.load(Ordering::Relaxed) {
            self.shared.refresh();
        }
        let known = self.shared.known.read().unwrap_or_else(PoisonError::into_inner);
        Ok(known.list.clone()?)
    }

    /// Changes the book and returns what the change does. Nothing is changed when that fails, or writing does.
    ///
    /// # Errors
    /// Those of the change; [`ServerError::State`]; [`TrustError::Damaged`].
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Book, Timestamp) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = self.lock.take(LOCK_PATIENCE).await?;
        let shared = self.shared.clone();
        // On a thread of its own: a disk may be slow, and what was begun comes to its end.
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            shared.change(change)
        });
        work.await.map_err(|error| ServerError::Internal(error.to_string()))?
    }
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut Book, Timestamp) -> Result<T>) -> Result<T> {
        let (_, before) = file::read(&self.path)?;
        let (mut book, now) = (before.clone(), now());
        book.sweep(&self.configured(), now);
        let done = change(&mut book, now)?;
        let written = if book == before { Ok(()) } else { file::write(&self.path, &book) };
        self.refresh(); // whatever came of it
        written.map(|()| done)
    }

    fn configured(&self) -> BTreeSet<NodeId> {
        self.configured.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the list anew, though the file may be the same.
    fn reread(&self) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).stamp = None;
        self.refresh();
    }

    fn refresh(&self) {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).stamp;
        let there = file::stamp(&self.path);
        if known == Some(there) {
            return;
        }
        let (stamp, list) = match file::read(&self.path) {
            Ok((stamp, book)) => (stamp, Ok(Arc::new(List::new(book, &self.configured(), self.since)))),
            Err(error) => {
                tracing::error!(%error, "nobody is a member until this is seen to");
                (there, Err(error))
            }
        };
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Known { stamp: Some(stamp), list };
        self.changed.send_replace(());
    }
}

/// Returns the time by this machine's clock, which is the only one that ends anything here.
fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::api::{AllowRequest, Fate};

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    async fn allow(members: &Members, number: u8) -> Result<()> {
        members.change(move |book, now| book.allow(node(number), &AllowRequest::default(), now)).await
    }

    #[tokio::test]
    async fn what_another_process_changes_is_seen() {
        let data = tempfile::tempdir().unwrap();
        let here = Members::new(data.path(), [node(9)]);
        let there = Members::new(data.path(), []);
        assert!(here.member(node(1)).is_none() && here.member(node(9)).is_some());
        allow(&there, 1).await.unwrap();
        assert!(here.member(node(1)).is_some());
        there.change(|book, _| book.remove(node(1), Fate::Keep)).await.unwrap();
        assert!(here.member(node(1)).is_none());
    }

    #[tokio::test]
    async fn of_changes_in_parallel_none_is_lost() {
        let data = tempfile::tempdir().unwrap();
        let nodes = [Members::new(data.path(), []), Members::new(data.path(), [])];
        let changes = (1..=40_u8).map(|number| allow(&nodes[usize::from(number) % 2], number));
        for done in futures_util::future::join_all(changes).await {
            done.unwrap();
        }
        assert_eq!(nodes[0].list().unwrap().book.members.len(), 40);
    }

    #[tokio::test]
    async fn a_damaged_list_lends_to_nobody_and_is_kept() {
        let data = tempfile::tempdir().unwrap();
        let members = Members::new(data.path(), [node(9)]);
        allow(&members, 1).await.unwrap();
        assert!(members.member(node(1)).is_some());
        let path = data.path().join("members.json");
        std::fs::write(&path, "{\"format\":1,").unwrap();
        assert!(members.member(node(1)).is_none() && members.member(node(9)).is_none());
        let error = allow(&members, 2).await.unwrap_err();
        assert!(matches!(error, ServerError::Trust(TrustError::Damaged { .. })), "{error:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"format\":1,");
    }

    #[test]
    fn who_is_configured_is_not_ended_by_what_is_written_down() {
        let mut book = Book::default();
        let ends = AllowRequest { for_s: Some(1), ..AllowRequest::default() };
        book.allow(node(1), &ends, Timestamp::from_unix(0)).unwrap();
        let list = List::new(book, &[node(1)].into(), Timestamp::from_unix(0));
        assert!(list.member(node(1), || Timestamp::from_unix(100)).is_some());
    }
}
