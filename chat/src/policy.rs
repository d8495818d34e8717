//! Who may do what in which group: the policy file, checked, and the one function that decides.
//!
//! Pure: text goes in, answers come out. What no rule allows is refused. All that can be known to be wrong is refused
//! when the file is read, so that what was read holds together: every id is there, every user has one unit at most,
//! one role, and a group to begin in, and every group has somebody who reads it and somebody who writes to it.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use gx_core::config::closest;
use gx_core::id::ParseIdError;
use serde::{Deserialize, Serialize};

mod file;
mod limits;
mod matrix;
mod pattern;
mod resolve;
mod selector;
mod users;
mod why;

#[cfg(test)]
mod tests;

pub use gx_core::config::ConfigError as PolicyError;
pub use limits::{Limits, Rate};
pub use matrix::{Change, Matrix, MatrixDiff, MatrixRow};
pub(crate) use pattern::in_ranges;
pub use why::{Why, WhyRule};

use crate::frames::Moves;
use selector::Selector;

/// What a user does in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Writes to it.
    Send,
    /// Gets what is written as it is written, and who is typing.
    Live,
    /// Reads what was written.
    History,
    /// Searches in what was written.
    Search,
    /// Saves what was written.
    Export,
    /// Sees who is there.
    Presence,
    /// Sees who belongs to it.
    Members,
    /// Shows that a text is being typed.
    Typing,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 8] = [
        Self::Send,
        Self::Live,
        Self::History,
        Self::Search,
        Self::Export,
        Self::Presence,
        Self::Members,
        Self::Typing,
    ];

    /// Returns its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Live => "live",
            Self::History => "history",
            Self::Search => "search",
            Self::Export => "export",
            Self::Presence => "presence",
            Self::Members => "members",
            Self::Typing => "typing",
        }
    }

    /// Returns whether these rights are enough for it: who may write may show that they type, all else is reading.
    const fn is_within(self, rights: Rights) -> bool {
        match self {
            Self::Send | Self::Typing => rights.write,
            Self::Live | Self::History | Self::Search | Self::Export | Self::Presence | Self::Members => {
                rights.read
            }
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Verb {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let rule = "it is send, live, history, search, export, presence, members or typing";
        let verb = Self::ALL.into_iter().find(|verb| verb.as_str() == text);
        verb.ok_or_else(|| ParseIdError::new("verb", text, rule))
    }
}

/// What a user may in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Rights {
    /// Whether they read: live, history, search, export, who is there and who belongs to it.
    pub read: bool,
    /// Whether they write.
    pub write: bool,
}

impl Rights {
    /// No rights.
    pub const NONE: Self = Self { read: false, write: false };

    /// Returns whether there is any right.
    pub const fn is_any(self) -> bool {
        self.read || self.write
    }

    /// Returns them in two letters: `rw`, `r-`, `-w`, `--`.
    pub const fn letters(self) -> &'static str {
        match (self.read, self.write) {
            (true, true) => "rw",
            (true, false) => "r-",
            (false, true) => "-w",
            (false, false) => "--",
        }
    }
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    id: String,
    name: String,
    command: Option<String>,
    unit: Option<usize>,
}

impl Group {
    /// Returns its id: what messages are stored under.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns its name: what people see.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the command that chooses it, without the colon.
    pub fn command(&self) -> Option<&str> {
        self.command.as_deref()
    }
}

#[derive(Debug)]
struct Unit {
    id: String,
    parent: Option<usize>,
}

#[derive(Debug)]
struct Role {
    id: String,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    selector: Selector,
    /// As it is written.
    text: String,
    line: usize,
    rights: Rights,
}

#[derive(Debug)]
struct User {
    name: String,
    unit: Option<usize>,
    role: usize,
    class: usize,
}

/// Users with one role and one unit, who may do the same.
#[derive(Debug)]
struct Class {
    /// By the place of the group.
    rights: Vec<Rights>,
    default: usize,
    moves: Moves,
    redirect: Option<usize>,
}

/// A group as one user has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat<'a> {
    /// The group.
    pub group: &'a Group,
    /// What the user may in it.
    pub rights: Rights,
    /// The command by which the user chooses it, if they may.
    pub command: Option<&'a str>,
    /// Whether it is the one the user begins in.
    pub is_default: bool,
}

/// A policy that holds together.
#[derive(Debug)]
pub struct Policy {
    limits: Limits,
    groups: Vec<Group>,
    units: Vec<Unit>,
    roles: Vec<Role>,
    users: Vec<User>,
    classes: Vec<Class>,
    user_by_name: HashMap<String, usize>,
    group_by_id: HashMap<String, usize>,
}

impl Policy {
    /// Reads a policy. `file_name` is for errors.
    ///
    /// # Errors
    /// [`PolicyError`], with the place, for the first thing that is wrong.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, PolicyError> {
        resolve::resolve(&file::Source { file: file_name, text }).map_err(|error| match error.hint {
            Some(_) => error,
            None => error.hint("examples/chat/army.toml has every key, with a comment"),
        })
    }

    /// Returns whether a user may do this in a group. This is the one place where rights are decided: whoever sends,
    /// reads, searches, exports or asks who is there comes by here. An unknown user or group has none.
    pub fn allows(&self, user: &str, verb: Verb, group: &str) -> bool {
        verb.is_within(self.rights(user, group))
    }

    /// Returns what a user may in a group.
    pub fn rights(&self, user: &str, group: &str) -> Rights {
        match (self.user(user), self.group_by_id.get(group)) {
            (Some(user), Some(&group)) => self.classes[user.class].rights[group],
            _ => Rights::NONE,
        }
    }

    /// Returns the limits of `[chat]`.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns how long a message is kept.
    pub fn retention(&self) -> Duration {
        self.limits.retention
    }

    /// Returns the groups, in the order of the file.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Returns a group by its id.
    pub fn group(&self, id: &str) -> Option<&Group> {
        self.group_by_id.get(id).map(|&group| &self.groups[group])
    }

    /// Returns the names of the users, in the order of the file: a unit's leader, its members, the next unit.
    pub fn users(&self) -> impl ExactSizeIterator<Item = &str> {
        self.users.iter().map(|user| user.name.as_str())
    }

    /// Returns a user's name as the policy writes it; the given one is compared in its normal form.
    pub fn user_name(&self, name: &str) -> Option<&str> {
        self.user(name).or_else(|| self.user(&pattern::normal(name))).map(|user| user.name.as_str())
    }

    /// Returns the id of a user's role.
    pub fn role_of(&self, user: &str) -> Option<&str> {
        self.user(user).map(|user| self.roles[user.role].id.as_str())
    }

    /// Returns the groups in which a user may do anything, in the order of the file.
    pub fn groups_of(&self, user: &str) -> Vec<&Group> {
        self.seats(user).into_iter().map(|seat| seat.group).collect()
    }

    /// Returns the groups of a user, and how they have them, in the order of the file.
    pub fn seats(&self, user: &str) -> Vec<Seat<'_>> {
        let Some(user) = self.user(user) else { return Vec::new() };
        let class = &self.classes[user.class];
        let seat = |(place, rights): (usize, &Rights)| Seat {
            group: &self.groups[place],
            rights: *rights,
            command: self.groups[place].command().filter(|_| class.moves == Moves::Switch),
            is_default: class.default == place,
        };
        class.rights.iter().enumerate().filter(|(_, rights)| rights.is_any()).map(seat).collect()
    }

    /// Returns the group that a user begins in.
    pub fn default_of(&self, user: &str) -> Option<&Group> {
        self.user(user).map(|user| &self.groups[self.classes[user.class].default])
    }

    /// Returns how a user goes from group to group.
    pub fn moves_of(&self, user: &str) -> Moves {
        self.user(user).map(|user| self.classes[user.class].moves).unwrap_or_default()
    }

    /// Returns where a user's line goes that is typed in a group they may read and not write.
    pub fn redirect_of(&self, user: &str) -> Option<&Group> {
        self.user(user).and_then(|user| self.classes[user.class].redirect).map(|group| &self.groups[group])
    }

    /// Returns who may do this in a group, in the order of the file.
    pub fn who_may(&self, verb: Verb, group: &str) -> Vec<&str> {
        let Some(&group) = self.group_by_id.get(group) else { return Vec::new() };
        let may = |user: &&User| verb.is_within(self.classes[user.class].rights[group]);
        self.users.iter().filter(may).map(|user| user.name.as_str()).collect()
    }

    /// Returns the user that was probably meant, for hints to who runs the chat.
    pub fn closest_user(&self, name: &str) -> Option<&str> {
        closest(name, self.users())
    }

    fn user(&self, name: &str) -> Option<&User> {
        self.user_by_name.get(name).map(|&user| &self.users[user])
    }

    /// Returns whether a unit is below another, however deep.
    fn is_below(&self, unit: usize, above: usize) -> bool {
        ancestors(&self.units, unit).any(|ancestor| ancestor == above)
    }

    /// Returns whether a selector is about a group, for a user of this unit.
    fn selects(&self, selector: Selector, unit: Option<usize>, group: usize) -> bool {
        let of = self.groups[group].unit;
        match selector {
            Selector::Group(this) => this == group,
            Selector::Own => unit.is_some() && of == unit,
            Selector::Below => match (of, unit) {
                (Some(of), Some(unit)) => self.is_below(of, unit),
                _ => false,
            },
            Selector::Unit(this) => of == Some(this),
            Selector::AnyUnit => of.is_some(),
        }
    }
}

/// Returns the units above a unit, the nearest first. There must be no circle.
fn ancestors(units: &[Unit], unit: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(units[unit].parent, |&above| units[above].parent)
}
