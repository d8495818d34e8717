//! What this machine can run: the platforms of images.

use std::path::Path;
use std::sync::Arc;

use gx_core::api::CreateRequest;
use gx_core::image::Image;
use gx_core::{PluginName, Runtime};

use super::Node;
use super::containers::timely;
use crate::error::{Result, ServerError};

/// Where the kernel tells what runs programs of other machines.
const EMULATORS: &str = "/proc/sys/fs/binfmt_misc";

impl Node {
    /// Refuses an image that only another machine can run; the engine may be on one.
    pub(crate) async fn check_platform(
        &self,
        name: &PluginName,
        runtime: &Arc<dyn Runtime>,
        request: &CreateRequest,
        image: &Image,
    ) -> Result<()> {
        if may_run(&image.platform) {
            return Ok(());
        }
        let info = timely(name, async { runtime.info().await.map_err(ServerError::of(name)) }).await?;
        if architecture_of(&image.platform) == Some(info.arch.as_str()) {
            return Ok(());
        }
        let (platform, host) = (image.platform.clone(), format!("{}/{}", info.os, info.arch));
        Err(ServerError::ForeignImage { image: request.image.clone(), platform, host })
    }
}

/// Returns this machine's architecture, as images name it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// Returns whether an image is for this kind of machine.
pub(crate) fn is_own(platform: &str) -> bool {
    architecture_of(platform) == Some(architecture())
}

/// Returns whether a program of a platform can run here, as far as anybody can tell: by the machine itself, or by an
/// emulator that the kernel knows.
fn may_run(platform: &str) -> bool {
    let Some(wanted) = architecture_of(platform) else { return true };
    let native = matches!((architecture(), wanted), ("amd64", "386") | ("arm64", "arm"));
    wanted == architecture() || native || has_emulator(Path::new(EMULATORS))
}

/// Returns the architecture in `linux/arm64/v8`; `None` when the platform does not say.
fn architecture_of(platform: &str) -> Option<&str> {
    platform.split('/').nth(1).filter(|architecture| !architecture.is_empty())
}

fn has_emulator(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        let name = entry.file_name();
        let emulates = name.to_str().is_some_and(|name| name.starts_with("qemu-") || name == "rosetta");
        emulates && std::fs::read_to_string(entry.path()).is_ok_and(|text| text.starts_with("enabled"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_this_machines_or_not() {
        assert!(is_own(&format!("linux/{}", architecture())));
        assert!(is_own(&format!("linux/{}/v8", architecture())));
        assert!(!is_own("linux/s390x") && !is_own("") && !is_own("linux/"));
        assert!(may_run("") && may_run(&format!("linux/{}", architecture())));
    }

    #[test]
    fn an_emulator_counts_while_it_is_enabled() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("register", "");
        write("python3.11", "enabled\n");
        assert!(!has_emulator(folder.path()));
        write("qemu-aarch64", "disabled\n");
        assert!(!has_emulator(folder.path()));
        write("qemu-aarch64", "enabled\ninterpreter /usr/bin/qemu-aarch64-static\n");
        assert!(has_emulator(folder.path()));
        assert!(!has_emulator(&folder.path().join("none")));
    }
}
