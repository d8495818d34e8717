//! What the containers of the suite run.
//!
//! All of it is busybox: `sh`, `echo`, `true`, `sleep` with fractions, `cat`, `yes`, `head`, `wc`, `pwd`, `id`,
//! `stty`, `nc`, and `tail`, `ps` where the runtime has real processes. The scripts keep to `;`, `&`, `|`, `>`, quotes and
//! `$NAME`, which the mock plays too.

/// Longer than any case takes.
const FOR_EVER: &str = "sleep 3600";

/// Returns a command that runs this script.
pub(crate) fn sh(script: impl Into<String>) -> Vec<String> {
    vec!["sh".into(), "-c".into(), script.into()]
}

/// Returns a command with these words.
pub(crate) fn argv(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Returns a command that runs until it is killed: the first process of a container is not ended by signals it
/// has no handler for (pid_namespaces(7)).
pub(crate) fn stubborn() -> Vec<String> {
    sh(FOR_EVER)
}

/// Returns a command that says `ready` and then ends with `code` on this signal.
pub(crate) fn graceful(signal: &str, code: i32) -> Vec<String> {
    sh(format!("trap 'exit {code}' {signal}; echo ready; {FOR_EVER} & wait"))
}

/// Returns a command that writes lines, then waits for SIGTERM, and then writes others.
pub(crate) fn says_at_the_end(first: &str, last: &str) -> Vec<String> {
    let lines = |words: &str| words.split(' ').map(|word| format!("echo {word}; ")).collect::<String>();
    sh(format!("trap '{}exit' TERM; {}{FOR_EVER} & wait", lines(last), lines(first)))
}

/// Returns a command that writes so many bytes, [`flood_line`] over and over.
pub(crate) fn flood(bytes: u64) -> Vec<String> {
    sh(format!("yes {} | head -c {bytes}", flood_line().trim_end()))
}

/// Returns the line of a flood: 1000 bytes, as long lines keep an engine from being busy with the lines alone.
pub(crate) fn flood_line() -> String {
    let letters = "0123456789abcdefghijklmnopqrstuvwxyz-".chars().cycle();
    letters.take(999).chain(['\n']).collect()
}

/// Returns a command that answers every connection to this port with a text.
pub(crate) fn serve(port: u16, text: &str) -> Vec<String> {
    sh(format!("echo ready; nc -ll -p {port} -e echo {text}"))
}

/// Returns a command that takes memory until there is no more.
pub(crate) fn hungry() -> Vec<String> {
    argv(&["tail", "/dev/zero"])
}
