//! What the client says in words.

use std::time::Duration;

use super::{AGAIN_MS, Effect, Shown};
use crate::client::shown;
use crate::frames::{ErrorCode, Member, WhyClosing};
use crate::id::UserName;
use crate::policy::in_ranges;

pub(super) fn said(from: &UserName, text: &str, mine: bool) -> String {
    let me = if mine { " (me)" } else { "" };
    format!("{}{me}: {}", shown(from.as_str()), shown(text))
}

pub(super) fn notice(text: String) -> Effect {
    Effect::Show(Shown::Notice(shown(&text).into_owned()))
}

pub(super) fn wrong(text: String) -> Effect {
    Effect::Show(Shown::Wrong(shown(&text).into_owned()))
}

pub(super) fn not_sent(name: &str, why: &str, text: &str) -> Effect {
    wrong(format!("not sent to {name}: {why}; it was: {text}"))
}

pub(super) fn lines(count: u64) -> String {
    if count == 1 { "1 line waits".to_owned() } else { format!("{count} lines wait") }
}

pub(super) fn table(rows: &[(String, String)]) -> Vec<Effect> {
    let width = rows.iter().map(|(left, _)| left.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(left, right)| notice(format!("{left:width$}  {right}"))).collect()
}

pub(super) fn members(name: &str, members: &[Member]) -> String {
    let list = |on: bool| {
        let of = members.iter().filter(|member| member.on == on).map(|member| member.user.as_str());
        let listed = in_ranges(of).join(", ");
        if listed.is_empty() { "nobody".to_owned() } else { listed }
    };
    format!("{name}: here {}; away {}", list(true), list(false))
}

pub(super) fn error(code: ErrorCode, fatal: bool, retry_ms: Option<u64>, msg: &str) -> Vec<Effect> {
    match (fatal, code) {
        (true, ErrorCode::Auth | ErrorCode::Version) => {
            vec![Effect::Refused { why: shown(msg).into_owned(), by_password: code == ErrorCode::Auth }]
        }
        (true, _) => {
            vec![wrong(msg.to_owned()), Effect::ComeBack(Duration::from_millis(retry_ms.unwrap_or(AGAIN_MS)))]
        }
        (false, _) => vec![wrong(msg.to_owned())],
    }
}

pub(super) fn closing(why: WhyClosing, retry_ms: Option<u64>) -> Vec<Effect> {
    let told = match why {
        WhyClosing::Bye => return vec![Effect::Leave],
        WhyClosing::Stop => "the server stops",
        WhyClosing::Removed => "you are not a user of this chat any more",
        WhyClosing::Silent => "the server has heard nothing for too long",
        WhyClosing::Crowded => "you have too many connections",
        WhyClosing::Other => "the server ends the connection",
    };
    match retry_ms {
        Some(after) => vec![notice(told.to_owned()), Effect::ComeBack(Duration::from_millis(after))],
        None => vec![Effect::Refused { why: told.to_owned(), by_password: false }],
    }
}
