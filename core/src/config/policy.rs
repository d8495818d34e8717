//! `[server.policy]`: what members' containers may be made of, and where they may reach. The host's own user is not
//! bound by it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::ParseIdError;
use crate::image::{ImageRef, QualifiedImage};
use crate::network::{Destination, NetworkMode, Prefix};

/// The registries that members may fetch from without the host saying more: the large public ones.
const REGISTRIES: [&str; 8] = [
    "docker.io",
    "gcr.io",
    "ghcr.io",
    "mcr.microsoft.com",
    "nvcr.io",
    "public.ecr.aws",
    "quay.io",
    "registry.gitlab.com",
];

/// What members may do with the host's engines and network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// The images that members may use.
    pub images: Vec<ImagePattern>,
    /// The registries that members may fetch images from, as HOST or HOST:PORT.
    pub registries: Vec<String>,
    /// Whether members may build images.
    pub builds: bool,
    /// Whether members' containers must have users of their own.
    pub user_namespaces: UserNamespaces,
    /// How far members' containers reach at most.
    pub network: NetworkMode,
    /// Where members' containers may connect to when `network` is `outbound`.
    pub outbound: Vec<Destination>,
    /// What members' containers may reach of the host itself and of private networks.
    pub reach: Vec<Destination>,
    /// Where the subnets of members' networks are taken from, each with 256 addresses (IPv4).
    pub subnets: Prefix,
    /// Whether gx closes members' networks off with rules of its own in the kernel (nftables).
    pub firewall: bool,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            images: vec![ImagePattern::ALL],
            registries: REGISTRIES.map(str::to_owned).to_vec(),
            builds: false,
            user_namespaces: UserNamespaces::Engine,
            network: NetworkMode::Full,
            outbound: Vec::new(),
            reach: Vec::new(),
            subnets: Prefix::v4([10, 213, 0, 0], 16),
            firewall: true,
        }
    }
}

/// Whether the users in a container are others than the machine's (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserNamespaces {
    /// As the engine is configured.
    #[default]
    Engine,
    /// They are; where an engine cannot do that, there are no containers for members.
    Required,
}

/// Which images may be used. Text: a name as in [`ImageRef`] in which `*` stands for any characters but `/`, and
/// `**` for any at all; `*` alone is every image.
///
/// A pattern without a tag and a digest is about all of them. One with a tag fits no image that is named by its
/// digest: an engine then looks at the digest alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ImagePattern {
    text: Text,
    parts: Option<Parts>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Text {
    All,
    Given(String),
}

/// The pattern in full; `None` in its place is every image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl ImagePattern {
    /// Every image.
    pub const ALL: Self = Self { text: Text::All, parts: None };

    /// Returns whether an image is among those that the pattern is about.
    pub fn fits(&self, image: &ImageRef) -> bool {
        let Some(parts) = &self.parts else { return true };
        if image.may_be_id() {
            return false;
        }
        let image = QualifiedImage::of(image);
        let version = match (&parts.tag, &parts.digest) {
            (_, Some(digest)) => image.digest.as_ref() == Some(digest),
            (Some(tag), None) => {
                image.digest.is_none() && glob(tag, image.tag.as_deref().unwrap_or("latest"))
            }
            (None, None) => true,
        };
        version && glob(&parts.repository, &image.repository())
    }
}

impl std::str::FromStr for ImagePattern {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if matches!(text, "*" | "**") {
            return Ok(Self::ALL);
        }
        // With every star a letter it is the name of an image, or no pattern.
        let bad = |rule| ParseIdError::new("pattern of images", text, rule);
        let shape: ImageRef =
            text.replace('*', "a").parse().map_err(|error: ParseIdError| bad(error.rule))?;
        let cut = |part: &str| text[text.len() - part.len()..].to_owned();
        let digest = shape.digest().map(cut);
        let rest = text.split_once('@').map_or(text, |(rest, _)| rest);
        let (name, tag) = match shape.tag() {
            Some(tag) => {
                (&rest[..rest.len() - tag.len() - 1], Some(rest[rest.len() - tag.len()..].to_owned()))
            }
            None => (rest, None),
        };
        if digest.as_ref().is_some_and(|digest| digest.contains('*')) {
            return Err(bad("a digest is given in full"));
        }
        let repository = QualifiedImage::qualify(name).join();
        Ok(Self { text: Text::Given(text.to_owned()), parts: Some(Parts { repository, tag, digest }) })
    }
}

impl TryFrom<String> for ImagePattern {
    type Error = ParseIdError;
    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<ImagePattern> for String {
    fn from(pattern: ImagePattern) -> String {
        pattern.to_string()
    }
}

impl fmt::Display for ImagePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Text::All => f.pad("*"),
            Text::Given(text) => f.pad(text),
        }
    }
}

/// Returns whether a text fits a pattern of `*` (anything without `/`) and `**` (anything).
fn glob(pattern: &str, text: &str) -> bool {
    // Which ends of the pattern so far can be reached with the text so far: no pattern takes longer than their
    // lengths multiplied.
    let stars = |rest: &str| if rest.starts_with("**") { 2 } else { usize::from(rest.starts_with('*')) };
    let open = |reached: &mut Vec<bool>| {
        for at in 0..pattern.len() {
            let width = stars(&pattern[at..]);
            if reached[at] && width > 0 {
                reached[at + width] = true;
            }
        }
    };
    let mut reached = vec![false; pattern.len() + 1];
    reached[0] = true;
    open(&mut reached);
    for byte in text.bytes() {
        let mut next = vec![false; pattern.len() + 1];
        for at in (0..pattern.len()).filter(|&at| reached[at]) {
            match stars(&pattern[at..]) {
                0 if pattern.as_bytes()[at] == byte => next[at + 1] = true,
                1 if byte != b'/' => next[at] = true,
                2 => next[at] = true,
                _ => {}
            }
        }
        open(&mut next);
        reached = next;
    }
    reached[pattern.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> ImagePattern {
        text.parse().unwrap()
    }

    fn fits(of: &str, image: &str) -> bool {
        pattern(of).fits(&image.parse().unwrap())
    }

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_pattern_is_about_the_whole_name_however_it_is_written() {
        for image in
            ["debian", "debian:12", "library/debian", "docker.io/debian", "index.docker.io/library/debian:x"]
        {
            assert!(fits("docker.io/library/*", image), "{image}");
            assert!(fits("debian", image), "{image}");
            assert!(!fits("gx-*", image), "{image}");
        }
        for image in
            ["quay.io/library/debian", "library/debian/x", "acme/debian", "localhost/debian", "debian.io/x"]
        {
            assert!(!fits("docker.io/library/*", image), "{image}");
            assert!(!fits("debian", image), "{image}");
        }
        assert!(
            fits("ghcr.io/acme/**", "ghcr.io/acme/a/b:1") && !fits("ghcr.io/acme/*", "ghcr.io/acme/a/b:1")
        );
        assert!(
            !fits("ghcr.io/acme/**", "ghcr.io/acme2/a") && !fits("ghcr.io/acme/**", "ghcr.io.evil/acme/a")
        );
        assert!(fits("*", "anything.example:5000/at/all"));
    }

    #[test]
    fn a_tag_cannot_be_got_round_by_a_digest_or_an_id() {
        assert!(fits("debian:12", "debian:12") && !fits("debian:12", "debian:13"));
        assert!(fits("debian:latest", "debian") && fits("debian:1*", "debian:13-slim"));
        assert!(!fits("debian:12", &format!("debian:12@{DIGEST}")), "an engine looks at the digest alone");
        assert!(!fits("debian:12", &format!("debian@{DIGEST}")));
        assert!(fits(&format!("debian@{DIGEST}"), &format!("debian@{DIGEST}")));
        assert!(fits(&format!("debian@{DIGEST}"), &format!("debian:any@{DIGEST}")));
        assert!(fits("debian", &format!("debian@{DIGEST}")));
        for id in ["beef", "0", "0123456789ab", DIGEST, "sha256:0123"] {
            assert!(
                !fits("docker.io/library/**", id) && !fits("**/*", id),
                "{id}: an engine may take it for an id"
            );
            assert!(fits("*", id));
        }
        assert!(fits("docker.io/library/*", "beef:latest") && fits("cafe/*", "cafe/beef"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["", "A*", "*:", "a//*", "x@*", "x@sha256:*", "-*", "a b"] {
            assert!(bad.parse::<ImagePattern>().is_err(), "{bad:?}");
        }
        for text in ["*", "gx-*", "ghcr.io/**", "*.example:5000/a/*:v*", "localhost:5000/x"] {
            assert_eq!(pattern(text).to_string(), text);
        }
        assert!(fits("localhost:5000/x", "localhost:5000/x:1"));
        assert!(fits("*.example:5000/a/*:v*", "b.example:5000/a/c:v1"));
    }

    /// A glob by trying everything, to compare with.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', b'*', rest @ ..] => (0..=text.len()).any(|cut| slow(rest, &text[cut..])),
            [b'*', rest @ ..] => (0..=text.len())
                .take_while(|&cut| !text[..cut].contains(&b'/'))
                .any(|cut| slow(rest, &text[cut..])),
            [first, rest @ ..] => text.first() == Some(first) && slow(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn the_glob_is_what_it_says(pattern in "[ab/*]{0,9}", text in "[ab/]{0,9}") {
            prop_assert_eq!(glob(&pattern, &text), slow(pattern.as_bytes(), text.as_bytes()));
        }

        /// Whatever way an image is written, a pattern about one repository fits only what an engine would take
        /// from there.
        #[test]
        fn nothing_slips_by_a_pattern(
            host in prop::sample::select(vec!["", "docker.io/", "index.docker.io/", "quay.io/", "localhost/", "DOCKER.IO/", "docker.io:443/", "docker.io./"]),
            path in prop::sample::select(vec!["", "library/", "acme/", "library/acme/"]),
            name in "(debian|debiana|a|beef|sha256)",
            tag in "(:12|:0a|)",
            digest in prop::bool::ANY,
        ) {
            let text = format!("{host}{path}{name}{tag}{}", if digest { format!("@{DIGEST}") } else { String::new() });
            let Ok(image) = text.parse::<ImageRef>() else { return Ok(()) };
            let hub = ["", "docker.io/", "index.docker.io/", "DOCKER.IO/"].contains(&host);
            let expected = hub && ["", "library/"].contains(&path) && name == "debian";
            prop_assert_eq!(pattern("debian").fits(&image), expected, "{}", text);
            prop_assert_eq!(pattern("debian:12").fits(&image), expected && tag == ":12" && !digest, "{}", text);
        }

        #[test]
        fn any_text_is_a_pattern_or_an_error(text in "(\\PC{0,20}|[a-z*:/@.]{0,20})", image in "[a-z0-9:/.]{1,20}") {
            if let (Ok(pattern), Ok(image)) = (text.parse::<ImagePattern>(), image.parse::<ImageRef>()) {
                pattern.fits(&image);
            }
        }
    }
}
