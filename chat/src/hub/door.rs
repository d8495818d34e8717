//! Who gets in: a password, a token or the key of a node proves a user. Whoever fails waits longer each time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::{Hub, Peer, Signed, count, random_in};
use crate::frames::{Auth, ErrorCode, Hello};
use crate::id::UserName;
use crate::store::{Account, StoreError, TokenHash};

/// Passwords that are checked at a time: each takes 19 MiB and some 70 ms of a CPU.
const HASHING: usize = 2;
/// How long a check is waited for.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a token lasts, in milliseconds.
const TOKEN_MS: u64 = 30 * 86_400_000;
/// Failures that cost nothing: of one user at one address, and of one address.
const FREE: (u32, u32) = (3, 30);
/// The longest that somebody waits after a failure.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// How long failures are remembered.
const MEMORY: Duration = Duration::from_secs(15 * 60);
/// Failures that are remembered; beyond it the one of longest ago makes room: a crowd of strangers keeps nobody out.
const CAPACITY: usize = 10_000;
/// The longest password, in bytes.
pub(super) const MAX_PASSWORD: usize = 1_024;

/// What guards the chat.
#[derive(Debug)]
pub(super) struct Door {
    hashing: Arc<Semaphore>,
    failures: Mutex<HashMap<Key, Failures>>,
}

impl Default for Door {
    fn default() -> Self {
        Self { hashing: Arc::new(Semaphore::new(HASHING)), failures: Mutex::default() }
    }
}

/// Whose failures are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// Of a user at an address: nobody elsewhere keeps the user out.
    User(UserName, Option<IpAddr>),
    /// Of an address, or a network of IPv6.
    Address(Option<IpAddr>),
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    number: u32,
    last: Instant,
}

impl Failures {
    fn wait(self, free: u32, now: Instant) -> Option<Duration> {
        let beyond = self.number.checked_sub(free)?;
        let wait = Duration::from_secs(1 << beyond.min(6)).min(MAX_WAIT);
        (self.last + wait).checked_duration_since(now).filter(|wait| !wait.is_zero())
    }
}

/// Why somebody is not let in.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) retry_ms: Option<u64>,
    pub(super) msg: &'static str,
}

impl Refusal {
    const WRONG: Self = Self { code: ErrorCode::Auth, retry_ms: None, msg: "wrong user or password" };

    fn later(msg: &'static str, wait_ms: u64) -> Self {
        Self { code: ErrorCode::Unavailable, retry_ms: Some(wait_ms), msg }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "accounts cannot be read");
        Self::later("the server cannot look it up now", random_in(1_000..3_000))
    }
}

impl Door {
    fn keys(user: &UserName, peer: &Peer) -> [(Key, u32); 2] {
        let from = peer.from.map(|address| match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
            v4 => v4,
        });
        [(Key::User(user.clone(), from), FREE.0), (Key::Address(from), FREE.1)]
    }

    /// Returns how long somebody has to wait.
    fn wait(&self, user: &UserName, peer: &Peer, now: Instant) -> Option<Duration> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(key, free): &(Key, u32)| failures.get(key).and_then(|failures| failures.wait(*free, now));
        Self::keys(user, peer).iter().filter_map(of).max()
    }

    fn failed(&self, user: &UserName, peer: &Peer, now: Instant) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, _) in Self::keys(user, peer) {
            if failures.len() >= CAPACITY && !failures.contains_key(&key) {
                let oldest =
                    failures.iter().min_by_key(|(_, failures)| failures.last).map(|(key, _)| key.clone());
                oldest.and_then(|oldest| failures.remove(&oldest));
            }
            let known = failures.entry(key).or_insert(Failures { number: 0, last: now });
            *known = Failures { number: known.number.saturating_add(1), last: now };
        }
    }

    fn succeeded(&self, user: &UserName, peer: &Peer) {
        let [(key, _), _] = Self::keys(user, peer);
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// Forgets failures of long ago.
    pub(super) fn forget(&self, now: Instant) {
        let is_fresh = |failures: &Failures| now.saturating_duration_since(failures.last) < MEMORY;
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, failures| is_fresh(failures));
    }

    /// Does work with a password, when it is its turn.
    pub(super) async fn hashing<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let turn = tokio::time::timeout(PATIENCE, self.hashing.clone().acquire_owned()).await.ok()?.ok()?;
        let done = tokio::task::spawn_blocking(move || {
            let value = work();
            drop(turn);
            value
        });
        done.await.ok()
    }
}

impl Hub {
    /// Signs somebody in; returns who it is, and a token where the proof was another.
    pub(super) async fn sign_in(
        &self,
        hello: &Hello,
        peer: &Peer,
    ) -> Result<(Signed, Option<String>), Refusal> {
        let signed = self.prove(hello, peer).await;
        count(if signed.is_ok() { &self.figures.sign_ins } else { &self.figures.sign_ins_refused }, 1);
        if let Err(refusal) = &signed {
            let (user, from) = (&hello.user, peer.from.map(|from| from.to_string()).unwrap_or_default());
            tracing::info!(%user, from, why = refusal.msg, "a sign-in to the chat is refused");
        }
        signed
    }

    async fn prove(&self, hello: &Hello, peer: &Peer) -> Result<(Signed, Option<String>), Refusal> {
        if let Some(wait) = self.door.wait(&hello.user, peer, Instant::now()) {
            let retry_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
            return Err(Refusal { code: ErrorCode::Rate, retry_ms, msg: "too many failures; wait" });
        }
        let known =
            self.policy().user_name(hello.user.as_str()).and_then(|name| name.parse::<UserName>().ok());
        let user = known.clone().unwrap_or_else(|| hello.user.clone());
        let store = self.store.clone();
        let (name, device) = (user.clone(), hello.device.clone());
        let token = match &hello.auth {
            Auth::Token { token } => Some(hash_of(token)),
            Auth::Password { .. } | Auth::Key {} => None,
        };
        let now = self.now();
        let looked_up = blocking(move || {
            let has_token = match token {
                Some(token) => store.has_token(&token, &name, &device, now)?,
                None => false,
            };
            Ok::<_, StoreError>((store.account(&name)?, has_token))
        });
        let (account, has_token) = looked_up.await.ok_or(Refusal::later("the server ends", 1_000))??;
        // Whoever asks learns neither by the answer nor by the time it takes which users there are.
        let account = account.filter(|account| known.is_some() && !account.disabled);
        let is_proved = match &hello.auth {
            Auth::Password { password } => self.is_password(account.as_ref(), password).await?,
            Auth::Token { .. } => account.is_some() && has_token,
            Auth::Key {} => {
                let node = account.as_ref().and_then(|account| account.node);
                node.is_some() && node == peer.node
            }
        };
        if !is_proved {
            self.door.failed(&hello.user, peer, Instant::now());
            return Err(Refusal::WRONG);
        }
        self.door.succeeded(&hello.user, peer);
        let signed = Signed { user, device: hello.device.clone(), node: peer.node };
        let token = match &hello.auth {
            // The key is there the next time too.
            Auth::Token { .. } | Auth::Key {} => None,
            Auth::Password { .. } => self.new_token(&signed).await?,
        };
        Ok((signed, token))
    }

    async fn is_password(&self, account: Option<&Account>, password: &str) -> Result<bool, Refusal> {
        let known = account.and_then(|account| account.password.clone());
        let password = password.to_owned();
        if password.len() > MAX_PASSWORD {
            return Ok(false);
        }
        let check = move || match known {
            Some(known) => is_password(&password, &known),
            None => {
                is_password(&password, nobodys());
                false
            }
        };
        let busy = || Refusal::later("too many sign in at this moment", random_in(1_000..10_000));
        self.door.hashing(check).await.ok_or_else(busy)
    }

    /// Returns a token; none where it cannot be kept, as without room: who has proved themselves gets in all the same.
    async fn new_token(&self, signed: &Signed) -> Result<Option<String>, Refusal> {
        let token = secret(32).map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        let token = token.ok_or(Refusal::later("the server has no randomness", 1_000))?;
        let (store, hash, ends) = (self.store.clone(), hash_of(&token), self.now().saturating_add(TOKEN_MS));
        let Signed { user, device, .. } = signed.clone();
        let kept = blocking(move || store.put_token(&hash, &user, &device, ends)).await;
        if let Err(error) = kept.ok_or(Refusal::later("the server ends", 1_000))? {
            if self.troubles.keeping_tokens.failed(&error.to_string(), Instant::now()) {
                tracing::warn!(%error, "who signs in gets no token");
            }
            return Ok(None);
        }
        self.troubles.keeping_tokens.worked(Instant::now());
        Ok(Some(token))
    }
}

/// Does what may block where that is in nobody's way; nothing is returned when the program ends.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

fn hash_of(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// Returns so many random bytes.
pub(super) fn secret(bytes: usize) -> Option<Vec<u8>> {
    let mut secret = vec![0; bytes];
    let mut filled = 0;
    while filled < bytes {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut secret[filled..], flags).ok()?;
    }
    Some(secret)
}

/// Returns a password's hash by argon2id, as a PHC string.
pub(super) fn password_hash(password: &str) -> Option<String> {
    Argon2::default().hash_password(password.as_bytes()).ok().map(|hash| hash.to_string())
}

fn is_password(password: &str, known: &str) -> bool {
    Argon2::default().verify_password(password.as_bytes(), known).is_ok()
}

/// Returns the hash of a password that nobody has.
fn nobodys() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| password_hash("nobody's").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_waits_longer_each_time_and_keeps_nobody_else_out() {
        let door = Door::default();
        let (user, start): (UserName, _) = ("A".parse().unwrap(), Instant::now());
        let from = |last| Peer { node: None, from: Some(IpAddr::from([10, 0, 0, last])) };
        let wait = |last, s| door.wait(&user, &from(last), start + Duration::from_secs(s));
        for _ in 0..2 {
            door.failed(&user, &from(1), start);
        }
        assert_eq!(wait(1, 0), None);
        door.failed(&user, &from(1), start);
        assert_eq!(wait(1, 0), Some(Duration::from_secs(1)));
        for _ in 0..9 {
            door.failed(&user, &from(1), start);
        }
        assert_eq!((wait(1, 0), wait(1, 61), wait(2, 0)), (Some(MAX_WAIT), None, None));
        door.succeeded(&user, &from(1));
        assert_eq!(wait(1, 0), None);
        door.failed(&user, &from(1), start);
        door.forget(start + MEMORY);
        assert!(door.failures.lock().unwrap().is_empty());
    }

    #[test]
    fn failures_from_everywhere_keep_nobody_out_and_are_not_all_remembered() {
        let (door, start) = (Door::default(), Instant::now());
        let from =
            |net: u32| Peer { node: None, from: Some(IpAddr::from((u128::from(net) << 64).to_be_bytes())) };
        let at = |n: u32| start + Duration::from_millis(u64::from(n));
        let total = u32::try_from(CAPACITY).unwrap();
        for n in 0..total {
            door.failed(&format!("u{n}").parse().unwrap(), &from(n), at(n));
        }
        let user: UserName = "Army1".parse().unwrap();
        assert_eq!(door.wait(&user, &from(total), at(total)), None, "who failed never waits for nobody");
        for _ in 0..FREE.0 {
            door.failed(&user, &from(total), at(total));
        }
        assert!(door.wait(&user, &from(total), at(total)).is_some(), "and who fails now waits as ever");
        assert_eq!(door.failures.lock().unwrap().len(), CAPACITY);
    }

    #[test]
    fn an_address_that_tries_all_users_waits_too() {
        let (door, now) = (Door::default(), Instant::now());
        let peer = Peer { node: None, from: Some(IpAddr::from([10, 0, 0, 1])) };
        for number in 0..FREE.1 {
            door.failed(&format!("u{number}").parse().unwrap(), &peer, now);
        }
        assert!(door.wait(&"fresh".parse().unwrap(), &peer, now).is_some());
    }

    #[test]
    fn a_password_is_what_it_was() {
        let hash = password_hash("swordfish").unwrap();
        assert!(hash.starts_with("$argon2id$") && !hash.contains("swordfish"));
        assert!(is_password("swordfish", &hash) && !is_password("Swordfish", &hash));
        assert!(!is_password("x", "no hash at all"));
    }
}
