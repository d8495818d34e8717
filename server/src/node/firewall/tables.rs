//! The tables of all hosts in the kernel, and whose they are: a data folder that was thrown away leaves its own.

use std::path::{Path, PathBuf};

use super::{machine, nft};
use crate::error::Result;

/// What is noted beside a table's first rule begins with this.
const NOTE: &str = "gx of ";
/// The longest note that nft takes, in bytes (`NFTNL_UDATA_COMMENT_MAXLEN`).
const NOTE_MAX: usize = 128;
/// What the names of tables begin with, and how long the part of the host's id behind it is.
const PREFIX: &str = "gx_";
const SHORT: usize = 4;

/// A table of rules that some host has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallTable {
    /// Its name, in the family `inet`.
    pub name: String,
    /// The data folder of the host, where the table says so.
    pub folder: Option<PathBuf>,
    /// Whether there are networks that it is about.
    pub used: bool,
}

impl FirewallTable {
    /// Whether nobody needs it: it is about no network, and the data folder is not there.
    pub fn is_stray(&self) -> bool {
        let gone = |folder: &PathBuf| folder.join("node.key").try_exists().is_ok_and(|there| !there);
        !self.used && self.folder.as_ref().is_some_and(gone)
    }
}

/// Returns what is noted of the data folder; `None` where nft would not take it.
pub(super) fn note(folder: &Path) -> Option<String> {
    let note = format!("{NOTE}{}", folder.to_str()?);
    let plain = |c: char| c == ' ' || (c.is_ascii_graphic() && !matches!(c, '"' | '\\'));
    (note.len() < NOTE_MAX && note.chars().all(plain)).then_some(note)
}

/// Returns the tables of all hosts on this machine.
///
/// # Errors
/// [`ServerError::NoFirewall`](crate::ServerError::NoFirewall).
pub async fn firewall_tables() -> Result<Vec<FirewallTable>> {
    let told = nft(&["list", "ruleset", "inet"], "").await?;
    Ok(read(&String::from_utf8_lossy(&told), &machine::interfaces()))
}

/// Reads them in what nft tells.
fn read(text: &str, interfaces: &[String]) -> Vec<FirewallTable> {
    let mut tables: Vec<FirewallTable> = Vec::new();
    let mut ours = false;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("table inet ") {
            let name = rest.trim_end_matches(" {");
            let short = name.strip_prefix(PREFIX).filter(|short| short.len() == SHORT);
            ours = short.is_some();
            if let Some(short) = short {
                let bridges = format!("gx{short}-");
                let used = interfaces.iter().any(|interface| interface.starts_with(&bridges));
                tables.push(FirewallTable { name: name.to_owned(), folder: None, used });
            }
        } else if ours && let Some(table) = tables.last_mut().filter(|table| table.folder.is_none()) {
            table.folder = folder(line);
        }
    }
    tables
}

fn folder(line: &str) -> Option<PathBuf> {
    let note = line.split_once(" comment \"")?.1.strip_suffix('"')?;
    Some(note.strip_prefix(NOTE)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_whose_it_is() {
        let text = "table inet filter {\n\tchain x {\n\t}\n}\ntable inet gx_abcd {\n\tchain early {\n\
                    \t\tiifname \"gxabcd-*\" drop comment \"gx of /a b/data\"\n\t}\n}\n\
                    table inet gx_efgh {\n\tchain early {\n\t}\n}\ntable inet gx_longer {\n}\n";
        let tables = read(text, &["lo".to_owned(), "gxefgh-x".to_owned()]);
        let table = |name: &str, folder: Option<&str>, used| FirewallTable {
            name: name.to_owned(),
            folder: folder.map(PathBuf::from),
            used,
        };
        assert_eq!(tables, [table("gx_abcd", Some("/a b/data"), false), table("gx_efgh", None, true)]);
        assert!(tables[0].is_stray() && !tables[1].is_stray());
        let used = FirewallTable { used: true, ..tables[0].clone() };
        assert!(!used.is_stray(), "containers need it still");
    }

    #[test]
    fn a_folder_of_odd_letters_is_not_noted() {
        assert_eq!(note(Path::new("/var/lib/gx")).as_deref(), Some("gx of /var/lib/gx"));
        for odd in ["/a\"b", "/a\nb", "/\\", "/\u{e9}"] {
            assert_eq!(note(Path::new(odd)), None, "{odd:?}");
        }
        assert_eq!(note(&PathBuf::from(format!("/{}", "a".repeat(128)))), None);
    }
}
