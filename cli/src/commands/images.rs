//! `gx images`: the images that engines have.

use clap::Args;
use clap_complete::ArgValueCandidates;
use gx_core::PluginName;
use gx_core::api::{ImageInfo, ImageList};

use super::{Context, completions};
use crate::error::Result;
use crate::output::{Show, Table, View, human};

const EXAMPLES: &str = "\
Examples:
  gx images
  gx images --runtime podman --json

OFFERS: what a container of the image has beside its command. `ssh`: a login by SSH. `desktop`: one for `gx vnc`. \
`gpu`: programs that use a GPU, for `gx create --gpus`.";

/// What `gx images` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ImagesArgs {
    /// Lists those of this runtime only
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(completions::runtimes))]
    pub runtime: Option<PluginName>,
}

pub(crate) async fn run(args: ImagesArgs, context: &Context<'_>) -> Result {
    let list = context.target().await?.images(args.runtime.as_ref()).await?;
    for down in &list.unavailable {
        let text = format!("images in {} are not listed: {}", down.runtime, down.error.message);
        context.out.warn(&text, down.error.hint.as_deref());
    }
    context.out.show(&list)
}

impl Show for ImageList {
    fn text(&self, view: &View) -> String {
        let mut table = Table::new(["image", "runtime", "id", "created", "size", "platform", "offers"]);
        for ImageInfo { runtime, image, offers } in &self.images {
            let offers: Vec<&str> = offers.iter().map(|offer| offer.as_str()).collect();
            for tag in &image.tags {
                table.row([
                    tag.clone(),
                    runtime.to_string(),
                    short(&image.id).to_owned(),
                    image.created_at.map(|at| human::ago(at, view.now)).unwrap_or_default(),
                    human::bytes(image.size_bytes),
                    image.platform.clone(),
                    offers.join(", "),
                ]);
            }
        }
        table.text(view)
    }

    fn ids(&self, _: &View) -> String {
        self.images.iter().map(|info| format!("{}\n", short(&info.image.id))).collect()
    }
}

fn short(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_an_image_has_a_row() {
        let list: ImageList = serde_json::from_value(serde_json::json!({"images": [{"runtime": "docker", "image": {
            "id": "sha256:0123456789abcdef", "tags": ["a:1", "b:2"], "size_bytes": 2048, "platform": "linux/amd64",
        }, "offers": ["ssh", "desktop"]}]}))
        .unwrap();
        let text = list.text(&View::plain());
        assert_eq!(text.lines().count(), 3);
        assert!(
            text.contains("b:2     docker    0123456789ab             2.00 KiB   linux/amd64   ssh, desktop"),
            "{text}"
        );
    }
}
