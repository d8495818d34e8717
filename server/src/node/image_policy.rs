//! Which images members may use, fetch and build. The host's own user may any. Pure.

use gx_core::config::PolicyConfig;
use gx_core::image::QualifiedImage;
use gx_core::network::NetworkMode;
use gx_core::{ImageRef, NodeId};

use super::caller::Caller;
use super::shipped;
use crate::error::{Result, ServerError};

/// Checks that somebody may make containers of an image.
///
/// # Errors
/// [`ServerError::OverPolicy`].
pub(super) fn check(caller: &Caller, image: &ImageRef, policy: &PolicyConfig) -> Result<()> {
    if *caller == Caller::Host || policy.images.iter().any(|pattern| pattern.fits(image)) {
        return Ok(());
    }
    let what = format!("the image {image}");
    Err(ServerError::OverPolicy { field: "image", key: "images", what })
}

/// Returns the name under which somebody may fetch an image: for members in full, as what a short name means is for an
/// engine's own configuration to say, and that may be another registry.
///
/// # Errors
/// [`ServerError::OverPolicy`].
pub(super) fn fetched(caller: &Caller, image: &ImageRef, policy: &PolicyConfig) -> Result<ImageRef> {
    check(caller, image, policy)?;
    if *caller == Caller::Host || shipped::of(image).is_some() {
        return Ok(image.clone());
    }
    let full = QualifiedImage::of(image);
    if policy.registries.iter().any(|registry| registry.eq_ignore_ascii_case(&full.registry)) {
        return Ok(full.into());
    }
    let what = format!("images from {}", full.registry);
    Err(ServerError::OverPolicy { field: "image", key: "registries", what })
}

/// Checks that somebody may build an image and name it so. A member's names begin with its own id, so that none takes
/// the place of somebody else's image.
///
/// # Errors
/// [`ServerError::OverPolicy`], [`ServerError::Invalid`].
pub(super) fn build(caller: &Caller, tag: &ImageRef, policy: &PolicyConfig) -> Result<()> {
    let Caller::Member(member) = caller else { return Ok(()) };
    if !policy.builds {
        let what = "images built here".to_owned();
        return Err(ServerError::OverPolicy { field: "tag", key: "builds", what });
    }
    let own = own_folder(member.id);
    match tag.as_str().strip_prefix(&own) {
        Some(_) => Ok(()),
        None => Err(ServerError::invalid("tag", format!("the images you build here are named {own}NAME"))),
    }
}

fn own_folder(member: NodeId) -> String {
    format!("{}/", member.short())
}

/// Whether what members' builds run has no network: in the engine's own no rule of ours holds, which matters where the host
/// wants rules at all, or no network.
pub(crate) fn builds_apart(policy: &PolicyConfig) -> bool {
    policy.firewall || policy.network != NetworkMode::Full
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::member;

    fn policy(images: &[&str], registries: &[&str]) -> PolicyConfig {
        PolicyConfig {
            images: images.iter().map(|pattern| pattern.parse().unwrap()).collect(),
            registries: registries.iter().map(|name| (*name).to_owned()).collect(),
            ..PolicyConfig::default()
        }
    }

    #[test]
    fn the_host_is_not_bound() {
        let nothing = policy(&[], &[]);
        let image: ImageRef = "127.0.0.1:5000/x".parse().unwrap();
        assert_eq!(fetched(&Caller::Host, &image, &nothing).unwrap(), image);
        assert!(build(&Caller::Host, &image, &nothing).is_ok());
        assert!(check(&member(1), &image, &nothing).is_err());
    }

    #[test]
    fn members_fetch_from_the_named_registries_by_full_names() {
        let policy = policy(&["*"], &["docker.io"]);
        let fetched = |image: &str| fetched(&member(1), &image.parse().unwrap(), &policy);
        assert_eq!(fetched("fedora:41").unwrap().as_str(), "docker.io/library/fedora:41");
        assert_eq!(fetched("DOCKER.io/a/b").unwrap().as_str(), "docker.io/a/b");
        for elsewhere in
            ["localhost/x", "127.0.0.1:5000/x", "169.254.169.254/x", "docker.io:443/a/b", "docker.io./a"]
        {
            let error = fetched(elsewhere).unwrap_err();
            assert_eq!(error.field().as_deref(), Some("image"), "{elsewhere}");
            assert!(error.hint().unwrap().contains("`registries` in [server.policy]"));
        }
    }

    #[test]
    fn builds_have_no_network_unless_no_rule_is_wanted() {
        let policy = |firewall, network| PolicyConfig { firewall, network, ..PolicyConfig::default() };
        assert!(builds_apart(&PolicyConfig::default()));
        assert!(builds_apart(&policy(false, NetworkMode::Outbound)));
        assert!(!builds_apart(&policy(false, NetworkMode::Full)));
    }

    #[test]
    fn members_build_where_they_may_and_under_names_of_their_own() {
        let tag = |text: &str| text.parse::<ImageRef>().unwrap();
        assert!(build(&member(1), &tag("x"), &policy(&["*"], &[])).is_err(), "not unless the host says so");
        let open = PolicyConfig { builds: true, ..PolicyConfig::default() };
        let Caller::Member(one) = member(1) else { panic!() };
        let own = format!("{}/x:1", one.id.short());
        assert!(build(&member(1), &tag(&own), &open).is_ok());
        assert!(build(&member(2), &tag(&own), &open).is_err());
        assert!(build(&member(1), &tag("gx-busybox"), &open).is_err());
    }
}
