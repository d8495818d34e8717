//! Crowds, silence and garbage.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::{Guest, text, wait_for};

fn connect(guest: &Guest) -> TcpStream {
    TcpStream::connect(("127.0.0.1", guest.port)).unwrap()
}

#[test]
fn a_thousand_who_say_nothing_keep_nobody_out() {
    let guest = Guest::start(&["sleep", "1000"]);
    let _silent: Vec<TcpStream> = (0..1100).map(|_| connect(&guest)).collect();
    assert_eq!(text(&guest.run("echo in", b"")), "in\n");
}

#[test]
fn many_log_in_at_once() {
    let guest = Guest::start(&["sleep", "1000"]);
    let visitors: Vec<_> = (0..60).map(|_| guest.ssh(&[], &["cat; echo in"]).spawn().unwrap()).collect();
    for visitor in visitors {
        let output = visitor.wait_with_output().unwrap();
        assert_eq!(text(&output), "in\n", "{output:?}");
    }
}

#[test]
fn who_does_not_log_in_is_cut_off() {
    let guest = Guest::start_with(&["sleep", "1000"], &[("GX_GUEST_GRACE_MS", "500")]);
    let mut silent = connect(&guest);
    let mut said = Vec::new();
    // Ends, or this test does not.
    let _ = silent.read_to_end(&mut said);
    assert!(said.starts_with(b"SSH-2.0-gx"), "{said:?}");
    let mut talker = connect(&guest);
    talker.write_all(b"SSH-2.0-test\r\n").unwrap();
    let _ = talker.read_to_end(&mut said);
    // Who is logged in is not.
    let output = guest.run("cat; echo still in; sleep 1; echo yes", b"");
    assert_eq!(text(&output), "still in\nyes\n", "{output:?}");
}

#[test]
fn garbage_ends_a_connection_and_nothing_else() {
    let guest = Guest::start(&["sleep", "1000"]);
    let garbage: Vec<u8> =
        (0..100_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for start in [&b""[..], b"SSH-2.0-test\r\n", b"SSH-1.5-old\r\n", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = connect(&guest);
        let _ = stream.write_all(start);
        let _ = stream.write_all(&garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    wait_for("others get in", || text(&guest.run("echo in", b"")) == "in\n");
}
