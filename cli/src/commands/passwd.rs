//! `gx passwd`: new passwords for a container, shown once.

use clap::Args;
use clap_complete::ArgValueCandidates;
use gx_core::api::ContainerInfo;
use serde::Serialize;

use super::{Context, completions};
use crate::error::Result;
use crate::output::{Pairs, Show, View};

const EXAMPLES: &str = "\
Examples:
  gx passwd web
  gx passwd web --json | jq -r .ssh.password

Both passwords are new each time it is run, those before open nothing from then on, and nobody chooses them. The keys that \
may log in stay, and so do sessions that are open.";

/// What `gx passwd` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PasswdArgs {
    /// Its id, shortened as far as it is unique, or its name
    #[arg(value_name = "ID", add = ArgValueCandidates::new(completions::containers))]
    pub id: String,
}

pub(crate) async fn run(args: PasswdArgs, context: &Context<'_>) -> Result {
    let info = context.target().await?.passwd(&args.id).await?;
    context.out.show(&Changed(info))
}

#[derive(Serialize)]
#[serde(transparent)]
struct Changed(ContainerInfo);

impl Show for Changed {
    fn text(&self, view: &View) -> String {
        let (ssh, vnc) = (self.0.ssh.as_ref(), self.0.vnc.as_ref());
        Pairs::new()
            .some("user", ssh.map(|ssh| &ssh.user))
            .some("password", ssh.and_then(|ssh| ssh.password.as_ref()).map(|password| password.reveal()))
            .some("desktop's password", vnc.and_then(|vnc| vnc.password.as_ref()).map(|p| p.reveal()))
            .text(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::list;
    use gx_core::ContainerState;

    #[test]
    fn the_passwords_are_shown() {
        let mut info = list::tests::container("web", ContainerState::Running);
        let ssh = serde_json::json!({
            "user": "app", "host_key": "k", "fingerprint": "f", "password": "secret",
        });
        info.ssh = Some(serde_json::from_value(ssh).unwrap());
        assert_eq!(Changed(info).text(&View::plain()), "user       app\npassword   secret\n");
    }
}
