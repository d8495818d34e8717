//! Image references and what an engine says of an image.
//!
//! The grammar is the one of the distribution project's `reference` package: `[host[:port]/]path[:tag][@digest]`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{ParseIdError, Timestamp};

/// The name of an image, as given: `busybox`, `docker.io/library/debian:bookworm`, `x@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef(String);

impl ImageRef {
    /// Returns the reference as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the part before the tag and the digest.
    pub fn repository(&self) -> &str {
        split(&self.0).0
    }

    /// Returns the tag, if one was given.
    pub fn tag(&self) -> Option<&str> {
        split(&self.0).1
    }

    /// Returns the digest (`sha256:…`), if one was given.
    pub fn digest(&self) -> Option<&str> {
        split(&self.0).2
    }

    /// Returns the reference with the tag `latest` where neither tag nor digest was given.
    pub fn tagged(&self) -> String {
        match split(&self.0) {
            (_, None, None) => format!("{}:latest", self.0),
            _ => self.0.clone(),
        }
    }
}

impl ImageRef {
    /// Returns whether an engine may take this for the id of an image, or the beginning of one, whatever that
    /// image's name is.
    pub fn may_be_id(&self) -> bool {
        let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
        hex(&self.0) || self.0.strip_prefix("sha256:").is_some_and(hex)
    }
}

/// Where an image without a registry in its name comes from, and the folder there of one without any.
const HUB: (&str, &str) = ("docker.io", "library/");
/// Other names of the same registry.
const HUB_ALIASES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// An image's name in full, with what the short form leaves out, as the distribution project's `reference` package
/// completes it. Two references to one image have one such name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QualifiedImage {
    /// The registry: `HOST` or `HOST:PORT`, in lower case.
    pub registry: String,
    /// The name there.
    pub path: String,
    /// The tag, if one was given.
    pub tag: Option<String>,
    /// The digest, if one was given.
    pub digest: Option<String>,
}

impl QualifiedImage {
    /// Returns the full name of an image.
    pub fn of(image: &ImageRef) -> Self {
        let (repository, tag, digest) = split(&image.0);
        let Repository { registry, path } = Self::qualify(repository);
        Self { registry, path, tag: tag.map(str::to_owned), digest: digest.map(str::to_owned) }
    }

    /// Returns the registry and the name there.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.registry, self.path)
    }

    /// Completes the part before the tag.
    pub(crate) fn qualify(repository: &str) -> Repository {
        let (registry, path) = match repository.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
                (host.to_ascii_lowercase(), path)
            }
            _ => (HUB.0.to_owned(), repository),
        };
        let registry = if HUB_ALIASES.contains(&registry.as_str()) { HUB.0.to_owned() } else { registry };
        let folder = if registry == HUB.0 && !path.contains('/') { HUB.1 } else { "" };
        Repository { registry, path: format!("{folder}{path}") }
    }
}

impl From<QualifiedImage> for ImageRef {
    fn from(image: QualifiedImage) -> Self {
        let tag = image.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = image.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        Self(format!("{}{tag}{digest}", image.repository()))
    }
}

/// A registry, and a name there.
pub(crate) struct Repository {
    registry: String,
    path: String,
}

impl Repository {
    pub(crate) fn join(self) -> String {
        format!("{}/{}", self.registry, self.path)
    }
}

fn split(text: &str) -> (&str, Option<&str>, Option<&str>) {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    match rest.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag), digest),
        _ => (rest, None, digest),
    }
}

impl FromStr for ImageRef {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let fail =
            |rule| ParseIdError { noun: "image reference", value: text.chars().take(80).collect(), rule };
        if text.is_empty() || text.len() > 400 {
            return Err(fail("it has 1 to 400 characters"));
        }
        let (repository, tag, digest) = split(text);
        let (host, path) = match repository.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
            _ => (None, repository),
        };
        let good_host = host.is_none_or(|h| {
            h.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
                && h.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'))
        });
        if !good_host {
            return Err(fail("the part before the first '/' is a host with an optional port"));
        }
        if !path.split('/').all(good_part) {
            return Err(fail("its name has lower-case letters and digits, joined by '.', '_', '-' or '/'"));
        }
        let good_tag = |t: &str| {
            (1..=128).contains(&t.len())
                && t.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
                && !t.starts_with(['.', '-'])
        };
        if !tag.is_none_or(good_tag) {
            return Err(fail("its tag has 1 to 128 letters, digits, '_', '.' or '-'"));
        }
        let good_digest = |d: &str| {
            d.strip_prefix("sha256:")
                .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
        };
        if !digest.is_none_or(good_digest) {
            return Err(fail("its digest is 'sha256:' and 64 hexadecimal digits"));
        }
        Ok(Self(text.to_owned()))
    }
}

fn good_part(part: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = part.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
}

impl TryFrom<String> for ImageRef {
    type Error = ParseIdError;
    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<ImageRef> for String {
    fn from(image: ImageRef) -> String {
        image.0
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// An image that an engine has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(default)]
pub struct Image {
    /// The engine's id, `sha256:` and 64 hexadecimal digits.
    pub id: String,
    /// The names it goes by, each with its tag; none for a dangling image.
    pub tags: Vec<String>,
    /// What it takes on disk, in bytes, shared layers included.
    pub size_bytes: u64,
    /// When it was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// What it is for: `linux/amd64`.
    pub platform: String,
    /// The image's own labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What a container of it runs when nobody says otherwise; from [`image`](crate::Runtime::image) only, and only by
    /// a runtime with `copy_in`: by this the host knows that it can put a program in front of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<ImageProcess>,
}

/// What a container of an image runs when nobody says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ImageProcess {
    /// The entry point.
    pub entrypoint: Vec<String>,
    /// What comes after it.
    pub command: Vec<String>,
    /// Whom it runs as: `user`, `uid`, `user:group` or `uid:gid`; empty is root.
    pub user: String,
    /// The environment, `NAME=VALUE` each.
    pub env: Vec<String>,
    /// The working folder; empty is `/`.
    pub workdir: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_are_told_apart() {
        let image: ImageRef = "localhost:5000/a/b:v1".parse().unwrap();
        assert_eq!((image.repository(), image.tag()), ("localhost:5000/a/b", Some("v1")));
        let image: ImageRef = "host:80/x".parse().unwrap();
        assert_eq!((image.tag(), image.tagged().as_str()), (None, "host:80/x:latest"));
    }

    #[test]
    fn a_full_name_says_what_the_short_one_means() {
        let full = |text: &str| ImageRef::from(QualifiedImage::of(&text.parse().unwrap())).to_string();
        assert_eq!(full("debian"), "docker.io/library/debian");
        assert_eq!(full("acme/x:1"), "docker.io/acme/x:1");
        assert_eq!(full("Index.Docker.io/x"), "docker.io/library/x");
        assert_eq!(full("localhost/x"), "localhost/x");
        assert_eq!(full("quay.io:443/x"), "quay.io:443/x");
    }

    #[test]
    fn bad_references_are_refused() {
        for bad in ["", "A", "-x", "a//b", "a b", "x:", "x@sha256:12", "../x", "x;rm", "x:\u{202e}"] {
            assert!(bad.parse::<ImageRef>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_image_or_an_error(text in "\\PC{0,80}") {
            if let Ok(image) = text.parse::<ImageRef>() {
                prop_assert!(!image.repository().is_empty());
                prop_assert!(image.tagged().parse::<ImageRef>().is_ok());
                let full = QualifiedImage::of(&image);
                let again = ImageRef::from(full.clone());
                prop_assert_eq!(QualifiedImage::of(&again.as_str().parse().unwrap_or(image)), full);
            }
        }
    }
}
