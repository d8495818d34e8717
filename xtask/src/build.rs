//! Builds gx and the plugins that come with it: the one place that names their packages.

use crate::shell::{self, Result, cargo};

/// The plugins that come with gx.
pub(crate) const PLUGINS: [&str; 3] = ["docker", "podman", "speedtest"];

/// Builds gx and its plugins; `arguments` are cargo's, as `--release` and what else is to be built.
///
/// # Errors
/// [`Failure::Because`](shell::Failure::Because) where the build fails.
pub(crate) fn gx(arguments: &[&str]) -> Result<()> {
    let mut build = cargo(&["build", "--package", "gx"]);
    build.args(PLUGINS.iter().flat_map(|name| ["--package".to_owned(), format!("gx-plugin-{name}")]));
    shell::run(build.args(arguments))
}
