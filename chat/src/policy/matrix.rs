//! Everybody's rights as a table, and what changes from one policy to another.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::pattern::in_ranges;
use super::{Policy, Rights};

/// Everybody's rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Matrix {
    /// The ids of the groups, in the order of the file.
    pub groups: Vec<String>,
    /// Every user.
    pub users: Vec<MatrixRow>,
}

/// A user's rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MatrixRow {
    /// Who.
    pub user: String,
    /// The role.
    pub role: String,
    /// The unit.
    pub unit: Option<String>,
    /// The group that the user begins in.
    pub default: String,
    /// In the order of [`Matrix::groups`].
    pub rights: Vec<Rights>,
}

impl MatrixRow {
    fn is_like(&self, other: &Self) -> bool {
        (&self.role, &self.unit, &self.default, &self.rights)
            == (&other.role, &other.unit, &other.default, &other.rights)
    }
}

impl Matrix {
    /// Returns the rows with users in a few words: neighbours with the same role, unit and rights share one.
    pub fn in_ranges(&self) -> Vec<(String, &MatrixRow)> {
        let runs = self.users.chunk_by(|one, next| one.is_like(next));
        runs.map(|run| (in_ranges(run.iter().map(|row| row.user.as_str())).join(", "), &run[0])).collect()
    }
}

/// What changes from one policy to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MatrixDiff {
    /// Rights that are gained or lost.
    pub changes: Vec<Change>,
}

/// Rights of a user in a group that change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Who.
    pub user: String,
    /// Where.
    pub group: String,
    /// What was allowed.
    pub before: Rights,
    /// What is allowed.
    pub after: Rights,
}

impl MatrixDiff {
    /// Returns whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Returns the changes with users in a few words, by group and by what changes.
    pub fn in_ranges(&self) -> Vec<(String, &Change)> {
        let mut alike: Vec<Vec<&Change>> = Vec::new();
        let mut places: BTreeMap<(&str, Rights, Rights), usize> = BTreeMap::new();
        for change in &self.changes {
            let step = (change.group.as_str(), change.before, change.after);
            let place = *places.entry(step).or_insert_with(|| {
                alike.push(Vec::new());
                alike.len() - 1
            });
            alike[place].push(change);
        }
        let users = |same: &[&Change]| in_ranges(same.iter().map(|change| change.user.as_str())).join(", ");
        alike.iter().map(|same| (users(same), same[0])).collect()
    }
}

impl Policy {
    /// Returns everybody's rights.
    pub fn matrix(&self) -> Matrix {
        let row = |user: &super::User| MatrixRow {
            user: user.name.clone(),
            role: self.roles[user.role].id.clone(),
            unit: user.unit.map(|unit| self.units[unit].id.clone()),
            default: self.groups[self.classes[user.class].default].id.clone(),
            rights: self.classes[user.class].rights.clone(),
        };
        Matrix {
            groups: self.groups.iter().map(|group| group.id.clone()).collect(),
            users: self.users.iter().map(row).collect(),
        }
    }

    /// Returns what changes when this policy takes the place of `before`: users and groups that are new or gone
    /// included.
    pub fn changes_since(&self, before: &Self) -> MatrixDiff {
        let gone = before.users().filter(|name| self.user(name).is_none());
        let groups: BTreeSet<&str> =
            before.groups.iter().chain(&self.groups).map(|group| group.id.as_str()).collect();
        let mut changes = Vec::new();
        for user in self.users().chain(gone) {
            for group in &groups {
                let (was, is) = (before.rights(user, group), self.rights(user, group));
                if was != is {
                    let (user, group) = (user.to_owned(), (*group).to_owned());
                    changes.push(Change { user, group, before: was, after: is });
                }
            }
        }
        MatrixDiff { changes }
    }
}
