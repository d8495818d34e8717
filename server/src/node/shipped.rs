//! Images that come with gx. What they are built from is inside the program; an engine that lacks one builds it when it
//! is first fetched, so that no registry of ours is needed.

use std::collections::BTreeMap;
use std::sync::Arc;

use gx_core::image::Image;
use gx_core::runtime::{BuildRequest, PullRequest};
use gx_core::stream::{Input, InputChunk, Output, input};
use gx_core::{ErrorCode, ImageRef, Runtime, RuntimeError};
use gx_identity::to_hex;
use sha2::{Digest, Sha256};

/// An image that comes with gx.
pub(super) struct Shipped {
    /// What it is called, on its own or behind `localhost/`.
    name: &'static str,
    /// What it is built from, the Containerfile among it.
    files: &'static [(&'static str, &'static str)],
    /// The value of the Containerfile's `BASE` where an engine has this image, on its own or behind `localhost/`.
    base: &'static str,
}

const SHIPPED: &[Shipped] = &[Shipped {
    name: "gx-desktop",
    files: &[
        ("Containerfile", include_str!("../../../images/desktop/Containerfile")),
        ("services.toml", include_str!("../../../images/desktop/services.toml")),
    ],
    base: "gx-debian:bookworm",
}];

/// What the Containerfile is told of its own sources, and the label that it puts it into.
const SOURCES_ARG: &str = "SOURCES";
const SOURCES_LABEL: &str = "gx.sources";

/// Where an engine keeps images that are of no registry.
const LOCAL: &str = "localhost/";

/// Fetches an image: one of ours by building it, any other from its registry.
///
/// # Errors
/// Those of [`Runtime::build`] and [`Runtime::pull`].
pub(super) async fn fetch(
    runtime: &Arc<dyn Runtime>,
    request: PullRequest,
    out: Output,
) -> Result<Image, RuntimeError> {
    match of(&request.image).filter(|_| request.platform.is_none()) {
        Some(shipped) => shipped.build(runtime, request.image, out).await,
        None => runtime.pull(request, out).await,
    }
}

/// Returns which image of ours a name means.
pub(super) fn of(image: &ImageRef) -> Option<&'static Shipped> {
    let name = image.repository();
    let name = name.strip_prefix(LOCAL).unwrap_or(name);
    let ours = image.digest().is_none() && matches!(image.tag(), None | Some("latest"));
    SHIPPED.iter().find(|shipped| ours && shipped.name == name)
}

/// Returns whether an image is one of ours that another version of gx has built. Those of somebody else, who has built
/// it without gx, stay.
pub(super) fn is_stale(name: &ImageRef, image: &Image) -> bool {
    let built_of = image.labels.get(SOURCES_LABEL).filter(|digest| !digest.is_empty());
    of(name).zip(built_of).is_some_and(|(shipped, digest)| *digest != shipped.digest())
}

impl Shipped {
    /// Returns by what its sources are told from those of another version.
    fn digest(&self) -> String {
        let hash = self.files.iter().fold(Sha256::new(), |hash, (name, text)| {
            hash.chain_update(name).chain_update([0]).chain_update(text).chain_update([0])
        });
        to_hex(&hash.finalize()[..8])
    }

    async fn build(
        &self,
        runtime: &Arc<dyn Runtime>,
        tag: ImageRef,
        out: Output,
    ) -> Result<Image, RuntimeError> {
        let base = self.base_in(runtime).await?;
        let mut args = BTreeMap::from([(SOURCES_ARG.to_owned(), self.digest())]);
        args.extend(base.map(|base| ("BASE".to_owned(), base.to_string())));
        let request = BuildRequest {
            tag,
            containerfile: Some("Containerfile".to_owned()),
            args,
            no_cache: false,
            no_network: false,
        };
        let built = runtime.build(request, self.context(), out).await;
        built.map_err(|error| match error.hint {
            None if error.code != ErrorCode::Unsupported => self.hinted(error),
            _ => error,
        })
    }

    /// Returns the name of the base that the engine has already, if it has one.
    async fn base_in(&self, runtime: &Arc<dyn Runtime>) -> Result<Option<ImageRef>, RuntimeError> {
        for name in [self.base.to_owned(), format!("{LOCAL}{}", self.base)] {
            let base: ImageRef = name.parse().expect("the names of our own images are good");
            if runtime.image(base.clone()).await?.is_some() {
                return Ok(Some(base));
            }
        }
        Ok(None)
    }

    fn context(&self) -> Input {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, text) in self.files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, text.as_bytes()).expect("short names and memory suffice");
        }
        let archive = archive.into_inner().expect("nothing is left to write");
        let (sender, input) = input();
        tokio::spawn(async move { sender.send(InputChunk::Data(archive.into())).await });
        input
    }

    fn hinted(&self, error: RuntimeError) -> RuntimeError {
        let hint = format!(
            "it is built here: its base comes from a registry, unless the engine has {}, and packages from Debian",
            self.base
        );
        RuntimeError { hint: Some(hint), ..error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_ours() {
        let ours = |name: &str| of(&name.parse().unwrap()).is_some();
        for name in ["gx-desktop", "gx-desktop:latest", "localhost/gx-desktop"] {
            assert!(ours(name), "{name}");
        }
        for name in ["desktop", "gx-desktop:1", "docker.io/library/gx-desktop", "localhost/x/gx-desktop"] {
            assert!(!ours(name), "{name}");
        }
    }

    #[test]
    fn what_the_desktop_says_of_its_services_can_be_read() {
        let text = SHIPPED[0].files.iter().find(|(name, _)| *name == "services.toml").unwrap().1;
        let services: gx_core::guest::Services = toml::from_str(text).unwrap();
        let names: Vec<_> = services.service.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["xvnc", "window-manager", "terminal"]);
        let vnc = &services.service[0];
        assert!(vnc.prepare.concat().contains(gx_core::guest::VNC_PASSWORD));
        assert!(vnc.command.contains(&gx_core::guest::VNC_PORT.to_string()));
        let label = format!("LABEL {}={}", gx_core::guest::DESKTOP_LABEL, gx_core::guest::VNC_PORT);
        assert!(SHIPPED[0].files[0].1.contains(&label));
        let sources = format!("ARG {SOURCES_ARG}\nLABEL {SOURCES_LABEL}=${{{SOURCES_ARG}}}\n");
        assert!(SHIPPED[0].files[0].1.contains(&sources));
    }
}
