//! Who is in which unit, and who has which role.

use std::collections::HashMap;
use std::ops::Range;

use toml::Spanned;

use super::file::{PolicyFile, Source};
use super::pattern::{Pattern, check_name, looks};
use super::selector::Whom;
use super::{PolicyError, Unit};

/// The most users of a policy.
const MAX_USERS: usize = 100_000;

/// A user, before it is known what the role allows.
pub(super) struct Person<'a> {
    pub(super) name: String,
    pub(super) unit: Option<usize>,
    pub(super) role: Option<usize>,
    leads: bool,
    /// What brought them in, and where it is.
    pub(super) named: &'a Spanned<String>,
}

/// Everybody, in the order of the file.
pub(super) struct Register<'a> {
    source: &'a Source<'a>,
    pub(super) people: Vec<Person<'a>>,
    pub(super) by_name: HashMap<String, usize>,
    by_looks: HashMap<String, usize>,
}

impl<'a> Register<'a> {
    /// Enters the leaders and members of all units, then gives out the roles.
    pub(super) fn fill(
        source: &'a Source<'a>,
        file: &'a PolicyFile,
        units: &[Unit],
    ) -> Result<Self, PolicyError> {
        let (people, by_name, by_looks) = Default::default();
        let mut register = Self { source, people, by_name, by_looks };
        for (unit, table) in file.units.iter().enumerate() {
            if let Some(leader) = &table.leader {
                register.enter_in(unit, leader, true, units)?;
            }
            for members in &table.members {
                register.enter_in(unit, members, false, units)?;
            }
        }
        for (role, table) in file.roles.iter().enumerate() {
            for whom in &table.users {
                register.assign(role, whom, file, units)?;
            }
        }
        match register.people.iter().find(|person| person.role.is_none()) {
            None => Ok(register),
            Some(person) => {
                let told = format!("no role is for {}", person.name);
                Err(source.at(inside(person.named), told).hint("name them in the `users` of a [[role]]"))
            }
        }
    }

    fn enter_in(
        &mut self,
        unit: usize,
        named: &'a Spanned<String>,
        leads: bool,
        units: &[Unit],
    ) -> Result<(), PolicyError> {
        let pattern = self.pattern(named)?;
        if leads && pattern.count() != 1 {
            return Err(self.at(named, format!("{} is more than one leader", named.get_ref())));
        }
        for name in pattern.names() {
            match self.by_name.get(&name) {
                Some(&known) => return Err(self.twice(&name, unit, known, named, units)),
                None => self.enter(Person { name, unit: Some(unit), role: None, leads, named })?,
            };
        }
        Ok(())
    }

    fn twice(
        &self,
        name: &str,
        unit: usize,
        known: usize,
        named: &Spanned<String>,
        units: &[Unit],
    ) -> PolicyError {
        let known = &self.people[known];
        let line = self.source.line(&known.named.span());
        let here = &units[unit].id;
        let there = known.unit.map(|unit| units[unit].id.as_str()).unwrap_or_default();
        let (this, that) = (named.get_ref(), known.named.get_ref());
        let told = match (known.unit == Some(unit), this == name && that == name) {
            (true, true) => format!("{name} is in {here} twice"),
            (true, false) => format!("{this} overlaps {that}: both have {name}"),
            (false, true) => format!("{name} is in two units, {there} and {here}"),
            (false, false) => format!("{name} is in two units: {this} in {here} overlaps {that} in {there}"),
        };
        self.at(named, told).hint(format!("line {line} has {name} first; a user is in one unit at most"))
    }

    fn assign(
        &mut self,
        role: usize,
        whom: &'a Spanned<String>,
        file: &PolicyFile,
        units: &[Unit],
    ) -> Result<(), PolicyError> {
        let text = whom.get_ref();
        let (of, leads) = match Whom::parse(text) {
            Some(Whom::Named(_)) => return self.assign_named(role, whom, file),
            Some(Whom::Leaders(of)) => (of, true),
            Some(Whom::Members(of)) => (of, false),
            None => {
                let told = format!("{text:?} are no users");
                return Err(self
                    .at(whom, told)
                    .hint("users are named, as in Navy{1..50}, or leader:*, members:*"));
            }
        };
        let of = match of.map(|id| units.iter().position(|unit| unit.id == id).ok_or(id)).transpose() {
            Ok(of) => of,
            Err(id) => {
                let ids = units.iter().map(|unit| unit.id.as_str());
                return Err(unknown(self.at(whom, format!("there is no unit {id:?}")), id, ids));
            }
        };
        let fits = |person: &Person<'_>| {
            person.leads == leads && person.unit.is_some_and(|unit| of.is_none_or(|of| of == unit))
        };
        // A list of all leaves out whoever has a role already: an exception is named before it.
        let free: Vec<usize> = (0..self.people.len())
            .filter(|&place| fits(&self.people[place]) && (of.is_some() || self.people[place].role.is_none()))
            .collect();
        if free.is_empty() {
            return Err(self.at(whom, format!("{text} is nobody")));
        }
        free.into_iter().try_for_each(|place| self.give(place, role, whom, file))
    }

    fn assign_named(
        &mut self,
        role: usize,
        named: &'a Spanned<String>,
        file: &PolicyFile,
    ) -> Result<(), PolicyError> {
        for name in self.pattern(named)?.names() {
            let place = match self.by_name.get(&name) {
                Some(&place) => place,
                None => self.enter(Person { name, unit: None, role: None, leads: false, named })?,
            };
            self.give(place, role, named, file)?;
        }
        Ok(())
    }

    fn give(
        &mut self,
        place: usize,
        role: usize,
        by: &Spanned<String>,
        file: &PolicyFile,
    ) -> Result<(), PolicyError> {
        let person = &mut self.people[place];
        let Some(other) = person.role.replace(role) else { return Ok(()) };
        let name = &person.name;
        let told = match other == role {
            true => format!("{name} is in the role {} twice", file.roles[role].id.get_ref()),
            false => format!(
                "{name} has two roles, {} and {}",
                file.roles[other].id.get_ref(),
                file.roles[role].id.get_ref()
            ),
        };
        Err(self.at(by, told).hint("a user has one role: what it allows is one list"))
    }

    fn enter(&mut self, person: Person<'a>) -> Result<usize, PolicyError> {
        check_name(&person.name).map_err(|told| self.at(person.named, told))?;
        let place = self.people.len();
        if place >= MAX_USERS {
            return Err(self.at(person.named, format!("there are more than {MAX_USERS} users")));
        }
        for look in looks(&person.name) {
            let other = *self.by_looks.entry(look).or_insert(place);
            if other != place {
                let other = &self.people[other];
                let line = self.source.line(&other.named.span());
                let told = format!("{} could be taken for {}, of line {line}", person.name, other.name);
                return Err(self.at(person.named, told).hint("give one of them a name that looks different"));
            }
        }
        self.by_name.insert(person.name.clone(), place);
        self.people.push(person);
        Ok(place)
    }

    fn pattern(&self, named: &Spanned<String>) -> Result<Pattern, PolicyError> {
        let pattern = Pattern::parse(named.get_ref()).map_err(|told| self.at(named, told))?;
        match pattern.count() > MAX_USERS as u64 {
            true => Err(self.at(named, format!("{} are more than {MAX_USERS} users", named.get_ref()))),
            false => Ok(pattern),
        }
    }

    fn at(&self, named: &Spanned<String>, told: impl Into<String>) -> PolicyError {
        self.source.at(inside(named), told)
    }
}

/// Returns the place of a text without its quotes.
pub(super) fn inside(text: &Spanned<String>) -> Range<usize> {
    let span = text.span();
    match span.len() == text.get_ref().len() + 2 {
        true => span.start + 1..span.end - 1,
        false => span,
    }
}

/// Adds what was probably meant.
pub(super) fn unknown<'a>(
    error: PolicyError,
    word: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> PolicyError {
    match gx_core::config::closest(word, known.clone()) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => {
            let listed: Vec<&str> = known.take(20).collect();
            match listed.is_empty() {
                true => error.hint("there is none in the file"),
                false => error.hint(format!("there are: {}", listed.join(", "))),
            }
        }
    }
}
