//! `gx chat why`: by which rule of a policy a user may do something, or why not.

use std::path::PathBuf;

use clap::Args;
use gx_chat::policy::{Verb, Why, WhyRule};

use super::policy;
use crate::commands::Context;
use crate::error::{CliError, Result};
use crate::output::{Show, View};

const EXAMPLES: &str = "\
Examples:
  gx chat why ChiefCommander send n --policy examples/chat/army.toml
  gx chat why Navy7 history h --json | jq .allowed

Verbs: send, live, history, search, export, presence, members, typing. What is not a user or a group of the policy is \
an error; that something is not allowed is none.";

/// What `gx chat why` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct WhyArgs {
    /// The user
    pub user: String,
    /// What they want to do
    pub verb: Verb,
    /// The id of the group
    pub group: String,
    /// The policy; without it the one in [chat]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub policy: Option<PathBuf>,
}

pub(super) fn run(args: &WhyArgs, context: &Context<'_>) -> Result {
    let (policy, file) = policy::read(args.policy.as_deref(), context)?;
    let Some(user) = policy.user_name(&args.user) else {
        let told = CliError::usage(format!("{} has no user {}", file.display(), args.user));
        return Err(match policy.closest_user(&args.user) {
            Some(near) => told.hint(format!("did you mean `{near}`?")),
            None => told.hint("`gx chat matrix` lists them"),
        });
    };
    if policy.group(&args.group).is_none() {
        let told = CliError::usage(format!("{} has no group {}", file.display(), args.group));
        let ids: Vec<&str> = policy.groups().iter().map(|group| group.id()).collect();
        return Err(told.hint(format!("there are: {}", ids.join(", "))));
    }
    context.out.show(&policy.why(user, args.verb, &args.group))
}

impl Show for Why {
    fn text(&self, view: &View) -> String {
        let may = if self.allowed { view.green("may") } else { view.red("may not") };
        let mut text = format!("{} {may} {} in {}\n", self.user, self.verb, self.group);
        let role = self.role.as_deref().unwrap_or("none");
        let unit = self.unit.as_deref().unwrap_or("none");
        text.push_str(&format!("  role {role}, unit {unit}\n"));
        for rule in &self.rules {
            text.push_str(&format!(
                "  line {}: {} {}; {}\n",
                rule.line,
                rule.group,
                rule.rights.letters(),
                says(rule, self)
            ));
        }
        text
    }
}

fn says(rule: &WhyRule, why: &Why) -> String {
    match (rule.fits, rule.allows) {
        (false, _) => format!("it is not about {}", why.group),
        (true, false) => format!("it is about {}, without this right", why.group),
        (true, true) => "it allows this".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_chat::policy::Policy;

    const ARMY: &str = include_str!("../../../../examples/chat/army.toml");

    #[test]
    fn every_rule_says_what_it_says() {
        let policy = Policy::parse(ARMY, "army.toml").unwrap();
        let text = |user, verb, group| policy.why(user, verb, group).text(&View::plain());
        let line = |text: &str| ARMY.lines().position(|line| line.contains(text)).unwrap() + 1;
        let (h, below) = (line("{ group = \"h\""), line("\"below\""));
        assert_eq!(
            text("ChiefCommander", Verb::Send, "n"),
            format!(
                "ChiefCommander may not send in n\n  role chief, unit forces\n  line {h}: h rw; it is not about n\n  \
                 line {below}: below r-; it is about n, without this right\n"
            )
        );
        assert!(text("ChiefCommander", Verb::Live, "n").contains("below r-; it allows this\n"));
    }
}
