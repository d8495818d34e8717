//! Containers with gx's labels that this node does not look after, in every engine that works.

use std::collections::BTreeMap;

use gx_core::container::{Container, label};
use gx_core::runtime::{HealthStatus, ListFilter, list_all};
use gx_server::{Caller, Node};

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

#[cfg(test)]
mod tests {
    use super::*;

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
