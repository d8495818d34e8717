//! Makes a policy of a policy file, or says what in the file contradicts itself.

use std::collections::HashMap;

use toml::Spanned;

use super::file::{AllowTable, PolicyFile, RoleTable, Source};
use super::limits::Limits;
use super::selector::Selector;
use super::users::{Register, inside, unknown};
use super::{Class, Group, Policy, PolicyError, Rights, Role, Rule, Unit, User, ancestors};
use crate::frames::Moves;
use crate::id::GroupId;

/// The most groups, units and roles.
const MAX_GROUPS: usize = 1_024;
const MAX_UNITS: usize = 10_000;
const MAX_ROLES: usize = 1_024;
/// The most units above one another.
const MAX_DEPTH: usize = 64;
/// The most rights that are kept: groups, times the pairs of a role and a unit that somebody has.
const MAX_RIGHTS: usize = 4_000_000;
/// The longest name and command of a group, in characters.
const MAX_GROUP_NAME: usize = 32;
const MAX_COMMAND: usize = 16;
/// The client's own commands.
pub(crate) const RESERVED: &[&str] =
    &["t", "toggle", "d", "save", "help", "g", "group", "groups", "who", "search", "quit", "logmeout"];

type Checked<T = ()> = Result<T, PolicyError>;

pub(super) fn resolve(source: &Source<'_>) -> Checked<Policy> {
    let file = source.read()?;
    sizes(source, &file)?;
    let limits = Limits::read(&file.chat, source)?;
    let units = units(source, &file)?;
    let groups = groups(source, &file, &units)?;
    let roles = roles(source, &file, &groups, &units)?;
    let register = Register::fill(source, &file, &units)?;
    let group_by_id = groups.iter().enumerate().map(|(place, group)| (group.id.clone(), place)).collect();
    let mut policy = Policy {
        limits,
        groups,
        units,
        roles,
        users: Vec::new(),
        classes: Vec::new(),
        user_by_name: HashMap::new(),
        group_by_id,
    };
    classify(source, &file, register, &mut policy)?;
    everybody_is_heard(source, &file, &policy)?;
    Ok(policy)
}

fn sizes(source: &Source<'_>, file: &PolicyFile) -> Checked {
    let most = [
        (file.groups.get(MAX_GROUPS).map(|group| &group.id), MAX_GROUPS, "groups"),
        (file.units.get(MAX_UNITS).map(|unit| &unit.id), MAX_UNITS, "units"),
        (file.roles.get(MAX_ROLES).map(|role| &role.id), MAX_ROLES, "roles"),
    ];
    for (over, most, what) in most {
        if let Some(over) = over {
            return Err(source.at(inside(over), format!("there are more than {most} {what}")));
        }
    }
    let missing = match (file.groups.is_empty(), file.roles.is_empty()) {
        (true, _) => "there is no [[group]]",
        (_, true) => "there is no [[role]]",
        _ => return Ok(()),
    };
    Err(source.at(0..0, missing).hint("examples/chat/army.toml is a policy that can be changed"))
}

fn units(source: &Source<'_>, file: &PolicyFile) -> Checked<Vec<Unit>> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (place, table) in file.units.iter().enumerate() {
        check_id(source, &table.id, "unit")?;
        if let Some(first) = places.insert(table.id.get_ref(), place) {
            return Err(duplicate(source, &table.id, &file.units[first].id, "unit"));
        }
    }
    let mut units = Vec::with_capacity(file.units.len());
    for table in &file.units {
        let find = |parent: &Spanned<String>| match places.get(parent.get_ref().as_str()) {
            Some(&parent) => Ok(parent),
            None => Err(no_unit(source, parent, file)),
        };
        let parent = table.parent.as_ref().map(find).transpose()?;
        units.push(Unit { id: table.id.get_ref().clone(), parent });
    }
    for (place, table) in file.units.iter().enumerate() {
        // One more step than there may be is enough to know, with or without a circle.
        let above: Vec<usize> = ancestors(&units, place).take(MAX_DEPTH.max(units.len()) + 1).collect();
        let parent = || inside(table.parent.as_ref().expect("a unit that is below another has a parent"));
        if let Some(end) = above.iter().position(|&unit| unit == place) {
            let circle: Vec<&str> = above[..=end].iter().map(|&unit| units[unit].id.as_str()).collect();
            let told = format!("{} is below itself: {}", units[place].id, circle.join(" below "));
            return Err(source.at(parent(), told).hint("one of these units has another parent, or none"));
        }
        if above.len() > MAX_DEPTH && above.len() <= units.len() {
            return Err(
                source.at(parent(), format!("more than {MAX_DEPTH} units are above {}", units[place].id))
            );
        }
    }
    Ok(units)
}

fn groups(source: &Source<'_>, file: &PolicyFile, units: &[Unit]) -> Checked<Vec<Group>> {
    // Whatever chooses a group in the client: no word chooses two.
    let mut words: HashMap<String, (usize, &Spanned<String>)> = HashMap::new();
    let mut groups: Vec<Group> = Vec::with_capacity(file.groups.len());
    for (place, table) in file.groups.iter().enumerate() {
        check_id(source, &table.id, "group")?;
        if let Some(first) = groups.iter().position(|group| group.id == *table.id.get_ref()) {
            return Err(duplicate(source, &table.id, &file.groups[first].id, "group"));
        }
        for word in [table.command.as_ref(), table.name.as_ref()].into_iter().flatten().chain([&table.id]) {
            let (first, named) = *words.entry(word.get_ref().to_lowercase()).or_insert((place, word));
            if first != place {
                let line = source.line(&named.span());
                let told =
                    format!("{} is the group {} too, by line {line}", word.get_ref(), groups[first].id);
                let hint = "ids, names and commands of groups are all different, in either case";
                return Err(source.at(inside(word), told).hint(hint));
            }
        }
        let unit = table.unit.as_ref().map(|unit| {
            units
                .iter()
                .position(|known| known.id == *unit.get_ref())
                .ok_or_else(|| no_unit(source, unit, file))
        });
        groups.push(Group {
            id: table.id.get_ref().clone(),
            name: table
                .name
                .as_ref()
                .map_or(Ok(table.id.get_ref().clone()), |name| group_name(source, name))?,
            command: table.command.as_ref().map(|word| command(source, word)).transpose()?,
            unit: unit.transpose()?,
        });
    }
    Ok(groups)
}

fn group_name(source: &Source<'_>, name: &Spanned<String>) -> Checked<String> {
    let text = name.get_ref();
    let harmless = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.' | '&');
    let good = !text.is_empty()
        && text.chars().count() <= MAX_GROUP_NAME
        && text.chars().all(harmless)
        && text.trim() == text;
    match good {
        true => Ok(text.clone()),
        false => {
            let told = format!("{text:?} is not a name of a group");
            let hint = "it has 1 to 32 letters, digits, spaces and the signs _ - . &";
            Err(source.at(inside(name), told).hint(hint))
        }
    }
}

fn command(source: &Source<'_>, word: &Spanned<String>) -> Checked<String> {
    let text = word.get_ref();
    let good = (1..=MAX_COMMAND).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !good {
        let told = format!("{text:?} is not a command");
        let hint = "it is written without the colon and has 1 to 16 letters of a to z and digits";
        return Err(source.at(inside(word), told).hint(hint));
    }
    if RESERVED.contains(&text.as_str()) {
        let told = format!("the command {text} means something else in every group");
        return Err(source.at(inside(word), told).hint(format!("these are taken: {}", RESERVED.join(", "))));
    }
    Ok(text.clone())
}

fn roles(source: &Source<'_>, file: &PolicyFile, groups: &[Group], units: &[Unit]) -> Checked<Vec<Role>> {
    let mut roles: Vec<Role> = Vec::with_capacity(file.roles.len());
    for table in &file.roles {
        check_id(source, &table.id, "role")?;
        if let Some(first) = roles.iter().position(|role| role.id == *table.id.get_ref()) {
            return Err(duplicate(source, &table.id, &file.roles[first].id, "role"));
        }
        if table.users.is_empty() {
            let told = format!("the role {} is nobody's", table.id.get_ref());
            return Err(source
                .at(inside(&table.id), told)
                .hint("name users, as in users = [\"Navy{1..50}\"]"));
        }
        if table.allow.is_empty() {
            let told = format!("the role {} allows nothing", table.id.get_ref());
            let hint = "add rules, as in allow = [{ group = \"own\", read = true, write = true }]";
            return Err(source.at(inside(&table.id), told).hint(hint));
        }
        let mut rules: Vec<Rule> = Vec::with_capacity(table.allow.len());
        for allow in &table.allow {
            let rule = rule(source, allow, groups, units)?;
            if let Some(same) = rules.iter().find(|known| known.selector == rule.selector) {
                let told = format!("the rule for {} is there twice, first in line {}", rule.text, same.line);
                return Err(source.at(inside(&allow.group), told).hint("make one rule of the two"));
            }
            rules.push(rule);
        }
        roles.push(Role { id: table.id.get_ref().clone(), rules });
    }
    Ok(roles)
}

fn rule(source: &Source<'_>, allow: &AllowTable, groups: &[Group], units: &[Unit]) -> Checked<Rule> {
    let rights = Rights { read: allow.read, write: allow.write };
    let text = allow.group.get_ref().clone();
    if !rights.is_any() {
        let told = format!("the rule for {text} allows nothing");
        let hint = "add read = true or write = true, or leave the rule out: what no rule allows is refused";
        return Err(source.at(inside(&allow.group), told).hint(hint));
    }
    let selector = selector(source, &allow.group, groups, units)?;
    Ok(Rule { selector, text, line: source.line(&allow.group.span()), rights })
}

fn selector(
    source: &Source<'_>,
    text: &Spanned<String>,
    groups: &[Group],
    units: &[Unit],
) -> Checked<Selector> {
    let word = text.get_ref().as_str();
    let of_units = || groups.iter().filter_map(|group| group.unit);
    match word.split_once(':') {
        None if word == "own" => Ok(Selector::Own),
        None if word == "below" => Ok(Selector::Below),
        None => match groups.iter().position(|group| group.id == word) {
            Some(group) => Ok(Selector::Group(group)),
            None => {
                let known = groups.iter().map(|group| group.id.as_str()).chain(["own", "below", "unit:*"]);
                Err(unknown(source.at(inside(text), format!("there is no group {word:?}")), word, known))
            }
        },
        Some(("unit", "*")) if of_units().next().is_some() => Ok(Selector::AnyUnit),
        Some(("unit", "*")) => Err(source
            .at(inside(text), "unit:* is no group: none has a unit")
            .hint("give groups a `unit`, or name the group")),
        Some(("unit", id)) => match units.iter().position(|unit| unit.id == id) {
            Some(unit) if of_units().any(|of| of == unit) => Ok(Selector::Unit(unit)),
            Some(_) => Err(source
                .at(inside(text), format!("{word} is no group: the unit {id} has none"))
                .hint(format!("give a group the unit, as in unit = {id:?}"))),
            None => {
                let known = units.iter().map(|unit| unit.id.as_str());
                Err(unknown(source.at(inside(text), format!("there is no unit {id:?}")), id, known))
            }
        },
        Some(_) => Err(source
            .at(inside(text), format!("{word:?} selects no groups"))
            .hint("it is a group's id, own, below, unit:* or unit:ID")),
    }
}

/// Works out what everybody may, once for all who have a role and a unit in common.
fn classify(source: &Source<'_>, file: &PolicyFile, register: Register<'_>, policy: &mut Policy) -> Checked {
    let mut classes: HashMap<(usize, Option<usize>), usize> = HashMap::new();
    for person in register.people {
        let role = person.role.expect("the register gives everybody a role");
        let class = match classes.get(&(role, person.unit)) {
            Some(&class) => class,
            None => {
                let class = policy.classes.len();
                if (class + 1) * policy.groups.len() > MAX_RIGHTS {
                    let told = format!("the policy has more than {MAX_RIGHTS} rights");
                    return Err(source
                        .at(inside(person.named), told)
                        .hint("use fewer groups, units or roles"));
                }
                let of =
                    ClassOf { source, table: &file.roles[role], role, unit: person.unit, name: &person.name };
                policy.classes.push(of.class(policy)?);
                classes.insert((role, person.unit), class);
                class
            }
        };
        policy.user_by_name.insert(person.name.clone(), policy.users.len());
        policy.users.push(User { name: person.name, unit: person.unit, role, class });
    }
    Ok(())
}

/// What is looked at to work out a class.
struct ClassOf<'a> {
    source: &'a Source<'a>,
    table: &'a RoleTable,
    role: usize,
    unit: Option<usize>,
    /// One of the class, for errors.
    name: &'a str,
}

impl ClassOf<'_> {
    fn class(&self, policy: &Policy) -> Checked<Class> {
        let mut rights = vec![Rights::NONE; policy.groups.len()];
        for rule in &policy.roles[self.role].rules {
            for (group, rights) in rights.iter_mut().enumerate() {
                if policy.selects(rule.selector, self.unit, group) {
                    rights.read |= rule.rights.read;
                    rights.write |= rule.rights.write;
                }
            }
        }
        let moves = self.moves()?;
        let reached = |group: &usize| rights[*group].is_any();
        if moves == Moves::Switch
            && let Some(group) =
                (0..rights.len()).filter(reached).find(|&group| policy.groups[group].command.is_none())
        {
            let switch = self.table.switch.as_ref().expect("the role switches");
            let told =
                format!("{} cannot switch to {}, which has no command", self.name, policy.groups[group].id);
            return Err(self.source.at(switch.span(), told).hint("give the group a `command`"));
        }
        let default = self.default(policy, &rights)?;
        let redirect = self.redirect(policy, &rights)?;
        Ok(Class { rights, default, moves, redirect })
    }

    fn moves(&self) -> Checked<Moves> {
        let is_set = |key: &Option<Spanned<bool>>| key.as_ref().is_some_and(|key| *key.get_ref());
        match (is_set(&self.table.switch), is_set(&self.table.toggle)) {
            (true, true) => {
                let toggle = self.table.toggle.as_ref().expect("it was looked at");
                let told = format!("the role {} has switch and toggle", self.table.id.get_ref());
                let hint =
                    "switch is for a command for each group, toggle for :t between all of them; take one";
                Err(self.source.at(toggle.span(), told).hint(hint))
            }
            (true, false) => Ok(Moves::Switch),
            (false, true) => Ok(Moves::Toggle),
            (false, false) => Ok(Moves::Stay),
        }
    }

    fn default(&self, policy: &Policy, rights: &[Rights]) -> Checked<usize> {
        let Some(text) = &self.table.default else {
            return (0..rights.len()).find(|&group| rights[group].is_any()).ok_or_else(|| {
                let told =
                    format!("no rule of the role {} gives {} a group", self.table.id.get_ref(), self.name);
                let hint = "add a rule, or a group with the unit of this user";
                self.source.at(inside(&self.table.id), told).hint(hint)
            });
        };
        let group = self.the_one(policy, text, "default")?;
        match rights[group].is_any() {
            true => Ok(group),
            false => {
                let told = format!(
                    "{} begins in {}, where no rule allows anything",
                    self.name, policy.groups[group].id
                );
                Err(self.source.at(inside(text), told).hint("allow it, or begin in another group"))
            }
        }
    }

    fn redirect(&self, policy: &Policy, rights: &[Rights]) -> Checked<Option<usize>> {
        let Some(text) = &self.table.redirect_writes_to else { return Ok(None) };
        let group = self.the_one(policy, text, "redirect_writes_to")?;
        if !rights[group].write {
            let told = format!("{} may not write to {}", self.name, policy.groups[group].id);
            let hint = "lines can only go to a group which the role may write to";
            return Err(self.source.at(inside(text), told).hint(hint));
        }
        Ok(Some(group))
    }

    /// Returns the group that a selector stands for, for these users.
    fn the_one(&self, policy: &Policy, text: &Spanned<String>, key: &str) -> Checked<usize> {
        let selector = selector(self.source, text, &policy.groups, &policy.units)?;
        let mut fitting =
            (0..policy.groups.len()).filter(|&group| policy.selects(selector, self.unit, group));
        let (Some(group), more) = (fitting.next(), fitting.next()) else {
            let told = format!("{key} = {:?} is no group for {}", text.get_ref(), self.name);
            return Err(self.source.at(inside(text), told).hint("name a group, or give the user's unit one"));
        };
        match more {
            None => Ok(group),
            Some(more) => {
                let (one, other) = (&policy.groups[group].id, &policy.groups[more].id);
                let told = format!(
                    "{key} = {:?} is more than one group for {}: {one}, {other}",
                    text.get_ref(),
                    self.name
                );
                Err(self.source.at(inside(text), told).hint("name one of them"))
            }
        }
    }
}

fn everybody_is_heard(source: &Source<'_>, file: &PolicyFile, policy: &Policy) -> Checked {
    for (place, table) in file.groups.iter().enumerate() {
        let anybody = |may: fn(Rights) -> bool| policy.classes.iter().any(|class| may(class.rights[place]));
        let lacking = match (anybody(|rights| rights.write), anybody(|rights| rights.read)) {
            (true, true) => continue,
            (false, _) => ("write to", "write"),
            (true, false) => ("read", "read"),
        };
        let told = format!("nobody may {} the group {}", lacking.0, table.id.get_ref());
        let hint = format!("give a role a rule for it with {} = true, or take the group out", lacking.1);
        return Err(source.at(inside(&table.id), told).hint(hint));
    }
    Ok(())
}

fn check_id(source: &Source<'_>, id: &Spanned<String>, noun: &str) -> Checked {
    match id.get_ref().parse::<GroupId>() {
        Ok(id) if noun != "group" || !matches!(id.as_str(), "own" | "below") => Ok(()),
        Ok(_) => Err(source
            .at(inside(id), format!("a group cannot have the id {}", id.get_ref()))
            .hint("own and below mean other groups for each user")),
        Err(_) => {
            let shown: String = id.get_ref().chars().take(40).collect();
            let hint =
                "it has 1 to 32 lower-case letters of a to z, digits, _ or -, and begins with a letter";
            Err(source.at(inside(id), format!("{shown:?} is not an id of a {noun}")).hint(hint))
        }
    }
}

fn duplicate(source: &Source<'_>, id: &Spanned<String>, first: &Spanned<String>, noun: &str) -> PolicyError {
    let line = source.line(&first.span());
    let told = format!("the {noun} {} is there twice, first in line {line}", id.get_ref());
    source.at(inside(id), told).hint(format!("ids of {noun}s are all different"))
}

fn no_unit(source: &Source<'_>, id: &Spanned<String>, file: &PolicyFile) -> PolicyError {
    let known = file.units.iter().map(|unit| unit.id.get_ref().as_str());
    unknown(source.at(inside(id), format!("there is no unit {:?}", id.get_ref())), id.get_ref(), known)
}
