//! Who gets in, and how fast one may guess.

use std::time::{Duration, Instant};

use crate::support::{Guest, PASSWORD, own_uid, text};

#[test]
fn the_key_and_the_password_open_and_nothing_else() {
    let guest = Guest::start(&["sleep", "1000"]);
    assert_eq!(text(&guest.run("echo by key", b"")), "by key\n");
    let right = guest.by_password("me", PASSWORD, &["id", "-u"]).output().expect("sshpass runs: install it");
    assert_eq!(text(&right).trim(), own_uid().to_string(), "{right:?}");
    assert_eq!(guest.by_password("me", "wrong", &["true"]).output().unwrap().status.code(), Some(255));
    assert_eq!(guest.by_password("me", "", &["true"]).output().unwrap().status.code(), Some(255));
    let stranger = guest.path("stranger");
    let mut keygen = std::process::Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&stranger);
    assert!(keygen.status().unwrap().success());
    std::fs::copy(&stranger, guest.path("key")).unwrap();
    std::fs::copy(stranger.with_extension("pub"), guest.path("key.pub")).unwrap();
    let refused = guest.ssh(&["-o", "BatchMode=yes"], &["true"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(255), "{refused:?}");
}

#[test]
fn nobody_unknown_gets_in_with_the_right_password() {
    let guest = Guest::start(&["sleep", "1000"]);
    for user in ["mallory", "4322", "4321", "me ", "root:0"] {
        let output = guest.by_password(user, PASSWORD, &["true"]).output().unwrap();
        assert_ne!(output.status.code(), Some(0), "{user}");
    }
}

#[test]
fn another_user_of_the_image_is_another_user() {
    let guest = Guest::start(&["sleep", "1000"]);
    let output =
        guest.by_password("ada", PASSWORD, &["id", "-u;", "id", "-G;", "echo", "$HOME"]).output().unwrap();
    if own_uid() == 0 {
        assert_eq!(text(&output), "4321\n4321\n/\n", "{output:?}");
    } else {
        // Who is not root cannot become another, and does not run it as himself.
        assert_eq!((output.status.code(), text(&output).as_str()), (Some(126), ""), "{output:?}");
    }
}

#[test]
fn wrong_passwords_wait_longer_and_longer_also_side_by_side() {
    let guest = Guest::start(&["sleep", "1000"]);
    let start = Instant::now();
    let guesses: Vec<_> =
        (0..6).map(|_| guest.by_password("me", "wrong", &["true"]).spawn().unwrap()).collect();
    for mut guess in guesses {
        assert_eq!(guess.wait().unwrap().code(), Some(255));
    }
    // Three are free, then 1, 2 and 4 seconds.
    assert!(start.elapsed() > Duration::from_secs(6), "{:?}", start.elapsed());
    // A key does not wait in that line.
    assert_eq!(text(&guest.run("echo by key", b"")), "by key\n");
}

#[test]
fn new_credentials_hold_at_once_and_after_a_restart() {
    let guest = Guest::start(&["sleep", "1000"]);
    let applied = guest.word(&["apply"], r#"{"password": "another one", "vnc_password": "87654321"}"#);
    assert!(applied.status.success(), "{applied:?}");
    let try_both = |guest: &Guest| {
        assert_eq!(guest.by_password("me", PASSWORD, &["true"]).output().unwrap().status.code(), Some(255));
        assert_eq!(text(&guest.by_password("me", "another one", &["echo", "in"]).output().unwrap()), "in\n");
        assert_eq!(text(&guest.run("echo the key stays", b"")), "the key stays\n");
        assert_eq!(std::fs::read_to_string(guest.file("vnc-password")).unwrap(), "87654321");
    };
    try_both(&guest);
    try_both(&guest.again(&["sleep", "1000"]));
}

#[test]
fn nonsense_is_not_applied() {
    let guest = Guest::start(&["sleep", "1000"]);
    for nonsense in ["", "{", r#"{"password": 7}"#] {
        let output = guest.word(&["apply"], nonsense);
        assert_eq!(output.status.code(), Some(2), "{nonsense:?}");
    }
    assert_eq!(text(&guest.by_password("me", PASSWORD, &["echo", "in"]).output().unwrap()), "in\n");
}
