//! `cargo xtask install`: gx with its plugins, completions, manual pages and unit below one prefix.
//!
//! What is installed is written down beside the plugins, so that `--uninstall` takes exactly that.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::build::{self, PLUGINS};
use crate::shell::{self, Doing, Failure, Result, root, say};

/// Where the list of installed files lies.
const LIST: &str = "lib/gx/installed";

/// Where to install.
#[derive(Args)]
pub(crate) struct InstallArgs {
    /// The folder that gets bin, lib and share
    #[arg(long, value_name = "DIR", default_value = "/usr/local")]
    prefix: PathBuf,
    /// Removes what an earlier run has installed below the prefix
    #[arg(long)]
    uninstall: bool,
}

/// Builds with optimisation and installs, or removes what was installed.
///
/// # Errors
/// [`Failure::Because`] names the file that could not be written or removed.
pub(crate) fn run(args: &InstallArgs) -> Result<()> {
    let prefix = std::path::absolute(&args.prefix).doing(args.prefix.display())?;
    if args.uninstall {
        return uninstall(&prefix);
    }
    let pieces = build(&prefix, Zsh::SiteFunctions)?;
    write(&prefix, &pieces)?;
    say(format_args!("{} files are installed below {}", pieces.len(), prefix.display()));
    say(format_args!("`cargo xtask install --uninstall --prefix {}` removes them", prefix.display()));
    let bin = prefix.join("bin");
    if !std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|folder| folder == bin) {
        say(format_args!("{} is not on your PATH", bin.display()));
    }
    Ok(())
}

/// One file to install.
pub(crate) struct Piece {
    /// Its path below the prefix.
    pub(crate) path: PathBuf,
    /// Its permissions.
    pub(crate) mode: u32,
    /// Its content.
    pub(crate) content: Vec<u8>,
}

/// Where zsh looks for completions.
#[derive(Clone, Copy)]
pub(crate) enum Zsh {
    /// What is installed by hand.
    SiteFunctions,
    /// What comes in a package of Debian's.
    VendorCompletions,
}

/// Builds with optimisation and returns everything there is to install; `prefix` is where it will lie.
///
/// # Errors
/// [`Failure::Because`] where the build fails or a file cannot be read.
pub(crate) fn build(prefix: &Path, zsh: Zsh) -> Result<Vec<Piece>> {
    say("building gx and its plugins, with optimisation");
    build::gx(&["--release"])?;
    let release = shell::target().join("release");
    let gx = release.join("gx");
    let mut pieces = vec![piece("bin/gx", 0o755, read(&gx)?)];
    for name in PLUGINS {
        let file = format!("libgx_plugin_{name}.so");
        pieces.push(piece(format!("lib/gx/{file}"), 0o644, read(&release.join(&file))?));
    }
    let zsh = match zsh {
        Zsh::SiteFunctions => "share/zsh/site-functions/_gx",
        Zsh::VendorCompletions => "share/zsh/vendor-completions/_gx",
    };
    for (shell, path) in [
        ("bash", "share/bash-completion/completions/gx"),
        ("zsh", zsh),
        ("fish", "share/fish/vendor_completions.d/gx.fish"),
    ] {
        let script = shell::read(Command::new(&gx).args(["completions", shell]))?;
        pieces.push(piece(path, 0o644, format!("{script}\n").into_bytes()));
    }
    pieces.extend(manual_pages(&gx)?);
    let unit = read_text("packaging/gx.service")?.replace("@BIN@", &prefix.join("bin").to_string_lossy());
    pieces.push(piece("lib/systemd/system/gx.service", 0o644, unit.into_bytes()));
    for (from, to) in [
        ("examples/config.toml", "share/doc/gx/examples/config.toml"),
        ("README.md", "share/doc/gx/README.md"),
        ("CHANGELOG.md", "share/doc/gx/CHANGELOG.md"),
        ("LICENSE-MIT", "share/doc/gx/LICENSE-MIT"),
        ("LICENSE-APACHE", "share/doc/gx/LICENSE-APACHE"),
    ] {
        pieces.push(piece(to, 0o644, read_text(from)?.into_bytes()));
    }
    Ok(pieces)
}

/// Writes the files below a folder, each beside its place first: a running gx keeps the file it has mapped.
///
/// # Errors
/// [`Failure::Because`] names the file.
pub(crate) fn write(folder: &Path, pieces: &[Piece]) -> Result<()> {
    for piece in pieces {
        place(&folder.join(&piece.path), piece.mode, &piece.content)?;
    }
    let list: String = pieces.iter().map(|piece| format!("{}\n", piece.path.display())).collect();
    place(&folder.join(LIST), 0o644, list.as_bytes())
}

fn place(file: &Path, mode: u32, content: &[u8]) -> Result<()> {
    let folder = file.parent().expect("a file lies in a folder");
    let hint = || format!("{} (another folder: --prefix DIR)", file.display());
    fs::create_dir_all(folder).doing(hint())?;
    let name = file.file_name().expect("a file has a name").to_string_lossy();
    let beside = folder.join(format!(".{name}.new"));
    let mut options = fs::OpenOptions::new();
    let mut new = options.write(true).create(true).truncate(true).mode(mode).open(&beside).doing(hint())?;
    new.write_all(content).doing(hint())?;
    new.set_permissions(fs::Permissions::from_mode(mode)).doing(hint())?;
    fs::rename(&beside, file).doing(hint())
}

fn uninstall(prefix: &Path) -> Result<()> {
    let list = prefix.join(LIST);
    let text = fs::read_to_string(&list).doing(format_args!(
        "{} (nothing is installed below {})",
        list.display(),
        prefix.display()
    ))?;
    let paths: Vec<&Path> = text.lines().map(Path::new).chain([Path::new(LIST)]).collect();
    if let Some(strange) = paths
        .iter()
        .find(|path| !path.components().all(|part| matches!(part, std::path::Component::Normal(_))))
    {
        return Err(Failure::Because(format!(
            "{} names {}, which is not below it",
            list.display(),
            strange.display()
        )));
    }
    for path in &paths {
        let file = prefix.join(path);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::Because(format!("{}: {error}", file.display())));
            }
            _ => {}
        }
        // Folders that held nothing else go, too; one that is not empty stays.
        for folder in path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
            if fs::remove_dir(prefix.join(folder)).is_err() {
                break;
            }
        }
    }
    say(format_args!("{} files are removed below {}", paths.len(), prefix.display()));
    Ok(())
}

fn manual_pages(gx: &Path) -> Result<Vec<Piece>> {
    let folder = tempfile::tempdir().doing("a folder for the manual pages")?;
    shell::run(Command::new(gx).args(["--quiet", "reference"]).arg(folder.path()))?;
    let pages = folder.path().join("man");
    let mut files = Vec::new();
    for entry in fs::read_dir(&pages).doing(pages.display())? {
        let entry = entry.doing(pages.display())?;
        let path = Path::new("share/man/man1").join(entry.file_name());
        files.push(piece(path, 0o644, read(&entry.path())?));
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn piece(path: impl Into<PathBuf>, mode: u32, content: Vec<u8>) -> Piece {
    Piece { path: path.into(), mode, content }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).doing(file.display())
}

fn read_text(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).doing(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_can_be_removed_and_nothing_else_is() {
        let prefix = tempfile::tempdir().unwrap();
        let other = prefix.path().join("bin/other");
        fs::create_dir(prefix.path().join("bin")).unwrap();
        fs::write(&other, "").unwrap();
        let pieces = [piece("bin/gx", 0o755, b"1".into()), piece("share/man/man1/gx.1", 0o644, b"2".into())];
        write(prefix.path(), &pieces).unwrap_or_else(|failure| panic!("{failure}"));
        let gx = prefix.path().join("bin/gx");
        assert_eq!(fs::metadata(&gx).unwrap().permissions().mode() & 0o777, 0o755);
        uninstall(prefix.path()).unwrap_or_else(|failure| panic!("{failure}"));
        let left: Vec<_> =
            fs::read_dir(prefix.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["bin"]);
        assert!(other.exists() && !gx.exists());
    }

    #[test]
    fn a_list_that_leads_outside_is_refused() {
        let prefix = tempfile::tempdir().unwrap();
        place(&prefix.path().join(LIST), 0o644, b"../../etc/passwd\n")
            .unwrap_or_else(|failure| panic!("{failure}"));
        assert!(uninstall(prefix.path()).is_err());
    }
}
