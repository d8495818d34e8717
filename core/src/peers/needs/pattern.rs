//! Texts with `*` for anything and `|` for either.

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<String>);

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        Self(text.split('|').map(str::to_lowercase).collect())
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.0.iter().any(|pattern| glob(pattern.as_bytes(), text.as_bytes()))
    }
}

/// Returns whether a text is as a pattern has it, in O(n·m): after a mismatch only the last star takes one more.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            p = at + 1;
            t = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by its definition.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|at| slow(rest, &text[at..])),
            Some((first, rest)) => text.first() == Some(first) && slow(rest, &text[1..]),
        }
    }

    #[test]
    fn every_short_pattern_matches_what_its_definition_says() {
        let words = |letters: &[u8], longest: usize| {
            let mut all = vec![Vec::new()];
            let mut last = all.clone();
            for _ in 0..longest {
                last = last
                    .iter()
                    .flat_map(|word| letters.iter().map(move |letter| [&word[..], &[*letter]].concat()))
                    .collect();
                all.extend(last.clone());
            }
            all
        };
        for pattern in words(b"ab*", 4) {
            for text in words(b"ab", 4) {
                assert_eq!(glob(&pattern, &text), slow(&pattern, &text), "{pattern:?} {text:?}");
            }
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = "*a".repeat(200) + "b";
        assert!(!Pattern::new(&pattern).matches(&"a".repeat(5_000)));
        assert!(Pattern::new("RTX*|A100*").matches("a100-sxm4"));
    }
}
