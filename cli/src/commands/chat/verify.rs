//! `gx chat verify`: whether an export is what the server has stored, by its chain of hashes.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;

use clap::Args;
use gx_chat::chain::Chain;
use gx_chat::client::Exported;
use gx_chat::{ChainHash, GroupId, Seq};
use serde::Serialize;

use crate::commands::Context;
use crate::error::{CliError, Result};
use crate::output::{Show, Table, View};

/// The longest line of an export, in bytes.
const MAX_LINE: u64 = 256 * 1024;

/// What `gx chat verify` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  gx chat export --format jsonl > week.jsonl\n  gx chat verify week.jsonl\n\nEach message holds \
                        the hash of the one before it: what was changed, left out or put in afterwards shows. Compare the \
                        hash at the end with somebody else's: it is the same for the same messages."
)]
pub struct VerifyArgs {
    /// The file, as `gx chat export --format jsonl` writes it
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
}

pub(super) fn run(args: &VerifyArgs, context: &Context<'_>) -> Result {
    let shown = args.file.display();
    let fail = |error: &std::io::Error| {
        CliError::io(format!("cannot read {shown}"), error)
            .hint("name a file of `gx chat export --format jsonl`")
    };
    let mut lines = BufReader::new(std::fs::File::open(&args.file).map_err(|error| fail(&error))?);
    let mut chains: BTreeMap<GroupId, (Chain, Seq, u64)> = BTreeMap::new();
    for number in 1_u64.. {
        let mut line = Vec::new();
        lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(|error| fail(&error))?;
        if line.is_empty() {
            break;
        }
        let Exported { g, m } = serde_json::from_slice(&line).map_err(|error| {
            CliError::failed(format!("{shown}:{number}: not a message of an export"))
                .cause(error.to_string())
                .hint("only exports with --format jsonl can be checked")
        })?;
        let (chain, _, count) = chains.entry(g.clone()).or_insert_with(|| (Chain::new(g), m.seq, 0));
        chain.take(&m).map_err(|error| {
            CliError::failed(format!("{shown}:{number}: {error}"))
                .hint("the file is not what the server has stored")
        })?;
        *count += 1;
    }
    let of = |(group, (chain, first, messages)): (GroupId, (Chain, Seq, u64))| {
        let (last, hash) = chain.head()?;
        Some(Verified { group, messages, first, last, hash })
    };
    context.out.show(&Good { groups: chains.into_iter().filter_map(of).collect() })
}

#[derive(Serialize)]
struct Good {
    groups: Vec<Verified>,
}

#[derive(Serialize)]
struct Verified {
    group: GroupId,
    messages: u64,
    first: Seq,
    last: Seq,
    hash: ChainHash,
}

impl Show for Good {
    fn text(&self, view: &View) -> String {
        if self.groups.is_empty() {
            return "there is no message in it\n".to_owned();
        }
        let mut table = Table::new(["group", "messages", "first", "last", "hash"]);
        for Verified { group, messages, first, last, hash } in &self.groups {
            table.row([
                group.to_string(),
                messages.to_string(),
                first.to_string(),
                last.to_string(),
                hash.to_string(),
            ]);
        }
        format!("{}every message follows from the one before it\n", table.text(view))
    }
}
