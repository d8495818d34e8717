//! Which groups a rule is about: one by its id, those of the user's own unit, of the units below it, or of a unit.

/// Which groups a rule is about; groups and units by their places in the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Selector {
    /// This group.
    Group(usize),
    /// Those of the user's own unit.
    Own,
    /// Those of the units below the user's own, however deep.
    Below,
    /// Those of this unit.
    Unit(usize),
    /// Those of any unit.
    AnyUnit,
}

/// Whom a role is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whom<'a> {
    /// Users by name or range.
    Named(&'a str),
    /// The leaders of all units, or of one.
    Leaders(Option<&'a str>),
    /// The members of all units, or of one; leaders are not among them.
    Members(Option<&'a str>),
}

impl<'a> Whom<'a> {
    /// Reads whom a role is for: a user, a range, `leader:UNIT`, `members:UNIT`, with `*` for all units.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let unit = |unit: &'a str| (unit != "*").then_some(unit);
        match text.split_once(':') {
            None => Some(Self::Named(text)),
            Some(("leader", of)) => Some(Self::Leaders(unit(of))),
            Some(("members", of)) => Some(Self::Members(unit(of))),
            Some(_) => None,
        }
    }
}
