//! What a typed line means: a text, or one of the commands that begin with a colon.

use crate::frames::{Moves, Rights, RightsIn};
use crate::id::GroupId;

/// The word that ends the session, without a colon.
pub const LOG_OUT: &str = "logmeout";

/// What a typed line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed {
    /// Nothing was typed.
    Nothing,
    /// A text for the group.
    Say(String),
    /// Shows a group and types into it.
    Choose(GroupId),
    /// Saves the group's week, to this file.
    Save(Option<String>),
    /// Lists the commands.
    Help,
    /// Keeps a text for later in this group; nothing forgets it.
    Draft(String),
    /// Lists the groups.
    Groups,
    /// Lists who is in the group.
    Who,
    /// Searches for words in the group.
    Search(String),
    /// Ends the session.
    Leave,
    /// It is no command of this user; nothing is sent.
    Wrong(String),
}

/// Reads a typed line, for a user with these rights who is in this group.
pub fn typed(line: &str, rights: &Rights, current: Option<&GroupId>) -> Typed {
    let line = line.trim_end_matches(['\r', '\n']);
    if line.trim().is_empty() {
        return Typed::Nothing;
    }
    if line.trim() == LOG_OUT {
        return Typed::Leave;
    }
    let Some(command) = line.strip_prefix(':') else { return Typed::Say(line.to_owned()) };
    if command.starts_with(':') {
        return Typed::Say(command.to_owned());
    }
    let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let (word, rest) = (word.to_lowercase(), rest.trim());
    let known = match (word.as_str(), rest) {
        ("help", "") => Some(Typed::Help),
        ("d" | "save", "") => Some(Typed::Save(None)),
        ("d" | "save", file) => Some(Typed::Save(Some(file.to_owned()))),
        ("draft", text) => Some(Typed::Draft(text.to_owned())),
        ("groups", "") => Some(Typed::Groups),
        ("who", "") => Some(Typed::Who),
        ("search", words) if !words.is_empty() => Some(Typed::Search(words.to_owned())),
        ("quit" | LOG_OUT, "") => Some(Typed::Leave),
        ("t" | "toggle", "") if rights.moves == Moves::Toggle => {
            next(rights, current).map(|group| Typed::Choose(group.g.clone()))
        }
        ("g" | "group", name) if !name.is_empty() => chosen(name, rights),
        (name, "") => chosen(name, rights),
        _ => None,
    };
    known.unwrap_or_else(|| Typed::Wrong(format!("`:{}` is no command here", super::shown(command.trim()))))
}

/// Returns the group after this one, and after the last the first.
fn next<'a>(rights: &'a Rights, current: Option<&GroupId>) -> Option<&'a RightsIn> {
    let place = rights.groups.iter().position(|group| Some(&group.g) == current);
    let place = place.map_or(0, |place| (place + 1) % rights.groups.len());
    rights.groups.get(place)
}

fn chosen(name: &str, rights: &Rights) -> Option<Typed> {
    if rights.moves != Moves::Switch {
        return None;
    }
    let name = name.to_lowercase();
    let is_it = |group: &&RightsIn| {
        group.command.as_deref() == Some(&name)
            || group.g.as_str() == name
            || group.name.to_lowercase() == name
    };
    rights.groups.iter().find(is_it).map(|group| Typed::Choose(group.g.clone()))
}

/// Returns every command that this user has, each with what it does.
pub fn help(rights: &Rights) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let mut add = |command: String, does: &str| lines.push((command, does.to_owned()));
    if rights.moves == Moves::Switch {
        for group in &rights.groups {
            let command = group.command.as_deref().unwrap_or(group.g.as_str());
            // A name of several words is for `:group`.
            let long = match group.name.contains(' ') || group.name.eq_ignore_ascii_case(command) {
                true => String::new(),
                false => format!(", :{}", group.name),
            };
            add(format!(":{command}{long}"), &format!("goes to {}", group.name));
        }
        add(":group NAME".to_owned(), "goes to a group by its name");
    }
    if rights.moves == Moves::Toggle {
        let names: Vec<&str> = rights.groups.iter().map(|group| group.name.as_str()).collect();
        add(":t, :toggle".to_owned(), &format!("goes on to the next of {}", names.join(", ")));
    }
    add(":d, :save [FILE]".to_owned(), "saves the last week of this group as text");
    add(":draft TEXT".to_owned(), "keeps a text for later in this group; without one forgets it");
    add(":search WORDS".to_owned(), "finds messages of this group");
    add(":who".to_owned(), "lists who is in this group");
    add(":groups".to_owned(), "lists your groups, and what is unread");
    add(":help".to_owned(), "lists the commands");
    add(format!("{LOG_OUT}, :quit"), "ends the session");
    add("::TEXT".to_owned(), "sends a line that begins with a colon");
    lines
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::id::Seq;
    use proptest::prelude::*;

    pub(crate) fn group(id: &str, name: &str, command: Option<&str>, w: bool) -> RightsIn {
        RightsIn {
            g: id.parse().unwrap(),
            name: name.to_owned(),
            command: command.map(str::to_owned),
            r: true,
            w,
            first: Seq::ONE,
            last: Seq::ZERO,
            read: Seq::ZERO,
            reset: false,
        }
    }

    pub(crate) fn chief() -> Rights {
        Rights {
            groups: vec![
                group("h", "heads", Some("h"), true),
                group("n", "navy", Some("n"), false),
                group("r", "army", Some("r"), false),
            ],
            default: Some("h".parse().unwrap()),
            moves: Moves::Switch,
            redirect: Some("h".parse().unwrap()),
        }
    }

    pub(crate) fn leader() -> Rights {
        Rights {
            groups: vec![group("h", "heads", None, true), group("n", "navy", None, true)],
            default: Some("h".parse().unwrap()),
            moves: Moves::Toggle,
            redirect: None,
        }
    }

    pub(crate) fn soldier() -> Rights {
        Rights { groups: vec![group("n", "navy", None, true)], ..Rights::default() }
    }

    fn wrong(typed: &Typed) -> bool {
        matches!(typed, Typed::Wrong(_))
    }

    #[test]
    fn the_chief_switches_in_either_case_and_by_long_forms() {
        let n = Typed::Choose("n".parse().unwrap());
        for line in [":n", ":N", ":navy", ":Navy", ":n  ", ":group navy", ":g N"] {
            assert_eq!(typed(line, &chief(), None), n, "{line}");
        }
        for line in [":t", ":x", ":", ": n", ":n hello", ":group", ":heads up", ":)"] {
            assert!(wrong(&typed(line, &chief(), None)), "{line}");
        }
    }

    #[test]
    fn a_leader_toggles_and_a_soldier_stays() {
        let (h, n): (GroupId, GroupId) = ("h".parse().unwrap(), "n".parse().unwrap());
        assert_eq!(typed(":t", &leader(), Some(&h)), Typed::Choose(n.clone()));
        assert_eq!(typed(":T", &leader(), Some(&n)), Typed::Choose(h.clone()));
        assert_eq!(typed(":toggle", &leader(), None), Typed::Choose(h));
        for line in [":n", ":h", ":navy", ":group n"] {
            assert!(wrong(&typed(line, &leader(), None)), "{line}");
            assert!(wrong(&typed(line, &soldier(), None)), "{line}");
        }
        assert!(wrong(&typed(":t", &soldier(), Some(&n))));
    }

    #[test]
    fn everybody_has_the_rest() {
        let rights = soldier();
        assert_eq!(typed(":d", &rights, None), Typed::Save(None));
        assert_eq!(typed(":D", &rights, None), Typed::Save(None));
        assert_eq!(typed(":save My File.txt", &rights, None), Typed::Save(Some("My File.txt".to_owned())));
        assert_eq!(typed(":draft half a line", &rights, None), Typed::Draft("half a line".to_owned()));
        assert_eq!(typed(":draft", &rights, None), Typed::Draft(String::new()));
        assert_eq!(typed(":help", &rights, None), Typed::Help);
        assert_eq!(typed("logmeout", &rights, None), Typed::Leave);
        assert_eq!(typed(" logmeout \r\n", &rights, None), Typed::Leave);
        assert_eq!(typed("logmeout now", &rights, None), Typed::Say("logmeout now".to_owned()));
        assert_eq!(typed("::d", &rights, None), Typed::Say(":d".to_owned()));
        assert_eq!(typed(":::", &rights, None), Typed::Say("::".to_owned()));
        assert_eq!(typed("  a text ", &rights, None), Typed::Say("  a text ".to_owned()));
        assert_eq!(typed(" \t", &rights, None), Typed::Nothing);
    }

    #[test]
    fn help_lists_what_there_is_and_nothing_else() {
        for rights in [chief(), leader(), soldier()] {
            for (commands, _) in help(&rights) {
                for command in commands.split(", ") {
                    let line = command
                        .replace("TEXT", "x")
                        .replace("NAME", "navy")
                        .replace("WORDS", "x")
                        .replace(" [FILE]", "");
                    assert!(!wrong(&typed(&line, &rights, None)), "{line}");
                }
            }
        }
        assert!(
            !help(&soldier()).iter().any(|(command, _)| command.contains(":t") || command.contains(":h,"))
        );
    }

    proptest! {
        #[test]
        fn a_line_with_a_colon_is_never_sent_by_mistake(line in ":[^:].{0,20}|:") {
            for rights in [chief(), leader(), soldier()] {
                prop_assert!(!matches!(typed(&line, &rights, None), Typed::Say(_)));
            }
        }
    }
}
