//! `gx pull`: fetches an image from its registry.

use clap::Args;
use clap_complete::ArgValueCandidates;
use gx_core::api::{ImageInfo, PullBody};
use gx_core::runtime::PullRequest;
use gx_core::stream::pipe;
use gx_core::{ImageRef, PluginName};

use super::{Context, completions};
use crate::error::Result;
use crate::output::{Pairs, Show, View, human};

const EXAMPLES: &str = "\
Examples:
  gx pull debian:bookworm
  gx pull --runtime podman --platform linux/arm64 quay.io/fedora/fedora:40
  gx pull gx-desktop        the image that comes with gx: it is built";

/// What `gx pull` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PullArgs {
    /// The image, as registries name it; without tag or digest, `latest`
    pub image: ImageRef,
    /// The runtime that gets it; without it the configured one, else the host's first healthy one
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(completions::runtimes))]
    pub runtime: Option<PluginName>,
    /// The platform, as in linux/arm64; without it the engine's own
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
}

pub(crate) async fn run(args: PullArgs, context: &Context<'_>) -> Result {
    let body = PullBody {
        runtime: context.runtime(args.runtime)?,
        pull: PullRequest { image: args.image, platform: args.platform, auth: None },
    };
    let target = context.target().await?;
    let (output, items) = pipe(0);
    let (pulled, ()) = tokio::join!(target.pull(body, output), context.out.steps().follow(items));
    context.out.show(&pulled?)
}

impl Show for ImageInfo {
    fn text(&self, view: &View) -> String {
        Pairs::new()
            .pair("image", self.image.tags.join(", "))
            .pair("id", &self.image.id)
            .pair("runtime", &self.runtime)
            .pair("size", human::bytes(self.image.size_bytes))
            .pair("platform", &self.image.platform)
            .some("created", self.image.created_at.map(|at| human::ago(at, view.now)))
            .text(view)
    }

    fn ids(&self, _: &View) -> String {
        format!("{}\n", self.image.id)
    }
}
