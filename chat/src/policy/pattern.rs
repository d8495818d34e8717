//! Names of users, alone or by the range: `Navy{1..50}`; and which names could be taken for one another.

use unicode_normalization::UnicodeNormalization as _;
use unicode_security::GeneralSecurityProfile as _;
use unicode_security::confusable_detection::skeleton;

/// The longest name of a user, in characters.
const MAX_NAME: usize = 32;
/// The longest part of a pattern, in bytes.
const MAX_PATTERN: usize = 256;

/// A name, or many with a number in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pattern {
    /// One user.
    One(String),
    /// One for each number of a range.
    Range { before: String, first: u32, last: u32, width: usize, after: String },
}

impl Pattern {
    /// Reads a pattern. The error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PATTERN {
            return Err(format!("a name with {} bytes is too long", text.len()));
        }
        let Some((before, rest)) = text.split_once('{') else {
            return Ok(Self::One(text.to_owned()));
        };
        let wrong =
            || format!("{text:?} is not a range: it is written Name{{FIRST..LAST}}, as in Navy{{1..50}}");
        let (range, after) = rest.split_once('}').ok_or_else(wrong)?;
        let (from, to) = range.split_once("..").ok_or_else(wrong)?;
        let number = |digits: &str| {
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u32>().ok()).flatten()
        };
        let (first, last) = (number(from).ok_or_else(wrong)?, number(to).ok_or_else(wrong)?);
        if after.contains(['{', '}']) || before.contains('}') {
            return Err(wrong());
        }
        if first > last {
            return Err(format!("the range {text} ends before it begins"));
        }
        let padded = |digits: &str| digits.len() > 1 && digits.starts_with('0');
        let width = match padded(from) || padded(to) {
            false => 0,
            true if from.len() == to.len() => from.len(),
            true => {
                return Err(format!(
                    "the ends of {text} are not equally long: write {{01..50}} or {{1..50}}"
                ));
            }
        };
        Ok(Self::Range { before: before.to_owned(), first, last, width, after: after.to_owned() })
    }

    /// Returns how many names it stands for.
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::One(_) => 1,
            Self::Range { first, last, .. } => u64::from(last - first) + 1,
        }
    }

    /// Returns the names it stands for.
    pub(super) fn names(&self) -> Box<dyn Iterator<Item = String> + '_> {
        match self {
            Self::One(name) => Box::new(std::iter::once(name.clone())),
            Self::Range { before, first, last, width, after } => {
                Box::new((*first..=*last).map(move |number| format!("{before}{number:0width$}{after}")))
            }
        }
    }
}

/// Says what is wrong with a user's name, if anything is.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let shown: String = name.chars().take(MAX_NAME + 8).collect();
    if name.is_empty() {
        return Err("a user's name is empty".to_owned());
    }
    if name.chars().count() > MAX_NAME {
        return Err(format!("the name {shown:?} is longer than {MAX_NAME} characters"));
    }
    let odd = |c: &char| match c.is_ascii() {
        true => !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')),
        // UTS 39 §3.1: letters of living scripts, and nothing that is not seen.
        false => !c.identifier_allowed(),
    };
    if let Some(odd) = name.chars().find(odd) {
        return Err(format!(
            "the name {shown:?} has {odd:?} in it: names are of letters, digits and the signs _ - ."
        ));
    }
    if !name.starts_with(char::is_alphanumeric) {
        return Err(format!("the name {shown:?} does not begin with a letter or a digit"));
    }
    let normal = normal(name);
    if normal != name {
        return Err(format!("the name {shown:?} is written {normal:?} in its normal form (NFKC)"));
    }
    Ok(())
}

/// Returns a name in the form in which names are compared (UAX 15, NFKC).
pub(super) fn normal(name: &str) -> String {
    name.nfkc().collect()
}

/// Returns the looks of a name: two names that share one could be taken for one another (UTS 39 §4).
pub(super) fn looks(name: &str) -> [String; 2] {
    [skeleton(name).collect(), skeleton(&name.to_lowercase()).collect()]
}

/// Writes a list of names in few words: those that are numbered through become ranges again.
pub(crate) fn in_ranges<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut runs: Vec<(&str, Option<(u32, u32)>)> = Vec::new();
    for name in names {
        let (before, number) = numbered(name);
        match (runs.last_mut(), number) {
            (Some((same, Some((_, last)))), Some(number)) if *same == before && *last + 1 == number => {
                *last = number;
            }
            (_, Some(number)) => runs.push((before, Some((number, number)))),
            (_, None) => runs.push((name, None)),
        }
    }
    let text = |(before, range): (&str, Option<(u32, u32)>)| match range {
        None => before.to_owned(),
        Some((first, last)) if first == last => format!("{before}{first}"),
        Some((first, last)) => format!("{before}{{{first}..{last}}}"),
    };
    runs.into_iter().map(text).collect()
}

/// Takes the number off the end of a name; a padded one is no number.
fn numbered(name: &str) -> (&str, Option<u32>) {
    let before = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &name[before.len()..];
    let plain = digits == "0" || !digits.starts_with('0');
    match digits.parse::<u32>() {
        Ok(number) if plain && number < u32::MAX => (before, Some(number)),
        _ => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        Pattern::parse(text).unwrap().names().collect()
    }

    #[test]
    fn a_range_is_all_its_names() {
        assert_eq!(names("Navy{1..3}"), ["Navy1", "Navy2", "Navy3"]);
        assert_eq!(names("x{08..11}y"), ["x08y", "x09y", "x10y", "x11y"]);
        assert_eq!(names("bo.b"), ["bo.b"]);
        assert_eq!(Pattern::parse("a{0..4294967295}").unwrap().count(), 1 << 32);
    }

    #[test]
    fn what_is_no_range_is_told() {
        for wrong in [
            "a{",
            "a{1..2",
            "a{1-2}",
            "a{..}",
            "a{1..}",
            "a{+1..2}",
            "a{1..2}{1..2}",
            "a}{1..2}",
            "a{1..4294967296}",
        ] {
            assert!(Pattern::parse(wrong).unwrap_err().contains("is not a range"), "{wrong}");
        }
        assert!(Pattern::parse("a{5..1}").unwrap_err().contains("ends before it begins"));
        assert!(Pattern::parse("a{01..100}").unwrap_err().contains("not equally long"));
    }

    #[test]
    fn names_have_letters_of_living_scripts_only() {
        for good in ["ChiefCommander", "Navy1", "j.doe", "Zoë", "Юлия", "李雷", "a-b_c"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a b",
            "a:b",
            "me(",
            ".a",
            "-a",
            "a\u{202e}b",
            "a\u{200b}",
            "\u{3164}",
            "a\u{1b}",
            "ﬁ",
            "e\u{301}",
            "👍",
            &"x".repeat(33),
        ] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_that_look_alike_share_a_look() {
        let alike = |a: &str, b: &str| looks(a).iter().any(|look| looks(b).contains(look));
        for (a, b) in
            [("Army1", "Armyl"), ("Army1", "ArmyI"), ("Bob", "bob"), ("paypal", "pаypal"), ("O1", "01")]
        {
            assert!(alike(a, b), "{a} {b}");
        }
        assert!(!alike("Army1", "Army2") && !alike("Navy1", "Navy11"));
    }

    #[test]
    fn many_names_are_told_in_few_words() {
        let all = ["Chief", "Navy1", "Navy2", "Navy3", "Army1", "Army3", "x08", "x09"];
        assert_eq!(in_ranges(all), ["Chief", "Navy{1..3}", "Army1", "Army3", "x08", "x09"]);
    }
}
