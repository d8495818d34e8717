//! Who may do what in which group: units, groups and roles of a hierarchy, read from a TOML file. Denied is whatever is
//! not allowed.

/// What somebody wants to do in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Send a message.
    Send,
    /// Receive messages as they come.
    Live,
    /// Read what was said.
    History,
    /// Search what was said.
    Search,
    /// Take what was said out of the chat.
    Export,
    /// See who is there.
    Presence,
    /// See who may be there.
    Members,
    /// Show that one is typing, and see it.
    Typing,
}

impl Verb {
    /// All verbs.
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
}

/// The rights of everybody, as a policy file has them.
#[derive(Debug, Clone, Default)]
pub struct Policy {}

impl Policy {
    /// Decides whether a user may do something in a group. It is the only place where that is decided.
    pub fn allows(&self, _user: &str, _verb: Verb, _group: &str) -> bool {
        false
    }
}
