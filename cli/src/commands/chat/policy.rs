//! The policy of the chat as commands read it: a file that is named, or the configured one.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use gx_chat::policy::Policy;

use crate::commands::Context;
use crate::error::{CliError, Result};

/// More than a policy may have; what is longer is refused with its length.
const MAX_BYTES: u64 = (1 << 20) + 1;

/// Reads a policy, and returns it with the name of its file.
pub(super) fn read(named: Option<&Path>, context: &Context<'_>) -> Result<(Policy, PathBuf)> {
    let file = match named {
        Some(file) => file.to_owned(),
        None => context.settings()?.config.chat.policy.ok_or_else(|| {
            CliError::usage("no policy is named, and `policy` in [chat] names none")
                .hint("name a file, as examples/chat/army.toml")
        })?,
    };
    let mut bytes = Vec::new();
    std::fs::File::open(&file).and_then(|open| open.take(MAX_BYTES).read_to_end(&mut bytes)).map_err(
        |error| {
            CliError::io(format!("cannot read {}", file.display()), &error).hint("name the file of a policy")
        },
    )?;
    let text = String::from_utf8(bytes).map_err(|_| {
        CliError::usage(format!("{} is not UTF-8", file.display())).hint("save the file as UTF-8 text")
    })?;
    Ok((Policy::parse(&text, &file.display().to_string())?, file))
}
