//! `gx build`: builds an image from a folder with a Containerfile. The folder is sent as it is read, not held.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use clap_complete::ArgValueCandidates;
use gx_core::api::BuildQuery;
use gx_core::runtime::BuildRequest;
use gx_core::stream::{input, pipe};
use gx_core::{ImageRef, PluginName};

use super::{Context, completions, create::pair};
use crate::archive::{self, InputWriter, Wanted};
use crate::error::{CliError, Result};
use crate::ignore::Ignore;

const EXAMPLES: &str = "\
Examples:
  gx build -t tools .
  gx build -t tools:dev -f Containerfile.dev --build-arg BASE=debian:bookworm .
  gx build --runtime podman -t tools --no-cache images/tools

What `.containerignore`, else `.dockerignore`, lists stays here.";

/// The names a Containerfile may have; the first that is there counts.
const CONTAINERFILES: [&str; 2] = ["Containerfile", "Dockerfile"];

/// What `gx build` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BuildArgs {
    /// The folder that is sent, with the Containerfile in it
    #[arg(value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
    pub folder: PathBuf,
    /// The name of the image, with its tag
    #[arg(short, long, value_name = "IMAGE")]
    pub tag: ImageRef,
    /// The Containerfile, in the folder; without it Containerfile, else Dockerfile
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Sets an ARG of the Containerfile; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub build_arg: Vec<(String, String)>,
    /// Uses nothing of earlier builds
    #[arg(long)]
    pub no_cache: bool,
    /// The runtime that builds and keeps it; without it the configured one, else the host's first healthy one
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(completions::runtimes))]
    pub runtime: Option<PluginName>,
}

pub(crate) async fn run(args: BuildArgs, context: &Context<'_>) -> Result {
    let source = Source::open(&args.folder, args.file.as_deref())?;
    let build = BuildRequest {
        tag: args.tag,
        containerfile: Some(source.containerfile.clone()),
        args: args.build_arg.into_iter().collect(),
        no_cache: args.no_cache,
        no_network: false,
    };
    let query = BuildQuery { runtime: context.runtime(args.runtime)?, build };
    let target = context.target().await?;
    let (sender, given) = input();
    let writer = InputWriter::buffered(sender);
    let folder = args.folder;
    let sent = tokio::task::spawn_blocking(move || source.write(writer));
    let (output, items) = pipe(0);
    let (built, ()) = tokio::join!(target.build(query, given, output), context.out.steps().follow(items));
    match sent.await {
        // The folder could not be read: what the engine says of half an archive is a consequence.
        Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::io(format!("cannot send {}", folder.display()), &error))
        }
        _ => context.out.show(&built?),
    }
}

/// A folder to build from.
#[derive(Debug)]
struct Source {
    folder: PathBuf,
    /// The Containerfile's path within the folder.
    containerfile: String,
    ignore: Ignore,
}

impl Source {
    fn open(folder: &Path, file: Option<&Path>) -> Result<Self> {
        let folder = folder.canonicalize().map_err(|error| {
            CliError::usage(format!("cannot read the folder {}", folder.display())).cause(error.to_string())
        })?;
        if !folder.is_dir() {
            return Err(CliError::usage(format!("{} is not a folder", folder.display()))
                .hint("gx build takes the folder; -f names the Containerfile in it"));
        }
        let containerfile = match file {
            Some(file) => named(&folder, file)?,
            None => usual(&folder)?,
        };
        Ok(Self { containerfile, ignore: ignore_of(&folder)?, folder })
    }

    fn write(self, writer: io::BufWriter<InputWriter>) -> io::Result<()> {
        let mut archive = tar::Builder::new(writer);
        let wanted = |path: &Path, is_folder: bool| match self.ignore.wanted(path, is_folder) {
            // The builder needs this one, whatever is left out for what it makes.
            _ if path == Path::new(&self.containerfile) => Wanted::Yes,
            Wanted::No if is_folder && Path::new(&self.containerfile).starts_with(path) => Wanted::Below,
            wanted => wanted,
        };
        archive::pack(&mut archive, &self.folder, Path::new(""), &wanted)?;
        archive.into_inner()?.flush()
    }
}

// As with `docker build -f`: seen from here, else from the folder.
fn named(folder: &Path, file: &Path) -> Result<String> {
    let missing =
        || CliError::usage(format!("there is no {}", file.display())).hint("-f names the Containerfile");
    let found = file.canonicalize().or_else(|_| folder.join(file).canonicalize()).map_err(|_| missing())?;
    let inner = found.strip_prefix(folder).map_err(|_| {
        CliError::usage(format!("{} is outside of {}", file.display(), folder.display()))
            .hint("only what is in the folder is sent: copy it there, or name a folder with both")
    })?;
    let inner = inner.to_str().ok_or_else(|| CliError::usage("the Containerfile's name is not UTF-8"))?;
    Ok(inner.to_owned())
}

fn usual(folder: &Path) -> Result<String> {
    let found = CONTAINERFILES.iter().find(|name| folder.join(name).is_file());
    found.map(|name| (*name).to_owned()).ok_or_else(|| {
        CliError::usage(format!("there is neither Containerfile nor Dockerfile in {}", folder.display()))
            .hint("-f names one that is called otherwise")
    })
}

fn ignore_of(folder: &Path) -> Result<Ignore> {
    for name in Ignore::FILES {
        let file = folder.join(name);
        match std::fs::read(&file) {
            Ok(text) => return Ok(Ignore::from_text(&String::from_utf8_lossy(&text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(CliError::io(format!("cannot read {}", file.display()), &error)),
        }
    }
    Ok(Ignore::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::stream::InputChunk;
    use std::fs;

    #[tokio::test]
    async fn the_folder_goes_without_what_is_ignored_but_with_its_containerfile() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("deploy/secret")).unwrap();
        for name in ["a.txt", "b.log", "deploy/Dockerfile", "deploy/secret/key", ".containerignore"] {
            fs::write(at(name), name).unwrap();
        }
        fs::write(at(".containerignore"), "*.log\ndeploy\n").unwrap();
        let source = Source::open(folder.path(), Some(Path::new("deploy/Dockerfile"))).unwrap();
        assert_eq!(source.containerfile, "deploy/Dockerfile");
        let (sender, mut given) = input();
        let writer = InputWriter::buffered(sender);
        let written = tokio::task::spawn_blocking(move || source.write(writer));
        let mut bytes = Vec::new();
        while let Some(InputChunk::Data(chunk)) = given.next().await {
            bytes.extend_from_slice(&chunk);
        }
        written.await.unwrap().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names = archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string());
        assert_eq!(names.collect::<Vec<_>>(), [".containerignore", "a.txt", "deploy/Dockerfile"]);
    }

    #[test]
    fn a_containerfile_must_be_there_and_inside() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        for (file, message) in [
            (None, "neither Containerfile nor Dockerfile"),
            (Some(outside.path()), "is outside of"),
            (Some(Path::new("nope")), "there is no nope"),
        ] {
            let error = Source::open(folder.path(), file).unwrap_err();
            assert!(error.message.contains(message) && !error.hints.is_empty(), "{error:?}");
        }
        assert!(Source::open(outside.path(), None).unwrap_err().message.contains("is not a folder"));
    }
}
