//! The images that tests and demo use, built in both engines without a registry.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::engines::Engines;
use crate::setup;
use crate::shell::{self, Doing, Failure, Result, root, say};

/// The base image's name in Docker.
pub(crate) const DOCKER_NAME: &str = "gx-busybox:latest";
/// The base image's name in Podman, where a name without a registry is local.
pub(crate) const PODMAN_NAME: &str = "localhost/gx-busybox:latest";
/// The label that says what an image was made of.
const MADE_OF: &str = "gx.made-of";

/// Builds the images in Docker, where they are missing or differ.
///
/// # Errors
/// [`Failure::Because`] with what the engine said.
pub(crate) fn build_docker(engines: &Engines) -> Result<()> {
    build(&Recipe::busybox("Docker", DOCKER_NAME)?, || engines.docker())
}

/// Builds the images in Podman, where they are missing or differ.
///
/// # Errors
/// [`Failure::Because`] with what the engine said.
pub(crate) fn build_podman(engines: &Engines) -> Result<()> {
    build(&Recipe::busybox("Podman", PODMAN_NAME)?, || engines.podman())
}

/// An image to build.
pub(crate) struct Recipe {
    pub(crate) engine: &'static str,
    pub(crate) name: &'static str,
    /// The folder with the Containerfile.
    pub(crate) context: PathBuf,
    /// What of it goes into the image.
    pub(crate) files: &'static [&'static str],
    /// `NAME=VALUE` for the Containerfile.
    pub(crate) arguments: Vec<String>,
}

impl Recipe {
    fn busybox(engine: &'static str, name: &'static str) -> Result<Self> {
        let files = &["rootfs.tar", "Containerfile"];
        Ok(Self { engine, name, context: context()?, files, arguments: Vec::new() })
    }
}

/// Builds an image where it is missing or made of something else.
///
/// # Errors
/// [`Failure::Because`] with what the engine said.
pub(crate) fn build(recipe: &Recipe, client: impl Fn() -> Command) -> Result<()> {
    let Recipe { engine, name, context, files, arguments } = recipe;
    let made_of = fingerprint(context, files)?;
    let format = format!("{{{{index .Config.Labels \"{MADE_OF}\"}}}}");
    let label = shell::read(client().args(["image", "inspect", "--format", &format, name]));
    if label.is_ok_and(|label| label == made_of) {
        return Ok(());
    }
    say(format_args!("building {name} in {engine}"));
    let mut build = client();
    // Docker's classic builder is in every engine; the newer one is a package of its own.
    build.env("DOCKER_BUILDKIT", "0");
    build.args(["build", "--quiet", "--tag", name, "--label", &format!("{MADE_OF}={made_of}")]);
    for argument in arguments {
        build.args(["--build-arg", argument]);
    }
    build.arg("--file").arg(context.join("Containerfile")).arg(context);
    shell::read(&mut build).map(drop)
}

/// Makes the folder that the builders are given: the Containerfile and the root's content.
fn context() -> Result<PathBuf> {
    let busybox = setup::static_busybox().ok_or_else(|| {
        Failure::Because("no statically linked busybox is there: busybox-static".to_owned())
    })?;
    let context = shell::target().join("images/busybox");
    let bin = context.join("rootfs/bin");
    std::fs::create_dir_all(&bin).doing(bin.display())?;
    std::fs::copy(&busybox, bin.join("busybox")).doing(busybox.display())?;
    for applet in shell::read(Command::new(&busybox).arg("--list"))?.lines().filter(|a| *a != "busybox") {
        let link = bin.join(applet);
        if link.symlink_metadata().is_err() {
            std::os::unix::fs::symlink("busybox", &link).doing(link.display())?;
        }
    }
    for folder in ["tmp", "root", "etc"] {
        std::fs::create_dir_all(context.join("rootfs").join(folder)).doing(folder)?;
    }
    let etc = context.join("rootfs/etc");
    std::fs::write(etc.join("passwd"), "root:x:0:0:root:/root:/bin/sh\n").doing("passwd")?;
    std::fs::write(etc.join("group"), "root:x:0:\n").doing("group")?;
    std::fs::copy(root().join("images/busybox/Containerfile"), context.join("Containerfile"))
        .doing("images/busybox/Containerfile")?;
    pack(&context)?;
    Ok(context)
}

/// Packs the root so that the same content gives the same bytes.
fn pack(context: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg("--mode=u=rwX,go=rX").arg("--directory").arg(context.join("rootfs"));
    shell::read(tar.arg("--file").arg(context.join("rootfs.tar")).arg(".")).map(drop)
}

fn fingerprint(context: &Path, files: &[&str]) -> Result<String> {
    let sums = shell::read(Command::new("sha256sum").args(files).current_dir(context))?;
    let digests: Vec<&str> = sums.lines().filter_map(|line| line.get(..16)).collect();
    Ok(digests.join("-"))
}
