//! The army example, exactly: 154 users, 4 groups, every verb, against a table written by hand.

use super::super::{Policy, Verb};
use crate::frames::Moves;

const ARMY: &str = include_str!("../../../../examples/chat/army.toml");

/// What may be done in a group, in the words of the table that the example comes from.
#[derive(Clone, Copy, PartialEq)]
enum May {
    /// "read, live, write"
    All,
    /// "read, live; no write"
    Watch,
    /// "nothing, not even members or presence"
    Nothing,
}
use May::{All, Nothing, Watch};

/// role, h, n, a, r, the group to begin in
const TABLE: [(&str, [May; 4], &str); 7] = [
    ("ChiefCommander", [All, Watch, Watch, Watch], "h"),
    ("NavyMarshal", [All, All, Nothing, Nothing], "h"),
    ("AirForceChief", [All, Nothing, All, Nothing], "h"),
    ("ArmyGeneral", [All, Nothing, Nothing, All], "h"),
    ("Navy#", [Nothing, All, Nothing, Nothing], "n"),
    ("AirForce#", [Nothing, Nothing, All, Nothing], "a"),
    ("Army#", [Nothing, Nothing, Nothing, All], "r"),
];

fn is_allowed(may: May, verb: Verb) -> bool {
    match (may, verb) {
        (All, _) => true,
        (Nothing, _) => false,
        (Watch, Verb::Send | Verb::Typing) => false,
        (
            Watch,
            Verb::Live | Verb::History | Verb::Search | Verb::Export | Verb::Presence | Verb::Members,
        ) => true,
    }
}

fn everybody() -> Vec<(String, [May; 4], &'static str)> {
    let named = |(name, may, default): (&str, [May; 4], &'static str)| match name.strip_suffix('#') {
        None => vec![(name.to_owned(), may, default)],
        Some(troop) => (1..=50).map(|number| (format!("{troop}{number}"), may, default)).collect(),
    };
    TABLE.into_iter().flat_map(named).collect()
}

#[test]
fn everybody_may_exactly_what_the_table_says() {
    let policy = Policy::parse(ARMY, "army.toml").unwrap();
    let everybody = everybody();
    assert_eq!((everybody.len(), policy.users().len(), policy.groups().len()), (154, 154, 4));
    let mut answers = 0;
    for (user, row, default) in &everybody {
        for (group, may) in ["h", "n", "a", "r"].into_iter().zip(row) {
            for verb in Verb::ALL {
                let allowed = is_allowed(*may, verb);
                assert_eq!(policy.allows(user, verb, group), allowed, "{user} {verb} {group}");
                assert_eq!(policy.why(user, verb, group).allowed, allowed, "why {user} {verb} {group}");
                assert_eq!(
                    policy.who_may(verb, group).contains(&user.as_str()),
                    allowed,
                    "{user} {verb} {group}"
                );
                answers += 1;
            }
        }
        assert_eq!(policy.default_of(user).unwrap().id(), *default, "{user}");
        let seats: Vec<&str> = policy.groups_of(user).iter().map(|group| group.id()).collect();
        let expected: Vec<&str> = ["h", "n", "a", "r"]
            .into_iter()
            .zip(row)
            .filter(|(_, may)| **may != Nothing)
            .map(|(id, _)| id)
            .collect();
        assert_eq!(seats, expected, "{user}");
    }
    assert_eq!(answers, 154 * 4 * 8);
}

#[test]
fn who_is_not_named_has_no_rights() {
    let policy = Policy::parse(ARMY, "army.toml").unwrap();
    for stranger in ["", "Navy0", "Navy51", "navy1", "Navy01", "Chief", "root", "Navy1 ", "*"] {
        for verb in Verb::ALL {
            assert!(
                ["h", "n", "a", "r"].iter().all(|group| !policy.allows(stranger, verb, group)),
                "{stranger}"
            );
        }
    }
    for group in ["", "H", "navy", "x", "own", "below", "unit:*", "*"] {
        assert!(Verb::ALL.iter().all(|verb| !policy.allows("ChiefCommander", *verb, group)), "{group}");
    }
}

#[test]
fn who_goes_where_is_as_it_was() {
    let policy = Policy::parse(ARMY, "army.toml").unwrap();
    let commands = |user: &str| policy.seats(user).iter().filter_map(|seat| seat.command).collect::<Vec<_>>();
    assert_eq!(
        (commands("ChiefCommander"), policy.moves_of("ChiefCommander")),
        (vec!["h", "n", "a", "r"], Moves::Switch)
    );
    assert_eq!((commands("NavyMarshal"), policy.moves_of("NavyMarshal")), (vec![], Moves::Toggle));
    assert_eq!((commands("Navy1"), policy.moves_of("Navy1")), (vec![], Moves::Stay));
    let redirect = |user: &str| policy.redirect_of(user).map(|group| group.id());
    assert_eq!(
        (redirect("ChiefCommander"), redirect("NavyMarshal"), redirect("Navy1")),
        (Some("h"), None, None)
    );
    assert_eq!(policy.group("a").unwrap().name(), "airforce");
    assert_eq!(policy.retention().as_secs(), 7 * 86_400);
    assert_eq!((policy.limits().max_text, policy.limits().rate.per_s()), (4_096, 5));
}

#[test]
fn the_matrix_is_seven_lines_long() {
    let policy = Policy::parse(ARMY, "army.toml").unwrap();
    let matrix = policy.matrix();
    let lines: Vec<String> = (matrix.in_ranges().iter())
        .map(|(users, row)| {
            let rights: Vec<&str> = row.rights.iter().map(|rights| rights.letters()).collect();
            format!("{users}: {}", rights.join(" "))
        })
        .collect();
    assert_eq!(
        lines,
        [
            "ChiefCommander: rw r- r- r-",
            "ArmyGeneral: rw -- -- rw",
            "Army{1..50}: -- -- -- rw",
            "NavyMarshal: rw rw -- --",
            "Navy{1..50}: -- rw -- --",
            "AirForceChief: rw -- rw --",
            "AirForce{1..50}: -- -- rw --",
        ]
    );
}

#[test]
fn what_changes_is_told_for_all_it_concerns() {
    let before = Policy::parse(ARMY, "army.toml").unwrap();
    let text = ARMY
        .replace("{ group = \"below\", read = true },", "{ group = \"below\", read = true, write = true },");
    let text = text.replace("Navy{1..50}", "Navy{1..49}");
    let after = Policy::parse(&text, "army.toml").unwrap();
    assert!(before.changes_since(&before).is_empty());
    let diff = after.changes_since(&before);
    let told: Vec<String> = (diff.in_ranges().into_iter())
        .map(|(users, change)| {
            format!("{users} {} {} {}", change.group, change.before.letters(), change.after.letters())
        })
        .collect();
    assert_eq!(
        told,
        ["ChiefCommander a r- rw", "ChiefCommander n r- rw", "ChiefCommander r r- rw", "Navy50 n rw --"]
    );
}

#[test]
fn why_names_the_rule() {
    let policy = Policy::parse(ARMY, "army.toml").unwrap();
    let why = policy.why("ChiefCommander", Verb::Send, "n");
    assert!(!why.allowed && why.is_group_known);
    assert_eq!((why.role.as_deref(), why.unit.as_deref()), (Some("chief"), Some("forces")));
    let rules: Vec<(&str, bool, bool)> =
        why.rules.iter().map(|rule| (rule.group.as_str(), rule.fits, rule.allows)).collect();
    assert_eq!(rules, [("h", false, false), ("below", true, false)]);
    let line = ARMY.lines().nth(why.rules[1].line - 1).unwrap();
    assert!(line.contains("\"below\""), "{line}");
    assert_eq!(policy.why("Nobody", Verb::Send, "x").role, None);
}
