//! `cargo xtask dist`: a tarball and a Debian package, for machines without Rust.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::install::{self, Piece, Zsh};
use crate::shell::{self, Doing, Result, root, say};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The scripts that dpkg runs.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Builds both into `target/dist`.
///
/// # Errors
/// The step that failed.
pub(crate) fn run() -> Result<()> {
    let out = shell::target().join("dist");
    fs::create_dir_all(&out).doing(out.display())?;
    let tarball = tarball(&out)?;
    let package = package(&out)?;
    say(format_args!("{}: unpack it anywhere and run bin/gx", tarball.display()));
    say(format_args!("{}: apt-get install {}", package.display(), package.display()));
    Ok(())
}

fn tarball(out: &Path) -> Result<PathBuf> {
    let name = format!("gx-{VERSION}-{}-linux", std::env::consts::ARCH);
    let stage = fresh(out.join("tarball"))?;
    install::write(&stage.join(&name), &install::build(Path::new("/usr/local"), Zsh::SiteFunctions)?)?;
    let file = out.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--create", "--gzip", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    shell::read(tar.arg("--directory").arg(&stage).arg("--file").arg(&file).arg(&name))?;
    Ok(file)
}

fn package(out: &Path) -> Result<PathBuf> {
    let pieces = install::build(Path::new("/usr"), Zsh::VendorCompletions)?;
    let stage = fresh(out.join("deb"))?;
    install::write(&stage.join("usr"), &pieces)?;
    // dpkg keeps its own list.
    let list = stage.join("usr/lib/gx/installed");
    fs::remove_file(&list).doing(list.display())?;
    let debian = stage.join("DEBIAN");
    fs::create_dir_all(&debian).doing(debian.display())?;
    for script in SCRIPTS {
        copy(&format!("packaging/debian/{script}"), &debian.join(script), 0o755)?;
    }
    copy("packaging/debian/copyright", &stage.join("usr/share/doc/gx/copyright"), 0o644)?;
    let architecture = shell::read(Command::new("dpkg").arg("--print-architecture"))?;
    let control = control(&architecture, &pieces);
    fs::write(debian.join("control"), control).doing("DEBIAN/control")?;
    let file = out.join(format!("gx_{VERSION}_{architecture}.deb"));
    shell::run(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&stage).arg(&file))?;
    Ok(file)
}

fn control(architecture: &str, pieces: &[Piece]) -> String {
    let libc = pieces.iter().filter_map(|piece| newest_glibc(&piece.content)).max().unwrap_or((2, 17));
    let size: usize = pieces.iter().map(|piece| piece.content.len().div_ceil(1024)).sum();
    format!(
        "Package: gx\n\
         Version: {VERSION}\n\
         Architecture: {architecture}\n\
         Maintainer: The gx authors <gx@localhost>\n\
         Installed-Size: {size}\n\
         Depends: libc6 (>= {}.{}), libgcc-s1\n\
         Recommends: podman | docker.io | docker-ce\n\
         Section: admin\n\
         Priority: optional\n\
         Description: lends and borrows machines\n \
         gx makes containers on this machine or on another one that runs gx serve,\n \
         through plugins for Docker and Podman, and works with them: logs,\n \
         commands, files, images.\n",
        libc.0, libc.1
    )
}

/// Returns the newest version of glibc that a program asks for: its symbols' versions are plain text in it.
fn newest_glibc(program: &[u8]) -> Option<(u32, u32)> {
    const PREFIX: &[u8] = b"GLIBC_";
    if !program.starts_with(b"\x7fELF") {
        return None;
    }
    let starts = program.windows(PREFIX.len()).enumerate().filter(|(_, window)| *window == PREFIX);
    let versions = starts.filter_map(|(at, _)| {
        let rest = &program[at + PREFIX.len()..];
        let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
        let (major, minor) = std::str::from_utf8(&rest[..end]).ok()?.split_once('.')?;
        Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
    });
    versions.max()
}

fn fresh(folder: PathBuf) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(&folder).doing(folder.display())?;
    }
    fs::create_dir_all(&folder).doing(folder.display())?;
    Ok(folder)
}

fn copy(from: &str, to: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::copy(root().join(from), to).doing(from)?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).doing(to.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_glibc_is_found_in_a_program() {
        let program = b"\x7fELF..GLIBC_2.9\0GLIBC_2.34\0GLIBC_PRIVATE\0GLIBC_2.2.5\0";
        assert_eq!(newest_glibc(program), Some((2, 34)));
        assert_eq!(newest_glibc(b"#!/bin/sh GLIBC_2.40\0"), None);
    }
}
