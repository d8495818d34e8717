//! Which files of a folder are left out of a build: `.containerignore`, else `.dockerignore`.
//!
//! The patterns are those of the Docker CLI (<https://docs.docker.com/build/concepts/context/#dockerignore-files>):
//! `*` within a part of a path, `**` over any number of parts, `!` takes back, the last match decides.

use std::path::Path;

use crate::archive::Wanted;

/// The patterns of one file.
#[derive(Debug, Default)]
pub(crate) struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    keep: bool,
    parts: Vec<String>,
}

impl Ignore {
    /// The files that may have patterns; the first that is there counts.
    pub(crate) const FILES: [&str; 2] = [".containerignore", ".dockerignore"];

    /// Reads patterns, one a line.
    pub(crate) fn from_text(text: &str) -> Self {
        Self { rules: text.trim_start_matches('\u{feff}').lines().filter_map(Rule::from_line).collect() }
    }

    /// Returns what to do with a path below the folder.
    pub(crate) fn wanted(&self, path: &Path, is_folder: bool) -> Wanted {
        let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        let parts: Vec<_> = parts.iter().map(AsRef::as_ref).collect();
        let matched = self.rules.iter().rev().find(|rule| rule.covers(&parts));
        match matched {
            None | Some(Rule { keep: true, .. }) => Wanted::Yes,
            // An exception may bring back something inside; which one is found out by looking.
            Some(_) if is_folder && self.rules.iter().any(|rule| rule.keep) => Wanted::Below,
            Some(_) => Wanted::No,
        }
    }
}

impl Rule {
    fn from_line(line: &str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let line = line.trim();
        let (keep, pattern) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim_start()));
        let mut parts: Vec<String> = Vec::new();
        for part in pattern.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part.to_owned()),
            }
        }
        (!parts.is_empty()).then_some(Self { keep, parts })
    }

    /// Returns whether the pattern matches the path or a folder it is in.
    fn covers(&self, path: &[&str]) -> bool {
        (1..=path.len()).any(|length| matches(&self.parts, &path[..length]))
    }
}

fn matches(pattern: &[String], path: &[&str]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some((first, rest)) if first == "**" => (0..=path.len()).any(|skip| matches(rest, &path[skip..])),
        Some((first, rest)) => path.split_first().is_some_and(|(part, path)| {
            let (pattern, part): (Vec<char>, Vec<char>) = (first.chars().collect(), part.chars().collect());
            part_matches(&pattern, &part) && matches(rest, path)
        }),
    }
}

// Go's path.Match, within one part of a path.
fn part_matches(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => {
            let rest = &rest[rest.iter().take_while(|c| **c == '*').count()..];
            (0..=text.len()).any(|skip| part_matches(rest, &text[skip..]))
        }
        Some((first, rest)) => {
            let Some((c, text)) = text.split_first() else { return false };
            match first {
                '?' => part_matches(rest, text),
                '[' => class(rest, *c).is_some_and(|(within, rest)| within && part_matches(rest, text)),
                '\\' => rest.split_first().is_some_and(|(e, rest)| e == c && part_matches(rest, text)),
                first => first == c && part_matches(rest, text),
            }
        }
    }
}

/// Reads a class up to its `]`; returns whether it has the character, and what follows.
fn class(pattern: &[char], c: char) -> Option<(bool, &[char])> {
    let (negated, mut rest) = match pattern.split_first()? {
        ('^', rest) => (true, rest),
        _ => (false, pattern),
    };
    let mut within = false;
    let mut first = true;
    loop {
        match rest {
            [']', after @ ..] if !first => return Some((within != negated, after)),
            [low, '-', high, after @ ..] if *high != ']' => {
                within |= (*low..=*high).contains(&c);
                rest = after;
            }
            [one, after @ ..] => {
                within |= *one == c;
                rest = after;
            }
            [] => return None,
        }
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ignored(text: &str, path: &str) -> bool {
        Ignore::from_text(text).wanted(Path::new(path), false) != Wanted::Yes
    }

    #[test]
    fn patterns_match_as_dockers_do() {
        for (pattern, path, expected) in [
            ("target", "target/debug/x", true),
            ("target", "a/target", false),
            ("/target/", "target", true),
            ("*/temp*", "a/temporary.txt", true),
            ("*/temp*", "a/b/temp", false),
            ("**/*.o", "a/b/c.o", true),
            ("**/*.o", "c.o", true),
            ("temp?", "tempa", true),
            ("temp?", "temp", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[a", "[a", false),
            ("a\\*", "a*", true),
            ("# a", "# a", false),
            ("", "a", false),
            (".", "a", false),
            ("a/../b", "b", true),
            ("*", "a/b", true),
        ] {
            assert_eq!(ignored(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_match_decides() {
        let text = "*.md\n!README*.md\nREADME-secret.md\n";
        assert!(ignored(text, "a.md") && ignored(text, "README-secret.md"));
        assert!(!ignored(text, "README.md") && !ignored(text, "x"));
    }

    #[test]
    fn a_folder_is_entered_only_where_something_in_it_may_come_back() {
        let wanted = |text: &str| Ignore::from_text(text).wanted(Path::new("a"), true);
        assert_eq!(wanted("a\n"), Wanted::No);
        assert_eq!(wanted("a\n!a/keep\n"), Wanted::Below);
    }

    proptest! {
        #[test]
        fn any_text_is_a_set_of_patterns(text in "[a*?!\\[\\]^/.\\-\\n]{0,24}", path in "[a/.*]{1,12}") {
            let _ = ignored(&text, &path);
        }
    }
}
