//! Image references: `[domain/]path[:tag][@digest]`, normalised as Docker does.
//!
//! `nginx` is `docker.io/library/nginx:latest`; a first component is a registry only if it has a dot, a colon or an
//! upper-case letter, or is `localhost`. The canonical text is what the database holds, the familiar one what people
//! are shown.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::Error;

/// The registry that is meant when none is named.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag that is meant when none is named.
pub const DEFAULT_TAG: &str = "latest";

const OFFICIAL: &str = "library/";
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// A normalised image reference. Ordered and equal by its canonical text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

// === impl Reference ===

impl Reference {
    /// The registry: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository inside the registry: `library/nginx`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same with tag `latest` where neither tag nor digest was written.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// `domain/path` without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The repository as people write it: no default registry, no `library/`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL) {
            // `library/a/b` would read back as another repository, so only single names lose the prefix.
            Some(name) if !name.contains('/') => name.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The whole reference as people write it.
    pub fn familiar(&self) -> String {
        self.familiar_name() + &self.suffix()
    }

    fn suffix(&self) -> String {
        let tag = self.tag.iter().map(|t| format!(":{t}"));
        tag.chain(self.digest.iter().map(|d| format!("@{d}"))).collect()
    }
}

impl FromStr for Reference {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::invalid(format!("invalid reference format: {:?} {why}", head(s)));
        if s.len() == 64 && s.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad("is an image id, and a repository cannot be named so"));
        }
        let (rest, digest) = match s.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (s, None),
        };
        // A colon after the last slash begins a tag; one before it belongs to the registry's port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|t| !is_tag(t)) {
            return Err(bad("has a bad tag: want at most 128 of [A-Za-z0-9_.-], not beginning with . or -"));
        }
        let (domain, path) = split_domain(name);
        if !is_domain(&domain) {
            return Err(bad("has a bad registry: want host[:port]"));
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad("has upper-case letters: a repository name must be lower case"));
        }
        if !path.split('/').all(is_path_component) {
            return Err(bad(
                "has a bad repository: want lower-case letters, digits and single . _ - between them",
            ));
        }
        if path.len() > NAME_MAX {
            return Err(bad("has a repository name of more than 255 bytes"));
        }
        Ok(Self { domain, path, tag: tag.map(str::to_owned), digest })
    }
}

impl TryFrom<String> for Reference {
    type Error = Error;
    fn try_from(s: String) -> Result<Self, Error> {
        s.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.domain, self.path, self.suffix())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reference({self})")
    }
}

fn head(s: &str) -> String {
    s.chars().take(100).collect()
}

fn split_domain(name: &str) -> (String, String) {
    let registry =
        |d: &str| d.contains(['.', ':']) || d == "localhost" || d.bytes().any(|b| b.is_ascii_uppercase());
    let (domain, path) = match name.split_once('/') {
        Some((domain, path)) if registry(domain) => (domain, path),
        _ => (DEFAULT_DOMAIN, name),
    };
    // The old name of the same registry.
    let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
    if domain == DEFAULT_DOMAIN && !path.contains('/') {
        return (domain.to_owned(), format!("{OFFICIAL}{path}"));
    }
    (domain.to_owned(), path.to_owned())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (domain, None),
    };
    if port.is_some_and(|p| p.is_empty() || !p.bytes().all(|b| b.is_ascii_digit())) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    }
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.len() <= NAME_MAX && host.split('.').all(label)
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= TAG_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

/// Lower-case letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_path_component(component: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase();
    let bytes = component.as_bytes();
    let ends = bytes.first().is_some_and(|b| alnum(*b)) && bytes.last().is_some_and(|b| alnum(*b));
    ends && bytes.split(|b| alnum(*b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(s: &str) -> String {
        s.parse::<Reference>().unwrap_or_else(|e| panic!("{s}: {e}")).or_latest().to_string()
    }

    #[test]
    fn short_names_mean_the_official_library() {
        assert_eq!(canonical("nginx"), "docker.io/library/nginx:latest");
        assert_eq!(canonical("nginx:1.27"), "docker.io/library/nginx:1.27");
        assert_eq!(canonical("bitnami/nginx"), "docker.io/bitnami/nginx:latest");
        assert_eq!(canonical("docker.io/nginx"), "docker.io/library/nginx:latest");
        assert_eq!(canonical("index.docker.io/library/nginx"), "docker.io/library/nginx:latest");
    }

    #[test]
    fn a_first_component_with_dot_colon_or_localhost_is_a_registry() {
        assert_eq!(canonical("ghcr.io/a/b"), "ghcr.io/a/b:latest");
        assert_eq!(canonical("localhost/a"), "localhost/a:latest");
        assert_eq!(canonical("reg:5000/a"), "reg:5000/a:latest");
        assert_eq!(canonical("reg:5000/a:b"), "reg:5000/a:b");
        assert_eq!(canonical("[fe80::1]:5000/a"), "[fe80::1]:5000/a:latest");
        assert_eq!(canonical("Registry/a"), "Registry/a:latest");
        // Without a slash it is a tag, not a port.
        assert_eq!(canonical("reg:5000"), "docker.io/library/reg:5000");
    }

    #[test]
    fn a_digest_needs_no_tag() {
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(canonical(&format!("nginx@{digest}")), format!("docker.io/library/nginx@{digest}"));
        assert_eq!(canonical(&format!("nginx:1@{digest}")), format!("docker.io/library/nginx:1@{digest}"));
    }

    #[test]
    fn people_see_the_familiar_form() {
        for (text, familiar) in [
            ("docker.io/library/nginx:1", "nginx:1"),
            ("docker.io/bitnami/nginx", "bitnami/nginx"),
            ("ghcr.io/a/b:c", "ghcr.io/a/b:c"),
            ("docker.io/library/a/b", "library/a/b"),
        ] {
            assert_eq!(text.parse::<Reference>().expect(text).familiar(), familiar);
        }
    }

    #[test]
    fn malformed_references_are_refused() {
        let short = format!("a@sha256:{}", "a".repeat(63));
        let long_tag = format!("a:{}", "t".repeat(129));
        let long_name = "a".repeat(300);
        let id = "a".repeat(64);
        for bad in [
            "",
            ":",
            "@",
            "/",
            "a:",
            "a@",
            "a:b:c",
            "a//b",
            "/a",
            "a/",
            "A",
            "a/B",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "_a",
            "a.",
            "a b",
            "a\n",
            "a\0",
            "ü",
            "../a",
            "a/../b",
            "a/./b",
            "a:.x",
            "a:-x",
            "a:x/y z",
            "host:/a",
            "h_o.st/a",
            "-h.io/a",
            "[/a",
            "[]/a",
            "a%2fb",
            "http://a/b",
            "a․b",
            &short,
            &long_tag,
            &long_name,
            &id,
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn separators_inside_components_follow_the_grammar() {
        for good in ["a.b", "a_b", "a__b", "a-b", "a---b", "x/a.b_c-d/e"] {
            assert!(good.parse::<Reference>().is_ok(), "{good}");
        }
        assert!("a.-b".parse::<Reference>().is_err());
    }

    proptest! {
        #[test]
        fn canonical_and_familiar_text_mean_the_same_reference(
            s in "([a-z]{1,5}\\.io(:[0-9]{2,4})?/)?[a-z0-9]{1,4}([._-][a-z0-9]{1,3})?(/[a-z]{1,3}){0,2}(:[A-Za-z0-9_][a-z.-]{0,5})?"
        ) {
            let reference: Reference = s.parse().unwrap();
            prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
            prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
        }

        #[test]
        fn any_text_is_judged_and_what_passes_is_stable(s in "[a-zA-Z0-9:/@._\\[\\]-]{0,40}|\\PC{0,40}") {
            if let Ok(reference) = s.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }
    }
}
