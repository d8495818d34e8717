//! Who measures this host for whom: a plugin has no key, and shows a token that was given to who has one.
//!
//! A token is not kept: it says who it was given to and until when, with a code of the node's key over both.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gx_core::NodeId;
use gx_core::api::speedtest::SpeedtestToken;
use gx_core::secret::Secret;

use super::{Caller, Node};

/// How long a token is good: for one measurement, however thorough.
const GOOD_FOR: Duration = Duration::from_secs(120);

impl Node {
    /// Returns a token by which others may measure this host on the caller's budget.
    pub(crate) fn speedtest_token(&self, caller: &Caller, now: SystemTime) -> SpeedtestToken {
        let who = match caller {
            Caller::Host => Some(self.id()),
            Caller::Member(member) => Some(member.id),
            Caller::Stranger(node) => *node,
        };
        let who = who.map_or("-".to_owned(), |id| id.to_string());
        let until = (unix(now) + GOOD_FOR.as_secs()).to_string();
        let code = self.speedtest_code(&who, &until);
        let seconds = u32::try_from(GOOD_FOR.as_secs()).unwrap_or(u32::MAX);
        SpeedtestToken { token: Secret::new(format!("{who}.{until}.{code}")), seconds }
    }

    /// Returns for whom a token is, as they stand now; `None` for one that is not of this host, or over.
    pub(crate) fn caller_by_token(&self, token: &str, now: SystemTime) -> Option<Caller> {
        let mut parts = token.splitn(3, '.');
        let (who, until, code) = (parts.next()?, parts.next()?, parts.next()?);
        if !is_same(code.as_bytes(), self.speedtest_code(who, until).as_bytes()) {
            return None;
        }
        if until.parse::<u64>().ok()? < unix(now) {
            return None;
        }
        match who {
            "-" => Some(Caller::Stranger(None)),
            id => Some(self.caller_of(id.parse::<NodeId>().ok()?)),
        }
    }

    fn speedtest_code(&self, who: &str, until: &str) -> String {
        gx_identity::to_hex(&self.key().derive(&["speedtest token", who, until]))
    }
}

/// Compares in a time that does not tell where the difference is.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

fn unix(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Host, member};

    #[tokio::test]
    async fn a_token_is_for_whom_it_was_given_to_and_for_a_short_time() {
        let (host, other) = (Host::new().await, Host::new().await);
        let now = SystemTime::now();
        let token = host.node.speedtest_token(&Caller::Host, now).token;
        let token = token.reveal();
        assert_eq!(host.node.caller_by_token(token, now), Some(Caller::Host));
        assert_eq!(other.node.caller_by_token(token, now), None, "another host has another key");
        assert_eq!(host.node.caller_by_token(token, now + GOOD_FOR + Duration::from_secs(2)), None);
        let (begin, code) = token.rsplit_once('.').unwrap();
        let (who, until) = begin.split_once('.').unwrap();
        let later = until.parse::<u64>().unwrap() + 1_000;
        for forged in [
            format!("{who}.{later}.{code}"),
            format!("{}.{until}.{code}", NodeId::from_bytes([1; 32])),
            format!("{who}.{until}."),
            "..".to_owned(),
            String::new(),
            "x".to_owned(),
        ] {
            assert_eq!(host.node.caller_by_token(&forged, now), None, "{forged}");
        }
    }

    #[tokio::test]
    async fn who_is_no_member_any_more_pays_as_a_stranger() {
        let host = Host::new().await;
        let now = SystemTime::now();
        let token = host.node.speedtest_token(&member(1), now).token;
        let found = host.node.caller_by_token(token.reveal(), now);
        assert_eq!(found, Some(Caller::Stranger(Some(NodeId::from_bytes([1; 32])))));
        let token = host.node.speedtest_token(&Caller::Stranger(None), now).token;
        assert_eq!(host.node.caller_by_token(token.reveal(), now), Some(Caller::Stranger(None)));
    }
}
