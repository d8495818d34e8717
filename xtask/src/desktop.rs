//! The image with a desktop and others made of Debian, and the base of them where no registry is reachable.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::engines::Engines;
use crate::images::{self, Recipe};
use crate::shell::{self, Doing, Result, root, say};

/// The base's name, which gx looks for before it asks a registry.
const BASE: &str = "gx-debian:bookworm";
/// The name of the image with a desktop in Docker.
pub(crate) const DOCKER_NAME: &str = "gx-desktop:latest";
const PODMAN_NAME: &str = "localhost/gx-desktop:latest";
const RELEASE: &str = "bookworm";
/// Where a Debian machine says where its own packages come from.
const SOURCES: &str = "/etc/apt/sources.list.d/debian.sources";

/// Gives both engines the base, where they lack it.
///
/// # Errors
/// [`Failure::Because`](shell::Failure::Because) with what mmdebstrap or the engine said.
pub(crate) fn bases(engines: &Engines) -> Result<()> {
    import("Docker", || engines.docker())?;
    import("Podman", || engines.podman())
}

/// Builds the image in both engines, where it is missing or differs.
///
/// # Errors
/// As of [`bases`].
pub(crate) fn build(engines: &Engines) -> Result<()> {
    images::build(&recipe("Docker", DOCKER_NAME, BASE.to_owned()), || engines.docker())?;
    images::build(&recipe("Podman", PODMAN_NAME, format!("localhost/{BASE}")), || engines.podman())
}

/// Builds the image with OpenSSH's server in both engines, where it is missing or differs.
///
/// # Errors
/// As of [`bases`].
pub(crate) fn build_sshd(engines: &Engines, name: &'static str) -> Result<()> {
    on_base(engines, name, "sshd", &["Containerfile", "start.sh"])
}

/// Builds the image that other programs than gx visit over SSH, in both engines, where it is missing or differs.
///
/// # Errors
/// As of [`bases`].
pub(crate) fn build_clients(engines: &Engines) -> Result<()> {
    on_base(engines, "gx-clients", "clients", &["Containerfile"])
}

fn on_base(
    engines: &Engines,
    name: &'static str,
    folder: &str,
    files: &'static [&'static str],
) -> Result<()> {
    bases(engines)?;
    let recipe = |engine, base: String| Recipe {
        engine,
        name,
        context: root().join("images").join(folder),
        files,
        arguments: vec![format!("BASE={base}")],
    };
    images::build(&recipe("Docker", BASE.to_owned()), || engines.docker())?;
    images::build(&recipe("Podman", format!("localhost/{BASE}")), || engines.podman())
}

fn recipe(engine: &'static str, name: &'static str, base: String) -> Recipe {
    Recipe {
        engine,
        name,
        context: root().join("images/desktop"),
        files: &["Containerfile", "services.toml"],
        arguments: vec![format!("BASE={base}")],
    }
}

fn import(engine: &str, client: impl Fn() -> Command) -> Result<()> {
    if shell::read(client().args(["image", "inspect", "--format", "{{.Id}}", BASE])).is_ok() {
        return Ok(());
    }
    let archive = archive()?;
    say(format_args!("importing {BASE} into {engine}"));
    shell::read(client().arg("import").arg(archive).arg(BASE)).map(drop)
}

/// Returns the base as an archive, and makes it the first time.
fn archive() -> Result<PathBuf> {
    let folder = shell::target().join("images/desktop");
    let archive = folder.join("base.tar");
    if archive.exists() {
        return Ok(archive);
    }
    fs::create_dir_all(&folder).doing(folder.display())?;
    say("making the base of the desktop's image with mmdebstrap");
    let beside = folder.join("new.tar");
    let mut mmdebstrap = shell::as_root("mmdebstrap");
    // As in Debian's own slim images: no manual pages, and no waiting for the disk after each file.
    mmdebstrap.args(["--quiet", "--variant=minbase", "--dpkgopt=force-unsafe-io"]);
    for folder in ["doc", "info", "locale", "man"] {
        mmdebstrap.arg(format!("--dpkgopt=path-exclude=/usr/share/{folder}/*"));
    }
    shell::read(mmdebstrap.arg(RELEASE).arg(&beside).args(sources()))?;
    fs::rename(&beside, &archive).doing(archive.display())?;
    Ok(archive)
}

/// Returns this machine's own mirrors, if they have that release; without any Debian's are used.
fn sources() -> Option<&'static str> {
    let own = fs::read_to_string(Path::new(SOURCES)).unwrap_or_default();
    own.contains(RELEASE).then_some(SOURCES)
}
