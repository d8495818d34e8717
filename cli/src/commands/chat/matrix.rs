//! `gx chat matrix`: checks a policy, and shows who may do what in which group.

use std::path::PathBuf;

use clap::Args;
use gx_chat::policy::{Matrix, MatrixDiff};
use serde::Serialize;

use super::policy;
use crate::commands::Context;
use crate::error::Result;
use crate::output::{Show, Table, View};

const EXAMPLES: &str = "\
Examples:
  gx chat matrix examples/chat/army.toml
  gx chat matrix new.toml --diff old.toml       what new.toml changes
  gx chat matrix --json army.toml | jq '.users[] | select(.user == \"Navy7\")'";

/// What `gx chat matrix` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct MatrixArgs {
    /// The policy; without it the one in [chat]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Shows what the policy changes, compared with this one
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub diff: Option<PathBuf>,
}

pub(super) fn run(args: &MatrixArgs, context: &Context<'_>) -> Result {
    let (after, _) = policy::read(args.file.as_deref(), context)?;
    match &args.diff {
        None => context.out.show(&after.matrix()),
        Some(file) => {
            let (before, _) = policy::read(Some(file), context)?;
            context.out.show(&Changes(after.changes_since(&before)))
        }
    }
}

impl Show for Matrix {
    fn text(&self, view: &View) -> String {
        let headings = ["users", "role", "unit"].into_iter().map(str::to_owned);
        let mut table = Table::with_columns(headings.chain(self.groups.iter().cloned()));
        for (users, row) in self.in_ranges() {
            let rights = self.groups.iter().zip(&row.rights).map(|(group, rights)| {
                let begins = if *group == row.default { "*" } else { "" };
                format!("{}{begins}", rights.letters())
            });
            let unit = row.unit.clone().unwrap_or_default();
            table.cells([users, row.role.clone(), unit].into_iter().chain(rights));
        }
        let (users, groups) = (self.users.len(), self.groups.len());
        let legend = format!("{users} users, {groups} groups; r reads, w writes, * begins there");
        format!("{}{}\n", table.text(view), view.dim(&legend))
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Changes(MatrixDiff);

impl Show for Changes {
    fn text(&self, view: &View) -> String {
        if self.0.is_empty() {
            return "nobody gains or loses a right\n".to_owned();
        }
        let mut table = Table::new(["users", "group", "before", "after"]);
        for (users, change) in self.0.in_ranges() {
            let letters = [change.before.letters().to_owned(), change.after.letters().to_owned()];
            let [before, after] = letters;
            table.row([users, change.group.clone(), before, after]);
        }
        table.text(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_chat::policy::Policy;

    const ARMY: &str = include_str!("../../../../examples/chat/army.toml");

    #[test]
    fn the_army_is_seven_lines() {
        let text = Policy::parse(ARMY, "army.toml").unwrap().matrix().text(&View::plain());
        let expected = "\
USERS             ROLE      UNIT       H     N     A     R
ChiefCommander    chief     forces     rw*   r-    r-    r-
ArmyGeneral       leader    army       rw*   --    --    rw
Army{1..50}       soldier   army       --    --    --    rw*
NavyMarshal       leader    navy       rw*   rw    --    --
Navy{1..50}       soldier   navy       --    rw*   --    --
AirForceChief     leader    airforce   rw*   --    rw    --
AirForce{1..50}   soldier   airforce   --    --    rw*   --
154 users, 4 groups; r reads, w writes, * begins there
";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_changes_is_a_table_too() {
        let before = Policy::parse(ARMY, "army.toml").unwrap();
        let after = Policy::parse(&ARMY.replace("Army{1..50}", "Army{1..48}"), "army.toml").unwrap();
        let changes = Changes(after.changes_since(&before));
        assert_eq!(
            changes.text(&View::plain()),
            "USERS          GROUP   BEFORE   AFTER\nArmy{49..50}   r       rw       --\n"
        );
        let nothing = Changes(before.changes_since(&before));
        assert_eq!(nothing.text(&View::plain()), "nobody gains or loses a right\n");
    }
}
