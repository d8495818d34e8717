//! What other data folders have left on this machine: containers with gx's labels in every engine that works, and tables
//! of the firewall.

use std::collections::BTreeMap;

use gx_core::container::{Container, label};
use gx_core::runtime::{HealthStatus, ListFilter, list_all};
use gx_server::{Caller, FirewallTable, Node, firewall_tables};

use super::{Check, Verdict};

/// How many are named.
const NAMED: usize = 10;

/// Looks for containers of other hosts, whose data folder may be gone.
pub(super) async fn strays(node: &Node) -> Check {
    let mut strays = Vec::new();
    for status in node.runtimes(&Caller::Host).await.unwrap_or_default() {
        if status.health.status != HealthStatus::Healthy {
            continue;
        }
        let Ok(runtime) = node.plugins().runtime(&status.name).await else { continue };
        let labels = BTreeMap::from([(label::NAME.to_owned(), None)]);
        let found =
            list_all(&*runtime, ListFilter { labels, ..ListFilter::default() }).await.unwrap_or_default();
        let own = node.id().to_string();
        strays.extend(
            found.iter().filter(|c| is_stray(c, &own)).map(|c| format!("{} in {}", c.name, status.name)),
        );
    }
    judge(&strays)
}

fn is_stray(container: &Container, own: &str) -> bool {
    container.labels.get(label::HOST).map(String::as_str) != Some(own)
}

fn judge(strays: &[String]) -> Check {
    let name = "strays";
    if strays.is_empty() {
        return Check::ok(name, "no container of gx is without its host");
    }
    let more = strays.len().saturating_sub(NAMED);
    let named = strays.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Check::new(name, Verdict::Warn, format!("made by another data folder's host: {named}{more}")).hint(Some(
        "if that data folder is gone, remove them with the engine's own program, as `docker rm -f NAME`"
            .to_owned(),
    ))
}

/// Looks for rules of hosts whose data folder is gone. Who may not see the rules is told nothing: they have none.
pub(super) async fn tables() -> Option<Check> {
    judge_tables(&firewall_tables().await.ok()?)
}

fn judge_tables(tables: &[FirewallTable]) -> Option<Check> {
    let strays: Vec<&str> =
        tables.iter().filter(|table| table.is_stray()).map(|table| table.name.as_str()).collect();
    if strays.is_empty() {
        return None;
    }
    let more = strays.len().saturating_sub(NAMED);
    let named = strays.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let told = format!("firewall rules of data folders that are gone: {named}{more}");
    let command =
        strays.iter().map(|name| format!("nft delete table inet {name}")).collect::<Vec<_>>().join("; ");
    Some(Check::new("rules", Verdict::Warn, told).hint(Some(command)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_a_folder_that_is_gone_come_with_the_command_that_removes_them() {
        let table = |name: &str, folder: &str, used| FirewallTable {
            name: name.to_owned(),
            folder: Some(folder.into()),
            used,
        };
        let there = tempfile::tempdir().unwrap();
        std::fs::write(there.path().join("node.key"), "").unwrap();
        let there = table("gx_here", there.path().to_str().unwrap(), false);
        assert!(judge_tables(&[there.clone(), table("gx_used", "/nonexistent", true)]).is_none());
        let gone = [there, table("gx_aaaa", "/nonexistent", false), table("gx_bbbb", "/nonexistent", false)];
        let check = judge_tables(&gone).unwrap();
        assert!(check.message.ends_with("gone: gx_aaaa, gx_bbbb"), "{check:?}");
        assert_eq!(check.hints, ["nft delete table inet gx_aaaa; nft delete table inet gx_bbbb"]);
    }

    #[test]
    fn a_container_of_another_host_is_a_stray() {
        let container = |host: &str| -> Container {
            let value =
                serde_json::json!({"id": "1", "name": "gx-a", "image": "x", "labels": {"gx.host": host}});
            serde_json::from_value(value).unwrap()
        };
        assert!(is_stray(&container("other"), "me") && !is_stray(&container("me"), "me"));
        assert_eq!(judge(&[]).verdict, Verdict::Ok);
        let many: Vec<String> = (0..12).map(|n| format!("gx-{n} in docker")).collect();
        assert!(judge(&many).message.ends_with("gx-9 in docker and 2 more"));
    }
}
