//! Services of an image: started, prepared, started again.

use std::net::TcpListener;

use crate::support::{Guest, free_port, lives, text, wait_for};

/// Starts a guest in an image with this description of its services, `HOME` and `PORT` filled in.
fn with(description: &str, port: u16) -> Guest {
    let description = description.replace("PORT", &port.to_string());
    Guest::start_in(&["sh", "-c", "echo $DISPLAY > $HOME/main; exec sleep 1000"], &[], |etc| {
        std::fs::create_dir(etc.join("gx")).unwrap();
        std::fs::write(etc.join("gx/services.toml"), &description).unwrap();
    })
}

fn read(guest: &Guest, name: &str) -> String {
    std::fs::read_to_string(guest.path("home").join(name)).unwrap_or_default()
}

#[test]
fn a_service_runs_after_its_port_and_again_when_it_ends() {
    let port = free_port();
    let description = r#"
        [env]
        DISPLAY = ":0"
        [[service]]
        name = "counter"
        command = ["sh", "-c", "echo $OWN $DISPLAY $USER >> $HOME/runs; exit 1"]
        env = { OWN = "yes" }
        [[service]]
        name = "later"
        command = ["sh", "-c", "echo $$ > $HOME/later; exec sleep 1000"]
        after_port = PORT
    "#;
    let guest = with(description, port);
    wait_for("it ran three times", || read(&guest, "runs").lines().count() >= 3);
    assert_eq!(read(&guest, "runs").lines().next(), Some("yes :0 me"));
    assert_eq!(read(&guest, "main"), ":0\n");
    assert_eq!(text(&guest.run("echo $DISPLAY", b"")), ":0\n");
    assert_eq!(read(&guest, "later"), "", "nobody listens yet");
    let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    wait_for("it runs once somebody listens", || lives(&read(&guest, "later")));
}

#[test]
fn a_new_desktop_password_prepares_and_restarts() {
    let description = r#"
        [[service]]
        name = "desktop"
        prepare = ["sh", "-c", "cat ../gx/vnc-password >> $HOME/prepared; echo >> $HOME/prepared"]
        command = ["sh", "-c", "echo $$ > $HOME/pid; exec sleep 1000"]
    "#;
    let guest = with(description, 1);
    wait_for("it runs", || lives(&read(&guest, "pid")));
    let first = read(&guest, "pid");
    assert_eq!(read(&guest, "prepared"), "12345678\n");
    // A new login password alone is nothing to it.
    assert!(guest.word(&["apply"], r#"{"password": "other"}"#).status.success());
    assert!(guest.word(&["apply"], r#"{"vnc_password": "87654321"}"#).status.success());
    wait_for("it was prepared anew", || read(&guest, "prepared") == "12345678\n87654321\n");
    wait_for("the first has ended", || !lives(&first));
    wait_for("another runs", || read(&guest, "pid") != first && lives(&read(&guest, "pid")));
}

#[test]
fn a_wrong_description_is_told_and_nothing_else_fails() {
    let guest = with("[[service]]\nnam = 1\n", 1);
    assert_eq!(text(&guest.run("echo in", b"")), "in\n");
}
