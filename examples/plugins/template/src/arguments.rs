//! What is asked for, as the engine's program takes it.

use std::time::Duration;

use gx_core::plugin::*;

/// Returns the words of `create`.
pub(crate) fn create(spec: &ContainerSpec) -> Vec<String> {
    let mut words = Words::of(&["create", "--pull", "never"]);
    words.option("--name", spec.name.as_str());
    spec.env.iter().for_each(|(key, value)| words.option("--env", &format!("{key}={value}")));
    spec.labels.iter().for_each(|(key, value)| words.option("--label", &format!("{key}={value}")));
    spec.user.iter().for_each(|user| words.option("--user", user));
    spec.workdir.iter().for_each(|folder| words.option("--workdir", folder));
    spec.stop_grace_s.iter().for_each(|grace| words.option("--stop-timeout", &grace.to_string()));
    words.flag("--tty", spec.tty);
    limits(&mut words, &spec.resources);
    security(&mut words, &spec.security);
    // The program takes one word as entry point; the others come before the command.
    let entrypoint = spec.entrypoint.as_deref();
    entrypoint
        .into_iter()
        .for_each(|all| words.option("--entrypoint", all.first().map_or("", String::as_str)));
    words.0.push(spec.image.to_string());
    words.0.extend(entrypoint.unwrap_or_default().iter().skip(1).cloned());
    words.0.extend(spec.command.iter().cloned());
    words.0
}

fn limits(words: &mut Words, resources: &Resources) {
    let cpus = resources.milli_cpus.map(|milli| format!("{}.{:03}", milli / 1000, milli % 1000));
    cpus.iter().for_each(|cpus| words.option("--cpus", cpus));
    resources.pids.iter().for_each(|pids| words.option("--pids-limit", &pids.to_string()));
    if let Some(bytes) = resources.memory_bytes {
        words.option("--memory", &bytes.to_string());
        words.option("--memory-swap", &bytes.to_string());
    }
}

fn security(words: &mut Words, security: &Security) {
    words.flag("--read-only", security.read_only_root);
    if security.no_new_privileges {
        words.option("--security-opt", "no-new-privileges");
    }
    if let Some(capabilities) = &security.capabilities {
        words.option("--cap-drop", "ALL");
        capabilities.iter().for_each(|capability| words.option("--cap-add", capability));
    }
}

/// Returns the words that list ids. What the program does not filter exactly is filtered afterwards.
pub(crate) fn list(filter: &ListFilter) -> Vec<String> {
    let mut words = Words::of(&["ps", "--all", "--quiet", "--no-trunc"]);
    filter.labels.keys().for_each(|key| words.option("--filter", &format!("label={key}")));
    words.0
}

/// Returns the words of `logs`.
pub(crate) fn logs(id: &ContainerId, options: &LogOptions) -> Vec<String> {
    let mut words = Words::of(&["logs"]);
    words.flag("--follow", options.follow);
    words.flag("--timestamps", options.timestamps);
    options.tail.iter().for_each(|lines| words.option("--tail", &lines.to_string()));
    // Some programs leave out what was written at `since`, some tell what was written at `until`.
    let before = |at: Option<Timestamp>| at.map(|at| Timestamp(at.0 - Duration::from_nanos(1)).to_string());
    before(options.since).iter().for_each(|since| words.option("--since", since));
    before(options.until).iter().for_each(|until| words.option("--until", until));
    words.0.push(id.to_string());
    words.0
}

struct Words(Vec<String>);

impl Words {
    fn of(words: &[&str]) -> Self {
        Self(words.iter().map(|&word| word.to_owned()).collect())
    }

    fn option(&mut self, name: &str, value: &str) {
        self.0.extend([name.to_owned(), value.to_owned()]);
    }

    fn flag(&mut self, name: &str, given: bool) {
        self.0.extend(given.then(|| name.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ContainerSpec {
        ContainerSpec::new("web".parse().expect("a name"), "alpine".parse().expect("an image"))
    }

    #[test]
    fn an_entry_point_of_several_words_comes_before_the_command() {
        let words = ["sh", "-c", "echo"].map(str::to_owned).to_vec();
        let spec = ContainerSpec { entrypoint: Some(words), command: vec!["-x".to_owned()], ..spec() };
        let made = create(&spec).join(" ");
        assert!(made.ends_with("--entrypoint sh alpine -c echo -x"), "{made}");
    }

    #[test]
    fn limits_and_security_are_handed_on() {
        let resources = Resources {
            milli_cpus: Some(1_500),
            memory_bytes: Some(64),
            pids: Some(7),
            ..Resources::default()
        };
        let security = Security { capabilities: Some(vec!["CHOWN".to_owned()]), ..Security::default() };
        let made = create(&ContainerSpec { resources, security, ..spec() }).join(" ");
        assert!(made.contains("--cpus 1.500 --pids-limit 7 --memory 64 --memory-swap 64"), "{made}");
        assert!(made.contains("--security-opt no-new-privileges --cap-drop ALL --cap-add CHOWN"), "{made}");
    }
}
