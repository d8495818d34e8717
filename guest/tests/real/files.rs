//! Files by `scp` and `sftp`.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{Guest, text};

#[test]
fn a_folder_goes_in_and_comes_out() {
    let guest = Guest::start(&["sleep", "1000"]);
    let there = guest.path("there");
    let here = guest.path("here");
    std::fs::create_dir_all(here.join("sub")).unwrap();
    let big: Vec<u8> =
        (0..5_000_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(here.join("big"), &big).unwrap();
    std::fs::write(here.join("sub/with space ü"), "small").unwrap();
    std::fs::write(here.join("empty"), "").unwrap();
    let copy = |from: &str, to: &str| {
        let output = Command::new("scp").args(guest.options()).args(["-r", "-p", from, to]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    copy(&here.display().to_string(), &format!("me@127.0.0.1:{}", there.display()));
    assert_eq!(std::fs::read_to_string(there.join("sub/with space ü")).unwrap(), "small");
    let back = guest.path("back");
    copy(&format!("me@127.0.0.1:{}", there.display()), &back.display().to_string());
    assert!(std::fs::read(back.join("big")).unwrap() == big);
    assert_eq!(std::fs::read(back.join("empty")).unwrap(), b"");
    let changed = |path: &std::path::Path| std::fs::metadata(path).unwrap().modified().unwrap();
    let seconds =
        |path: &std::path::Path| changed(path).duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(seconds(&back.join("big")), seconds(&here.join("big")));
}

/// Runs commands of `sftp`; the first that fails ends it.
fn batch(guest: &Guest, commands: &str) -> std::process::Output {
    let mut sftp = Command::new("sftp");
    sftp.args(guest.options()).args(["-b", "-", "me@127.0.0.1"]);
    let mut sftp = sftp.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    sftp.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    sftp.wait_with_output().unwrap()
}

#[test]
fn sftp_starts_at_home_and_does_what_it_is_told() {
    let guest = Guest::start(&["sleep", "1000"]);
    let home = guest.path("home");
    std::fs::write(guest.path("local"), "content").unwrap();
    let put = format!("put {} one\n", guest.path("local").display());
    let commands = "mkdir sub\nrename one sub/two\nchmod 640 sub/two\nsymlink sub/two link\nln sub/two hard\n\
                    ls -l sub\npwd\ndf\nget link ";
    let output = batch(&guest, &format!("{put}{commands}{}\n", guest.path("fetched").display()));
    assert!(output.status.success(), "{output:?}");
    let said = text(&output);
    assert!(said.contains("-rw-r-----") && said.contains(&home.display().to_string()), "{said}");
    assert_eq!(std::fs::read_to_string(guest.path("fetched")).unwrap(), "content");
    assert_eq!(std::fs::read_link(home.join("link")).unwrap(), std::path::Path::new("sub/two"));
    let output = batch(&guest, "rm link\nrm hard\nrm sub/two\nrmdir sub\n");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_done_is_told() {
    let guest = Guest::start(&["sleep", "1000"]);
    for (commands, told) in [
        ("get nothing\n", "not found"),
        ("rmdir nothing\n", "No such file"),
        ("mkdir a\nput /etc/passwd a/x\nrmdir a\n", "Failure"),
    ] {
        let output = batch(&guest, commands);
        assert!(!output.status.success());
        let said = format!("{}{}", text(&output), String::from_utf8_lossy(&output.stderr));
        assert!(said.to_lowercase().contains(&told.to_lowercase()), "{commands}: {said}");
    }
}

#[test]
fn many_files_are_listed() {
    let guest = Guest::start(&["sleep", "1000"]);
    for number in 0..1500 {
        std::fs::write(guest.path("home").join(format!("file-{number}")), "").unwrap();
    }
    let output = batch(&guest, "ls -1\n");
    assert_eq!(text(&output).lines().filter(|line| line.contains("file-")).count(), 1500);
}
