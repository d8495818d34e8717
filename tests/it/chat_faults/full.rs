//! A disk that is full: a real one of the chat's own. It is said, nothing is acknowledged that is not stored, what is there
//! can be read, and it goes on by itself when there is room again.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use gx_chat::frames::{ClientFrame, NackCode, ServerFrame};
use gx_client::ChatSocket;
use gx_core::api::ChatUserRequest;
use gx_core::secret::Secret;

use super::{accounts, check, history, next, sign_in, surroundings};
use crate::disk::Disk;
use crate::support::{Host, Surroundings, eventually};

/// As large as ext4 with a journal makes sense.
const DISK_BYTES: u64 = 16 << 20;
/// Messages before the disk is filled.
const WITH_ROOM: u64 = 10;
/// Messages at most until there is no room for one: the log of the database may have room that it has had before.
const MOST: u64 = 4_000;
/// Messages that are refused after that.
const REFUSED: u64 = 30;
const PASSWORD: &str = "correct horse battery";

/// Takes all the room there is.
fn fill(file: &Path) {
    let mut filler = std::fs::File::create(file).expect("a file can be made");
    let mut block = vec![0x5a; 1 << 20];
    while !block.is_empty() {
        let written = filler.write_all(&block).and_then(|()| filler.sync_all());
        if written.is_err() {
            block.truncate(block.len() / 2);
        }
    }
}

/// Sends a message, and returns what it is answered.
async fn say(socket: &mut ChatSocket, number: u64) -> ServerFrame {
    let cid = format!("1-{number}");
    let text = format!("message {number} of 1 {}", "x".repeat(2_000));
    let frame = ClientFrame::Send { cid, g: "g".to_owned(), text };
    socket.send(vec![frame.to_text()]).await.expect("the server is there");
    loop {
        let frame = next(socket).await.expect("the connection lasts");
        if matches!(frame, ServerFrame::Ack { .. } | ServerFrame::Nack { .. }) {
            return frame;
        }
    }
}

fn told(log: &str, what: &str) -> usize {
    log.lines().filter(|line| line.contains(what)).count()
}

/// A machine that talks as User2, with a password.
fn talker(host: &Host) -> Surroundings {
    let on = format!("{}@{}", host.node, host.address);
    let there = Surroundings::new().configured(&format!("[chat]\nserver = \"{on}\"\nuser = \"User2\"\n"));
    std::fs::write(there.path("pw"), format!("{PASSWORD}\n")).expect("a file can be written");
    there
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_that_is_full_nothing_acknowledged_is_lost_and_it_goes_on_when_there_is_room() {
    let there = surroundings(&[]);
    let folder = there.data().join("chat");
    std::fs::create_dir_all(&folder).expect("folders can be made");
    let _disk = Disk::new("ext4", DISK_BYTES, &there.path("disk"), &folder);
    let host = there.serve();
    let owner = host.client();
    accounts(&owner, owner.node(), [1, 3]).await;
    let password = ChatUserRequest { password: Some(Secret::new(PASSWORD)), ..ChatUserRequest::default() };
    owner.put_chat_user("User2", password).await.expect("an account is made");
    let (mut writer, _) = sign_in(&owner, 1, "writer").await.expect("the server is there");
    let filler = folder.join("filler");

    // What fits is stored; then it is refused, and why is said.
    let (mut acked, mut number) = (HashMap::new(), 0);
    let refused = loop {
        match say(&mut writer, number).await {
            ServerFrame::Ack { cid, seq, ts, .. } => drop(acked.insert(cid.to_string(), (seq.get(), ts))),
            other => break other,
        }
        number += 1;
        if number == WITH_ROOM {
            fill(&filler);
        }
        assert!(number < MOST, "there always is room");
    };
    let ServerFrame::Nack { code, retry_ms: Some(_), msg, .. } = &refused else { panic!("{refused:?}") };
    assert!(*code == NackCode::Unavailable && msg.contains("no room"), "{refused:?}");
    for _ in 0..REFUSED {
        let again = say(&mut writer, number).await;
        assert!(matches!(&again, ServerFrame::Nack { code: NackCode::Unavailable, .. }), "{again:?}");
    }
    let log = || std::fs::read_to_string(there.path("serve.log")).unwrap_or_default();
    eventually("it is in the log", || (told(&log(), "the chat cannot store") > 0).then_some(()));
    assert_eq!(told(&log(), "the chat cannot store"), 1, "{}", log());

    // Who comes now gets in, also with a password, for which there is no room to keep a token; and reads all there is.
    let (mut reader, last) = sign_in(&owner, 3, "reader").await.expect("the server is there");
    assert_eq!((history(&mut reader).await.len() as u64, last.get()), (number, number));
    let here = talker(&host);
    let with_password = ["--password-file", "pw"];
    let read = here.ok(&[&["chat", "history", "--limit", "5"], &with_password[..]].concat());
    assert!(read.contains(&format!("message {} of 1", number - 1)), "{read}");
    let found = here.gx(&[&["chat", "search", "message"], &with_password[..]].concat());
    assert!(found.code == 1 && found.stderr.contains("no room left to look it up"), "{found:?}");
    let sent = here.gx(&[&["chat", "send", "late"], &with_password[..]].concat());
    assert!(sent.code == 1 && sent.stderr.contains("no room"), "{sent:?}");
    assert!(sent.stderr.contains("the line is kept"), "{sent:?}");

    // There is room again: nothing is started anew, and on the same connection the same message is stored, once.
    std::fs::remove_file(&filler).expect("it was there");
    let stored = say(&mut writer, number).await;
    let ServerFrame::Ack { cid, seq, ts, dup: false, .. } = stored else { panic!("{stored:?}") };
    acked.insert(cid.to_string(), (seq.get(), ts));
    eventually("that is in the log", || (told(&log(), "the chat stores again") == 1).then_some(()));
    let all = history(&mut reader).await;
    assert_eq!(all.len(), acked.len());
    check(&all, &acked);
    here.ok(&[&["chat", "send", "more"], &with_password[..]].concat());
    let found = here.ok(&[&["chat", "search", "late"], &with_password[..]].concat());
    assert!(found.contains("User2: late"), "{found}");
    let read = here.ok(&[&["chat", "history", "--limit", "2"], &with_password[..]].concat());
    assert!(read.contains("User2: late\n") && read.ends_with("User2: more\n"), "{read}");
    assert_eq!(told(&log(), "the chat cannot store"), 1, "{}", log());
}
