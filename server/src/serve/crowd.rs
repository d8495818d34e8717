//! Who is connected: how many connections there may be, and which of them goes when there are too many.
//!
//! Whoever connects is a stranger until they have proved a key that the host lends to. Strangers have few places for each
//! address, and a stranger's oldest connection makes room for a new one: so a crowd of strangers that does nothing keeps
//! nobody out, not even from proving who they are. The connections of those whom the host knows are never closed for
//! somebody else.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gx_core::NodeId;
use tokio::sync::Notify;

use super::handshakes::Handshakes;

/// How long a handshake is put off at most, where an address begins too many. Less than clients wait for a connection (3 s):
/// the turns of those who have left would be lost, and with a crowd nobody's would come in time.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many connections there may be at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    /// All together.
    pub(crate) total: usize,
    /// Of strangers at one address; of IPv6 it is a /64, which is what one customer has at least.
    pub(crate) address: usize,
    /// Of one node that the host knows.
    pub(crate) node: usize,
}

/// Those who share places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Group {
    /// This machine's own user.
    ThisMachine,
    /// Strangers at an address.
    Address(IpAddr),
    /// A node that the host knows.
    Node(NodeId),
}

impl Group {
    /// Returns the strangers at an address.
    pub(crate) fn strangers(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
            ip @ IpAddr::V4(_) => ip,
        })
    }

    fn is_strange(self) -> bool {
        matches!(self, Self::Address(_))
    }
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// Who is connected.
#[derive(Debug)]
pub(crate) struct Crowd {
    places: Places,
    handshakes: Handshakes,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Grows with each connection and each request; tells ids apart and the old from the new.
    count: u64,
    present: HashMap<u64, Present>,
    groups: HashMap<Group, BTreeSet<Rank>>,
    strangers: BTreeSet<Rank>,
}

#[derive(Debug)]
struct Present {
    group: Group,
    rank: Rank,
    requests: u32,
    leave: Arc<Notify>,
}

/// Who goes first: the idle before the busy, and then who has done nothing for the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    busy: bool,
    since: u64,
    id: u64,
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    id: u64,
    leave: Arc<Notify>,
}

/// A request that is under way on a connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Busy {
    crowd: Arc<Crowd>,
    id: u64,
}

/// A turn that is waited for. Whoever stops waiting gives it back.
struct Turn<'a> {
    handshakes: &'a Handshakes,
    of: Option<Group>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(from) = self.of {
            self.handshakes.give_back(from);
        }
    }
}

impl Crowd {
    pub(crate) fn new(places: Places) -> Arc<Self> {
        Arc::new(Self { places, handshakes: Handshakes::new(Instant::now()), state: Mutex::default() })
    }

    /// Gives a connection a place, if need be that of another.
    pub(crate) fn join(self: &Arc<Self>, group: Group) -> Result<Place, Full> {
        let mut state = self.state();
        state.make_room(group, self.places)?;
        if state.present.len() >= self.places.total && !state.close_stranger() {
            return Err(Full);
        }
        let id = state.next();
        let leave = Arc::new(Notify::new());
        let rank = Rank { busy: false, since: id, id };
        state.put(Present { group, rank, requests: 0, leave: leave.clone() });
        Ok(Place { crowd: self.clone(), id, leave })
    }

    /// Waits until somebody from there may shake hands.
    pub(crate) async fn turn(&self, from: Group) -> Result<(), Full> {
        let wait = self.handshakes.turn(from, PATIENCE, Instant::now()).ok_or(Full)?;
        if !wait.is_zero() {
            let mut turn = Turn { handshakes: &self.handshakes, of: Some(from) };
            tokio::time::sleep(wait).await;
            turn.of = None;
        }
        Ok(())
    }

    /// Says that a handshake from there was of somebody the host knows.
    pub(crate) fn known(&self, from: Group) {
        self.handshakes.known(from, Instant::now());
    }

    /// Closes the connection of a stranger, where there is one, as the system has no more sockets.
    pub(crate) fn shed(&self) {
        self.state().close_stranger();
    }

    /// Returns how many are connected.
    pub(crate) fn len(&self) -> usize {
        self.state().present.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Says that whoever is connected has proved to be one of these.
    pub(crate) fn prove(&self, group: Group) -> Result<(), Full> {
        let mut state = self.crowd.state();
        let Some(mut present) = state.take(self.id) else { return Err(Full) };
        state.make_room(group, self.crowd.places)?;
        present.group = group;
        state.put(present);
        Ok(())
    }

    /// Says that a request is under way, until what is returned is dropped.
    pub(crate) fn begin(&self) -> Busy {
        self.crowd.state().change(self.id, |requests| requests + 1);
        Busy { crowd: self.crowd.clone(), id: self.id }
    }

    /// Waits until the place is somebody else's.
    pub(crate) async fn lost(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.state().take(self.id);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.crowd.state().change(self.id, |requests| requests.saturating_sub(1));
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn put(&mut self, present: Present) {
        let (group, rank) = (present.group, present.rank);
        self.groups.entry(group).or_default().insert(rank);
        if group.is_strange() {
            self.strangers.insert(rank);
        }
        self.present.insert(rank.id, present);
    }

    fn take(&mut self, id: u64) -> Option<Present> {
        let present = self.present.remove(&id)?;
        self.strangers.remove(&present.rank);
        if let Some(ranks) = self.groups.get_mut(&present.group) {
            ranks.remove(&present.rank);
            if ranks.is_empty() {
                self.groups.remove(&present.group);
            }
        }
        Some(present)
    }

    fn change(&mut self, id: u64, requests: impl FnOnce(u32) -> u32) {
        let since = self.next();
        let Some(mut present) = self.take(id) else { return };
        present.requests = requests(present.requests);
        present.rank = Rank { busy: present.requests > 0, since, id };
        self.put(present);
    }

    /// Makes room for one more in a group.
    fn make_room(&mut self, group: Group, places: Places) -> Result<(), Full> {
        let most = match group {
            Group::ThisMachine => return Ok(()),
            Group::Address(_) => places.address,
            Group::Node(_) => places.node,
        };
        let Some(ranks) = self.groups.get(&group).filter(|ranks| ranks.len() >= most) else {
            return Ok(());
        };
        match ranks.first().copied() {
            Some(first) if !first.busy || group.is_strange() => {
                self.close(first.id);
                Ok(())
            }
            _ => Err(Full),
        }
    }

    fn close_stranger(&mut self) -> bool {
        let first = self.strangers.first().copied();
        first.inspect(|first| self.close(first.id)).is_some()
    }

    fn close(&mut self, id: u64) {
        if let Some(present) = self.take(id) {
            present.leave.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const PLACES: Places = Places { total: 6, address: 3, node: 2 };

    fn at(last: u8) -> Group {
        Group::strangers(IpAddr::from([10, 0, 0, last]))
    }

    fn node(number: u8) -> Group {
        Group::Node(NodeId::from_bytes([number; 32]))
    }

    fn has_gone(place: &Place) -> bool {
        place.lost().now_or_never().is_some()
    }

    #[test]
    fn an_address_makes_room_for_itself_the_idle_first() {
        let crowd = Crowd::new(PLACES);
        let first = crowd.join(at(1)).unwrap();
        let second = crowd.join(at(1)).unwrap();
        let third = crowd.join(at(1)).unwrap();
        let other = crowd.join(at(2)).unwrap();
        let _busy = first.begin();
        let _fourth = crowd.join(at(1)).unwrap();
        assert!(has_gone(&second) && !has_gone(&first) && !has_gone(&third) && !has_gone(&other));
        assert_eq!(crowd.len(), 4);
        drop(second); // its place is somebody else's already
        assert_eq!(crowd.len(), 4);
    }

    #[tokio::test]
    async fn a_crowd_that_does_not_wait_takes_nobodys_turn() {
        let crowd = Crowd::new(PLACES);
        while crowd.turn(at(1)).now_or_never() == Some(Ok(())) {}
        for _ in 0..1_000 {
            // Mostly nothing, as it would be this one's turn soon; on a machine that is slow it may be their turn now.
            assert_ne!(
                crowd.turn(at(1)).now_or_never(),
                Some(Err(Full)),
                "a turn was taken and not given back"
            );
        }
    }

    #[test]
    fn strangers_make_room_for_all_and_the_known_for_nobody() {
        let crowd = Crowd::new(PLACES);
        let known: Vec<Place> = (0..4_u8)
            .map(|number| {
                let place = crowd.join(at(number)).unwrap();
                place.prove(node(number / 2)).unwrap();
                place
            })
            .collect();
        let strangers = [crowd.join(at(1)).unwrap(), crowd.join(at(2)).unwrap()];
        let _busy = strangers[0].begin();
        let third = crowd.join(at(3)).unwrap();
        assert!(has_gone(&strangers[1]) && !has_gone(&strangers[0]));
        third.prove(node(9)).unwrap();
        let _newest = crowd.join(at(3)).unwrap();
        assert!(has_gone(&strangers[0]), "who is busy goes too, where nobody else can");
        assert!(known.iter().all(|place| !has_gone(place)));
        assert_eq!(crowd.len(), 6);
    }

    #[test]
    fn a_node_makes_room_for_itself_but_not_by_breaking_off_its_work() {
        let crowd = Crowd::new(PLACES);
        let join = || {
            let place = crowd.join(at(1)).unwrap();
            place.prove(node(1)).map(|()| place)
        };
        let (first, second) = (join().unwrap(), join().unwrap());
        let busy = first.begin();
        let third = join().unwrap();
        assert!(has_gone(&second) && !has_gone(&first));
        let _also = third.begin();
        assert!(join().is_err());
        drop(busy);
        assert!(join().is_ok());
        assert!(has_gone(&first));
    }

    #[test]
    fn where_only_the_known_are_there_is_no_place() {
        let crowd = Crowd::new(PLACES);
        let places: Vec<Place> = (0..6).map(|_| crowd.join(Group::ThisMachine).unwrap()).collect();
        assert_eq!(crowd.join(at(1)).unwrap_err(), Full);
        assert_eq!(crowd.join(Group::ThisMachine).unwrap_err(), Full);
        drop(places);
        assert_eq!(crowd.len(), 0);
        crowd.join(at(1)).unwrap();
    }

    #[test]
    fn a_network_is_one_address() {
        let group = |text: &str| Group::strangers(text.parse().unwrap());
        assert_eq!(group("2001:db8::1"), group("2001:db8::ffff:0:1"));
        assert_ne!(group("2001:db8::1"), group("2001:db8:0:1::1"));
        assert_eq!(group("::ffff:10.0.0.1"), group("10.0.0.1"));
        assert_ne!(group("10.0.0.1"), group("10.0.0.2"));
    }
}
