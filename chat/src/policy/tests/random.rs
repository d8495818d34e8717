//! Random policies against an interpreter that is as simple as can be: it looks at the tables for each question anew.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::super::{Policy, Rights, Verb};

const VERBS_OF_WRITING: [Verb; 2] = [Verb::Send, Verb::Typing];

/// A policy as a few numbers.
#[derive(Debug, Clone)]
struct World {
    /// The parent of each unit, one that comes before it.
    parents: Vec<Option<usize>>,
    /// The unit of each group.
    groups: Vec<Option<usize>>,
    /// For each user: the unit, whether they lead it, the role.
    users: Vec<(Option<usize>, usize)>,
    /// For each role: rules.
    roles: Vec<Vec<(Pick, Rights)>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Pick {
    Group(usize),
    Own,
    Below,
    Unit(usize),
    AnyUnit,
}

impl World {
    fn text(&self) -> String {
        let mut text = String::new();
        for (group, unit) in self.groups.iter().enumerate() {
            write!(text, "[[group]]\nid = \"g{group}\"\n").unwrap();
            if let Some(unit) = unit {
                writeln!(text, "unit = \"u{unit}\"").unwrap();
            }
        }
        for (unit, parent) in self.parents.iter().enumerate() {
            write!(text, "[[unit]]\nid = \"u{unit}\"\n").unwrap();
            if let Some(parent) = parent {
                writeln!(text, "parent = \"u{parent}\"").unwrap();
            }
            let members: Vec<String> = (self.users.iter().enumerate())
                .filter(|(_, (of, _))| *of == Some(unit))
                .map(|(user, _)| format!("\"P{user}\""))
                .collect();
            writeln!(text, "members = [{}]", members.join(", ")).unwrap();
        }
        for (role, rules) in self.roles.iter().enumerate() {
            let users: Vec<String> = (self.users.iter().enumerate())
                .filter(|(_, (_, of))| *of == role)
                .map(|(user, _)| format!("\"P{user}\""))
                .collect();
            if users.is_empty() {
                continue;
            }
            write!(text, "[[role]]\nid = \"r{role}\"\nusers = [{}]\nallow = [\n", users.join(", ")).unwrap();
            for (pick, rights) in rules {
                let pick = match pick {
                    Pick::Group(group) => format!("g{group}"),
                    Pick::Own => "own".to_owned(),
                    Pick::Below => "below".to_owned(),
                    Pick::Unit(unit) => format!("unit:u{unit}"),
                    Pick::AnyUnit => "unit:*".to_owned(),
                };
                writeln!(text, "{{ group = \"{pick}\", read = {}, write = {} }},", rights.read, rights.write)
                    .unwrap();
            }
            text.push_str("]\n");
        }
        text
    }

    /// The naive interpreter.
    fn allows(&self, user: usize, verb: Verb, group: usize) -> bool {
        let (unit, role) = self.users[user];
        let of = self.groups[group];
        let below = |mut unit: usize, above: usize| loop {
            match self.parents[unit] {
                None => break false,
                Some(parent) if parent == above => break true,
                Some(parent) => unit = parent,
            }
        };
        self.roles[role].iter().any(|(pick, rights)| {
            let fits = match *pick {
                Pick::Group(this) => this == group,
                Pick::Own => of.is_some() && of == unit,
                Pick::Below => of.is_some_and(|of| unit.is_some_and(|unit| below(of, unit))),
                Pick::Unit(this) => of == Some(this),
                Pick::AnyUnit => of.is_some(),
            };
            fits && if VERBS_OF_WRITING.contains(&verb) { rights.write } else { rights.read }
        })
    }
}

fn rights() -> impl Strategy<Value = Rights> {
    prop_oneof![
        Just(Rights { read: true, write: false }),
        Just(Rights { read: false, write: true }),
        Just(Rights { read: true, write: true }),
    ]
}

fn pick(groups: usize, units: usize) -> impl Strategy<Value = Pick> {
    prop_oneof![
        (0..groups).prop_map(Pick::Group),
        Just(Pick::Own),
        Just(Pick::Below),
        (0..units).prop_map(Pick::Unit),
        Just(Pick::AnyUnit),
    ]
}

fn world() -> impl Strategy<Value = World> {
    (1_usize..6, 1_usize..6, 1_usize..9, 1_usize..4).prop_flat_map(|(units, groups, users, roles)| {
        let parents: Vec<_> = (0..units)
            .map(|unit| if unit == 0 { Just(None).boxed() } else { proptest::option::of(0..unit).boxed() })
            .collect();
        let rules = proptest::collection::vec((pick(groups, units), rights()), 1..4);
        (
            parents,
            proptest::collection::vec(proptest::option::weighted(0.8, 0..units), groups),
            proptest::collection::vec((proptest::option::weighted(0.9, 0..units), 0..roles), users),
            proptest::collection::vec(rules, roles),
        )
            .prop_map(|(parents, groups, users, roles)| World { parents, groups, users, roles })
    })
}

/// What makes a world no policy, by the page's words; written apart from the code that refuses.
fn is_refused(world: &World) -> bool {
    let used = |role: usize| world.users.iter().any(|(_, of)| *of == role);
    let empty = |pick: &Pick| match pick {
        Pick::Unit(unit) => !world.groups.contains(&Some(*unit)),
        Pick::AnyUnit => world.groups.iter().all(Option::is_none),
        Pick::Group(_) | Pick::Own | Pick::Below => false,
    };
    let twice = |rules: &[(Pick, Rights)]| {
        (0..rules.len()).any(|one| (0..one).any(|other| rules[one].0 == rules[other].0))
    };
    let bad_role = world
        .roles
        .iter()
        .enumerate()
        .any(|(role, rules)| used(role) && (twice(rules) || rules.iter().any(|(pick, _)| empty(pick))));
    let any = |user: usize, group: usize| {
        world.allows(user, Verb::Send, group) || world.allows(user, Verb::Live, group)
    };
    let (users, groups) = (0..world.users.len(), 0..world.groups.len());
    let homeless = users.clone().any(|user| !groups.clone().any(|group| any(user, group)));
    let deserted = groups.clone().any(|group| {
        let somebody = |verb: Verb| users.clone().any(|user| world.allows(user, verb, group));
        !somebody(Verb::Send) || !somebody(Verb::Live)
    });
    bad_role || homeless || deserted
}

#[test]
fn random_policies_allow_what_the_naive_interpreter_allows() {
    use proptest::test_runner::{Config, TestRunner};
    let taken = std::cell::Cell::new(0_u32);
    let mut runner = TestRunner::new(Config { cases: 3_000, failure_persistence: None, ..Config::default() });
    let result = runner.run(&world(), |world| {
        let text = world.text();
        let policy = match Policy::parse(&text, "random") {
            Ok(policy) => policy,
            Err(error) => {
                prop_assert!(is_refused(&world), "{error}\n{text}");
                return Ok(());
            }
        };
        prop_assert!(!is_refused(&world), "it should be refused:\n{text}");
        taken.set(taken.get() + 1);
        for user in 0..world.users.len() {
            let name = format!("P{user}");
            for group in 0..world.groups.len() {
                let id = format!("g{group}");
                for verb in Verb::ALL {
                    let expected = world.allows(user, verb, group);
                    prop_assert_eq!(
                        policy.allows(&name, verb, &id),
                        expected,
                        "{} {} {}\n{}",
                        name,
                        verb,
                        id,
                        text
                    );
                    prop_assert_eq!(policy.why(&name, verb, &id).allowed, expected);
                }
            }
        }
        Ok(())
    });
    result.unwrap();
    assert!(taken.get() > 100, "too few of the random policies are any: {}", taken.get());
}
