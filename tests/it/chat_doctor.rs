//! `gx chat doctor`, on the machine that serves a chat and on one that talks in it: what it looks at, and that every fault
//! comes with its fix.

use serde_json::Value;

use crate::chat::{headquarters, recruit};
use crate::doctor::examined_by;
use crate::support::{Surroundings, eventually, signal};

/// Returns what was found of each, and the exit code.
fn examined(here: &Surroundings, args: &[&str]) -> (Vec<Value>, i32) {
    examined_by(here, &[&["chat", "doctor"], args].concat())
}

#[track_caller]
fn found(checks: &[Value], name: &str, verdict: &str, told: &str) {
    let check = checks.iter().find(|check| check["name"] == name);
    let check = check.unwrap_or_else(|| panic!("{name} is not checked: {checks:?}"));
    assert_eq!(check["verdict"], verdict, "{check}");
    assert!(check["message"].to_string().contains(told), "{check}");
}

#[test]
fn a_chat_that_works_is_found_to_work_and_nothing_is_said_in_it() {
    let (here, host) = headquarters();
    let soldier = recruit(&host, "Navy1");
    for text in ["one", "two", "three"] {
        soldier.ok(&["chat", "send", text]);
    }
    let (checks, code) = examined(&soldier, &[]);
    for (name, told) in [
        ("configuration", "config.toml"),
        ("disk", "free at"),
        ("server", "by `server` in [chat]"),
        ("account", "Navy1 gets in by token"),
        ("clocks", "off this one"),
        ("outbox", "nothing waits"),
        ("connection", "3 messages of n follow one another, none lost and none twice"),
    ] {
        found(&checks, name, "ok", told);
    }
    assert_eq!((code, checks.len()), (0, 7), "{checks:?}");
    assert_eq!(soldier.ok(&["chat", "history"]).lines().count(), 3);

    // Where it is served, what it stands on is looked at while it is: `gx serve` has it open.
    here.configure(&format!(
        "[server]\nlisten = \"{}\"\n[chat]\npolicy = {:?}\n",
        host.address,
        crate::support::root().join("examples/chat/army.toml")
    ));
    let (checks, code) = examined(&here, &[]);
    found(&checks, "policy", "ok", "154 users, 4 groups");
    found(&checks, "messages", "ok", "3 in 1 groups, each as it was stored");
    found(&checks, "server", "ok", "as this machine has a policy");
    found(&checks, "accounts", "ok", "1 users have one");
    assert_eq!((code, checks.iter().any(|check| check["name"] == "account")), (0, false), "{checks:?}");
}

#[test]
fn every_fault_of_a_chat_comes_with_its_fix() {
    let (here, mut host) = headquarters();
    let soldier = recruit(&host, "Navy1");
    soldier.ok(&["chat", "send", "fuel report"]);
    // Nobody is asked, and the wrong user or password is told.
    let (checks, code) = examined(&soldier, &["--as", "Navy2"]);
    found(&checks, "account", "fail", "nothing here proves Navy2");
    assert_eq!(code, 1);
    std::fs::write(soldier.path("wrong"), "not the password\n").expect("a file can be written");
    let (checks, code) = examined(&soldier, &["--as", "Navy3", "--password-file", "wrong"]);
    found(&checks, "account", "fail", "does not let Navy3 in");
    assert_eq!(code, 1);

    // A server that is gone, and what it left: a message that somebody changed, and a policy that is none.
    signal(host.pid(), "TERM");
    eventually("all is in the database", || (!here.data().join("chat/chat.db-wal").exists()).then_some(()));
    host.kill();
    let (checks, code) = examined(&soldier, &[]);
    found(&checks, "server", "fail", "");
    assert_eq!(code, 1);
    let file = here.data().join("chat/chat.db");
    let mut bytes = std::fs::read(&file).expect("it is there");
    let at = bytes.windows(11).position(|text| text == b"fuel report").expect("the message is in it");
    bytes[at..at + 4].copy_from_slice(b"food");
    std::fs::write(&file, bytes).expect("a file can be written");
    let policy = here.path("policy.toml");
    std::fs::write(&policy, "[[group]]\nid = \"h\"\nwhat = 1\n").expect("a file can be written");
    here.configure(&format!("[server]\nlisten = \"{}\"\n[chat]\npolicy = {policy:?}\n", host.address));
    let (checks, code) = examined(&here, &[]);
    found(&checks, "policy", "fail", "policy.toml:3");
    found(&checks, "messages", "fail", "message 1 of n is not what was stored");
    found(&checks, "server", "fail", "");
    let hints = checks.iter().find(|check| check["name"] == "server").expect("it was just found")["hints"]
        .to_string();
    assert!(hints.contains("`gx serve` serves it"), "{hints}");
    assert_eq!(code, 1);
    let (checks, code) = examined(&Surroundings::new(), &["--as", "Navy1"]);
    found(&checks, "server", "fail", "no server of the chat is known");
    assert_eq!(code, 1);
}
