//! At the end.

use std::sync::Arc;

use crate::trial::{Case, Trial, Verdict, case, check};

pub(super) const CASES: &[Case] =
    &[case!("clean/nothing is left", "a removed container leaves nothing behind", [], nothing, alone)];

async fn nothing(t: Arc<Trial>) -> Verdict {
    let left = t.listed(&[(crate::LABEL, Some(&t.options.run_id))]).await?;
    left.iter().for_each(|container| t.made(&container.id));
    let names: Vec<_> = left.iter().map(|container| container.name.as_str()).collect();
    check!(left.is_empty(), "{} containers are left: {}", left.len(), names.join(", "));
    Ok(())
}
