//! What changes while no server runs holds from the first moment of the next one; and a member's new key.

use super::{Talk, recruit};
use crate::support::{Host, Surroundings, root};

/// A host with the army's chat, of which the policy may be changed.
fn headquarters() -> (Surroundings, Host) {
    let here = Surroundings::new();
    let file = here.path("policy.toml");
    std::fs::copy(root().join("examples/chat/army.toml"), &file).expect("a file can be copied");
    let here = here.configured(&format!("[chat]\npolicy = {file:?}\n"));
    let host = here.serve();
    (here, host)
}

/// A member of the host, whose key is a user's.
fn member(here: &Surroundings, host: &Host, user: &str) -> (Surroundings, String) {
    let own = format!("{}@{}", host.node, host.address);
    let invited = here.json(&["--on", &own, "invite", "--address", &host.address]);
    let there = Surroundings::new().configured(&format!("[chat]\nserver = \"{own}\"\nuser = \"{user}\"\n"));
    there.ok(&["join", "--name", "hq", invited["ticket"].as_str().expect("there is a ticket")]);
    let node = there.json(&["id"])["node_id"].as_str().expect("it has an id").to_owned();
    here.ok(&["--on", &own, "chat", "user", "add", user, "--node", &node]);
    there.ok(&["chat", "groups"]);
    (there, node)
}

#[test]
fn who_is_removed_or_renamed_while_the_server_is_down_is_nobody_when_it_is_back() {
    let (here, mut host) = headquarters();
    let (removed, node) = member(&here, &host, "Navy1");
    let (stays, _) = member(&here, &host, "Navy3");
    let renamed = recruit(&host, "Navy2");
    let own = format!("{}@{}", host.node, host.address);
    host.kill();

    here.ok(&["allow", "remove", &node]);
    let policy = std::fs::read_to_string(here.path("policy.toml")).expect("it is there");
    let other = policy.replace("\"Navy{1..50}\"", "\"Navy1\", \"Sailor2\", \"Navy{3..50}\"");
    assert_ne!(other, policy);
    std::fs::write(here.path("policy.toml"), other).expect("a file can be written");
    let _host = here.serve_at(&host.address);

    // Neither the key of the one, nor the token and the password of the other; and the new name is nobody's yet.
    let refused = removed.gx(&["chat", "groups"]);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(refused.stderr.contains("gx chat user add"), "it says what lets it in: {refused:?}");
    for user in ["Navy2", "Sailor2"] {
        for proof in [&[][..], &["--password-file", "pw"]] {
            let refused = renamed.gx(&[&["chat", "groups", "--as", user], proof].concat());
            assert_eq!(refused.code, 5, "{user} by {proof:?}: {refused:?}");
        }
    }
    stays.ok(&["chat", "send", "still here"]);
    let users = here.json(&["--on", &own, "chat", "user", "list"]);
    let is_disabled = |user: &str| {
        let all = users["users"].as_array().expect("a list");
        all.iter().find(|one| one["user"] == user).map(|one| one["disabled"] == true)
    };
    assert_eq!([is_disabled("Navy1"), is_disabled("Navy3")], [Some(true), Some(false)], "{users}");
    assert_eq!([is_disabled("Navy2"), is_disabled("Sailor2")], [None, None], "{users}");
    here.ok(&["--on", &own, "chat", "user", "add", "Sailor2"]);
}

#[test]
fn a_members_new_key_has_its_account_and_the_old_one_is_told_what_lets_it_in() {
    let (here, host) = headquarters();
    let own = format!("{}@{}", host.node, host.address);
    let (soldier, old) = member(&here, &host, "Navy1");
    // Somebody has the old key, and is there by it.
    let thief = Surroundings::new().configured(&format!("[chat]\nserver = \"{own}\"\nuser = \"Navy1\"\n"));
    std::fs::create_dir_all(thief.data()).expect("folders can be made");
    std::fs::copy(soldier.data().join("node.key"), thief.data().join("node.key"))
        .expect("a key can be copied");
    let mut talk = Talk::begin(&thief);
    talk.sees("* -- navy --");

    let rotated = soldier.json(&["id", "rotate"]);
    assert_eq!(rotated["told"][0], "hq", "{rotated}");
    assert_eq!(talk.fails(), 5, "the connection by the old key has ended");
    soldier.ok(&["chat", "send", "by the new key"]);
    let refused = thief.gx(&["chat", "groups"]);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(
        refused.stderr.contains("a new one") && refused.stderr.contains("gx chat user add"),
        "{refused:?}"
    );
    let users = here.json(&["--on", &own, "chat", "user", "list"]);
    assert!(
        users["users"][0]["node"] == soldier.json(&["id"])["node_id"] && !users.to_string().contains(&old)
    );

    // Of who is no member nobody is told the new key: the owner names it.
    let stranger = Surroundings::new().configured(&format!("[chat]\nserver = \"{own}\"\nuser = \"Navy2\"\n"));
    let id = |there: &Surroundings| there.json(&["id"])["node_id"].as_str().expect("it has an id").to_owned();
    here.ok(&["--on", &own, "chat", "user", "add", "Navy2", "--node", &id(&stranger)]);
    stranger.ok(&["chat", "groups"]);
    stranger.ok(&["id", "rotate"]);
    assert_eq!(stranger.gx(&["chat", "groups"]).code, 5);
    here.ok(&["--on", &own, "chat", "user", "add", "Navy2", "--node", &id(&stranger)]);
    stranger.ok(&["chat", "groups"]);
}
