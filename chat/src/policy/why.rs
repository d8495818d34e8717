//! Why a user may do something, or may not: the rules that were looked at, in order.

use serde::Serialize;

use super::{Policy, Rights, Verb};

/// Why a user may do something, or may not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    /// Who.
    pub user: String,
    /// What.
    pub verb: Verb,
    /// Where.
    pub group: String,
    /// Whether they may.
    pub allowed: bool,
    /// The user's role; none, where the user is unknown.
    pub role: Option<String>,
    /// The user's unit.
    pub unit: Option<String>,
    /// Whether the policy knows the group.
    pub is_group_known: bool,
    /// Every rule of the role.
    pub rules: Vec<WhyRule>,
}

/// A rule that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WhyRule {
    /// Whom it is about, as it is written.
    pub group: String,
    /// The line it begins in.
    pub line: usize,
    /// What it gives.
    pub rights: Rights,
    /// Whether it is about this group, for this user.
    pub fits: bool,
    /// Whether it allows what is asked for.
    pub allows: bool,
}

impl Policy {
    /// Explains an answer of [`allows`](Self::allows) by the rules themselves.
    pub fn why(&self, user: &str, verb: Verb, group: &str) -> Why {
        let known = self.user(user);
        let place = self.group_by_id.get(group).copied();
        let looked_at = |rule: &super::Rule| {
            let unit = known.and_then(|user| user.unit);
            let fits = place.is_some_and(|group| self.selects(rule.selector, unit, group));
            WhyRule {
                group: rule.text.clone(),
                line: rule.line,
                rights: rule.rights,
                fits,
                allows: fits && verb.is_within(rule.rights),
            }
        };
        let rules: Vec<WhyRule> =
            known.map(|user| self.roles[user.role].rules.iter().map(looked_at).collect()).unwrap_or_default();
        Why {
            user: user.to_owned(),
            verb,
            group: group.to_owned(),
            allowed: rules.iter().any(|rule| rule.allows),
            role: known.map(|user| self.roles[user.role].id.clone()),
            unit: known.and_then(|user| user.unit).map(|unit| self.units[unit].id.clone()),
            is_group_known: place.is_some(),
            rules,
        }
    }
}
