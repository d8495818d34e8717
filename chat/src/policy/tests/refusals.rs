//! What is refused when a policy is read, with its place: whatever contradicts itself.

use super::super::{Policy, PolicyError};
use proptest::prelude::*;

const GOOD: &str = r#"
[chat]
retention = "7d"
[[group]]
id = "h"
command = "h"
[[group]]
id = "x"
unit = "one"
command = "x"
[[unit]]
id = "top"
leader = "Boss"
[[unit]]
id = "one"
parent = "top"
members = ["A{1..9}", "Zed"]
[[role]]
id = "boss"
users = ["Boss"]
switch = true
allow = [{ group = "h", read = true, write = true }, { group = "below", read = true }]
redirect_writes_to = "h"
[[role]]
id = "all"
users = ["members:*"]
default = "own"
allow = [{ group = "own", read = true, write = true }]
"#;

/// Reads the good policy with one thing in it changed, and returns what is said and what is marked.
#[track_caller]
fn refused(from: &str, to: &str) -> (String, String) {
    assert!(GOOD.contains(from), "{from}");
    let error = Policy::parse(&GOOD.replacen(from, to, 1), "p.toml").expect_err(to);
    (error.message.clone(), marked(&error))
}

fn marked(error: &PolicyError) -> String {
    assert!(error.hint.is_some(), "no hint: {error}");
    error.source_line.chars().skip(error.column - 1).take(error.width).collect()
}

#[test]
fn the_good_one_is_good() {
    Policy::parse(GOOD, "p.toml").unwrap();
}

#[test]
fn every_contradiction_is_refused_at_its_place() {
    // what is changed, into what, what is said, what is marked
    let cases: &[[&str; 4]] = &[
        ["unit = \"one\"", "unit = \"onr\"", "there is no unit \"onr\"", "onr"],
        ["parent = \"top\"", "parent = \"tip\"", "there is no unit \"tip\"", "tip"],
        ["group = \"h\"", "group = \"z\"", "there is no group \"z\"", "z"],
        ["group = \"below\"", "group = \"unit:two\"", "there is no unit \"two\"", "unit:two"],
        [
            "group = \"below\"",
            "group = \"unit:top\"",
            "unit:top is no group: the unit top has none",
            "unit:top",
        ],
        ["group = \"below\"", "group = \"team:x\"", "\"team:x\" selects no groups", "team:x"],
        ["members:*", "members:two", "there is no unit \"two\"", "members:two"],
        ["members:*", "members:top", "members:top is nobody", "members:top"],
        ["members:*", "people:*", "\"people:*\" are no users", "people:*"],
        ["default = \"own\"", "default = \"h\"", "A1 begins in h, where no rule allows anything", "h"],
        ["default = \"own\"", "default = \"below\"", "default = \"below\" is no group for A1", "below"],
        ["redirect_writes_to = \"h\"", "redirect_writes_to = \"x\"", "Boss may not write to x", "x"],
        ["leader = \"Boss\"", "leader = \"Zed\"", "Zed is in two units, top and one", "Zed"],
        [
            "leader = \"Boss\"",
            "leader = \"A3\"",
            "A3 is in two units: A{1..9} in one overlaps A3 in top",
            "A{1..9}",
        ],
        ["leader = \"Boss\"", "leader = \"A{1..2}\"", "A{1..2} is more than one leader", "A{1..2}"],
        ["\"Zed\"]", "\"Zed\", \"Zed\"]", "Zed is in one twice", "Zed"],
        ["\"Zed\"]", "\"Zed\", \"A{9..20}\"]", "A{9..20} overlaps A{1..9}: both have A9", "A{9..20}"],
        ["\"Zed\"]", "\"Zed\", \"A4\"]", "A4 overlaps A{1..9}: both have A4", "A4"],
        ["A{1..9}", "A{9..1}", "the range A{9..1} ends before it begins", "A{9..1}"],
        [
            "A{1..9}",
            "A{1..}",
            "\"A{1..}\" is not a range: it is written Name{FIRST..LAST}, as in Navy{1..50}",
            "A{1..}",
        ],
        ["A{1..9}", "A{1..4000000000}", "A{1..4000000000} are more than 100000 users", "A{1..4000000000}"],
        ["id = \"top\"", "id = \"top\"\nparent = \"one\"", "top is below itself: one below top", "one"],
        ["id = \"top\"", "id = \"top\"\nparent = \"top\"", "top is below itself: top", "top"],
        [
            "id = \"one\"\nparent",
            "id = \"top\"\nparent",
            "the unit top is there twice, first in line 12",
            "top",
        ],
        ["id = \"x\"", "id = \"h\"", "the group h is there twice, first in line 5", "h"],
        ["id = \"all\"", "id = \"boss\"", "the role boss is there twice, first in line 19", "boss"],
        ["command = \"x\"", "command = \"h\"", "h is the group h too, by line 6", "h"],
        ["command = \"x\"", "name = \"H\"\ncommand = \"x\"", "H is the group h too, by line 6", "H"],
        [
            "command = \"x\"",
            "command = \"help\"",
            "the command help means something else in every group",
            "help",
        ],
        ["command = \"x\"", "command = \"t\"", "the command t means something else in every group", "t"],
        ["command = \"x\"", "command = \":x\"", "\":x\" is not a command", ":x"],
        ["command = \"x\"", "", "Boss cannot switch to x, which has no command", "true"],
        ["switch = true", "switch = true\ntoggle = true", "the role boss has switch and toggle", "true"],
        [
            "{ group = \"h\", read = true, write = true }",
            "{ group = \"h\", read = true }",
            "Boss may not write to h",
            "h",
        ],
        [
            "group = \"own\", read = true, write = true",
            "group = \"own\", read = true",
            "nobody may write to the group x",
            "x",
        ],
        [
            "group = \"own\", read = true, write = true",
            "group = \"own\"",
            "the rule for own allows nothing",
            "own",
        ],
        ["{ group = \"below\"", "{ group = \"h\"", "the rule for h is there twice, first in line 22", "h"],
        ["users = [\"Boss\"]", "users = []", "the role boss is nobody's", "boss"],
        ["users = [\"Boss\"]", "users = [\"Boss\", \"Boss\"]", "Boss is in the role boss twice", "Boss"],
        [
            "users = [\"members:*\"]",
            "users = [\"members:*\", \"Boss\"]",
            "Boss has two roles, boss and all",
            "Boss",
        ],
        ["users = [\"members:*\"]", "users = [\"A{1..9}\"]", "no role is for Zed", "Zed"],
        [
            "users = [\"members:*\"]",
            "users = [\"members:*\", \"Al\"]",
            "Al could be taken for A1, of line 17",
            "Al",
        ],
        ["\"Zed\"", "\"zed\", \"Zed\"", "Zed could be taken for zed, of line 17", "Zed"],
        ["\"Zed\"", "\"Аdam\", \"Adam\"", "Adam could be taken for Аdam, of line 17", "Adam"],
        [
            "\"Zed\"",
            "\"Z ed\"",
            "the name \"Z ed\" has ' ' in it: names are of letters, digits and the signs _ - .",
            "Z ed",
        ],
        ["id = \"h\"", "id = \"own\"", "a group cannot have the id own", "own"],
        ["id = \"h\"", "id = \"H\"", "\"H\" is not an id of a group", "H"],
        ["command = \"h\"", "command = \"h\"\nname = \" a\"", "\" a\" is not a name of a group", " a"],
        ["\"7d\"", "\"10s\"", "a retention of 10s is not kept", "\"10s\""],
        ["\"7d\"", "\"9000d\"", "a retention of 9000d is not kept", "\"9000d\""],
        ["\"7d\"", "\"7d\"\nmax_text = \"9 KiB\"", "texts of 9 KiB do not fit", "\"9 KiB\""],
        ["switch = true", "swich = true", "unknown key `swich` in [[role]]", "swich"],
    ];
    for [from, to, told, place] in cases {
        assert_eq!(refused(from, to), ((*told).to_owned(), (*place).to_owned()), "{from} => {to}");
    }
}

#[test]
fn the_error_is_shown_with_its_line() {
    let error = Policy::parse(&GOOD.replace("\"Zed\"]", "\"Zed\", \"A{9..20}\"]"), "p.toml").unwrap_err();
    assert_eq!(error.to_string(), "p.toml:17:31: A{9..20} overlaps A{1..9}: both have A9");
    assert_eq!(error.hint.as_deref(), Some("line 17 has A9 first; a user is in one unit at most"));
}

#[test]
fn a_policy_has_bounds() {
    let long = format!("#{}", "x".repeat(1 << 20));
    assert!(Policy::parse(&long, "p").unwrap_err().message.contains("at most 1048576"));
    let many: String = (0..1_025).map(|number| format!("[[group]]\nid = \"g{number}\"\n")).collect();
    assert_eq!(Policy::parse(&many, "p").unwrap_err().message, "there are more than 1024 groups");
    let deep: String = (0..100)
        .map(|number| match number {
            0 => "[[unit]]\nid = \"u0\"\n".to_owned(),
            _ => format!("[[unit]]\nid = \"u{number}\"\nparent = \"u{}\"\n", number - 1),
        })
        .collect();
    let deep = Policy::parse(&format!("{GOOD}\n{deep}"), "p").unwrap_err();
    assert_eq!(deep.message, "more than 64 units are above u65");
    let crowd = GOOD.replace("A{1..9}", "A{1..60000}\", \"B{1..60000}");
    assert_eq!(Policy::parse(&crowd, "p").unwrap_err().message, "there are more than 100000 users");
    assert_eq!(Policy::parse("", "p").unwrap_err().message, "there is no [[group]]");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,60}|[\\x00-\\x7f]{0,60}") {
        let _ = Policy::parse(&text, "p");
    }

    #[test]
    fn no_mutation_of_a_policy_makes_it_panic(
        cuts in proptest::collection::vec((0_usize..GOOD.len(), 0_usize..12, "\\PC{0,6}|[\\[\\]{}\"=.,:*a-z0-9\n]{0,6}"), 1..6)
    ) {
        let mut text = GOOD.to_owned();
        for (at, length, put) in cuts {
            let floor = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let (from, to) = (floor(at), floor(at + length));
            text.replace_range(from..to, &put);
        }
        match Policy::parse(&text, "p") {
            Ok(policy) => prop_assert!(policy.users().len() > 0),
            Err(error) => prop_assert!(error.line >= 1 && error.column >= 1 && !error.message.is_empty()),
        }
    }
}
