//! The chat through the program: the army's day byte for byte, scripts, and what a terminal shows.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::support::{Host, Surroundings, eventually, free_port, root, run, signal, unique};

mod away;
mod typing;

/// A host with the army's chat.
pub(crate) fn headquarters() -> (Surroundings, Host) {
    let policy = root().join("examples/chat/army.toml");
    let here = Surroundings::new().configured(&format!("[chat]\npolicy = {policy:?}\n"));
    let host = here.serve();
    (here, host)
}

/// Gives a user an account, and a machine on which they have signed in once.
pub(crate) fn recruit(host: &Host, name: &str) -> Surroundings {
    let there = Surroundings::new();
    host.is_owned_from(&there);
    std::fs::write(there.path("pw"), "correct horse battery\n").expect("a file can be written");
    let on = format!("{}@{}", host.node, host.address);
    there.ok(&["--on", &on, "chat", "user", "add", name, "--password-file", "pw"]);
    // From here on the machine has a key of its own.
    std::fs::remove_file(there.data().join("node.key")).expect("it was there");
    let there = there.configured(&format!("[chat]\nserver = \"{on}\"\nuser = \"{name}\"\n"));
    there.ok(&["chat", "groups", "--password-file", "pw"]);
    there
}

/// `gx chat` with its input and output in pipes.
struct Talk {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    transcript: String,
}

impl Talk {
    fn begin(there: &Surroundings) -> Self {
        Self::of(there.command(&["chat"]))
    }

    fn of(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("gx starts");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { stdin: child.stdin.take(), child, lines, transcript: String::new() }
    }

    fn types(&mut self, line: &str) {
        self.types_bytes(format!("{line}\n").as_bytes());
    }

    fn types_bytes(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().expect("it is open").write_all(bytes).expect("gx reads");
    }

    /// Waits for a line.
    #[track_caller]
    fn sees(&mut self, expected: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("no {expected:?} after:\n{}", self.transcript));
            self.transcript.push_str(&format!("{line}\n"));
            if line == expected {
                return;
            }
        }
    }

    /// Waits for a line with this in it.
    #[track_caller]
    fn sees_part(&mut self, part: &str) {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(60));
            let line = line.unwrap_or_else(|_| panic!("no {part:?} after:\n{}", self.transcript));
            self.transcript.push_str(&format!("{line}\n"));
            if line.contains(part) {
                return;
            }
        }
    }

    /// Waits for the end, and returns all that was shown.
    #[track_caller]
    fn ends(mut self) -> String {
        self.stdin = None;
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(60)) {
            self.transcript.push_str(&format!("{line}\n"));
        }
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}:\n{}", self.transcript);
        std::mem::take(&mut self.transcript)
    }
}

impl Talk {
    /// Waits for an end that is none in good order, and returns its exit code.
    #[track_caller]
    fn fails(mut self) -> i32 {
        while self.lines.recv_timeout(Duration::from_secs(60)).is_ok() {}
        self.child.wait().expect("it ends").code().expect("it ends by itself")
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_day_of_the_army_byte_for_byte() {
    let (_here, host) = headquarters();
    let names = ["ChiefCommander", "NavyMarshal", "Navy7", "Army3"];
    let [chief_at, marshal_at, navy_at, army_at] = names.map(|name| recruit(&host, name));
    let mut chief = Talk::begin(&chief_at);
    let mut marshal = Talk::begin(&marshal_at);
    let mut navy = Talk::begin(&navy_at);
    let mut army = Talk::begin(&army_at);
    chief.sees("* -- heads --");
    marshal.sees("* -- heads --");
    navy.sees("* -- navy --");
    army.sees("* -- army --");

    army.types("text");
    army.sees("Army3 (me): text");
    navy.types("ahoy");
    navy.sees("Navy7 (me): ahoy");
    marshal.types(":groups");
    marshal.sees("* navy   read and write, 1 unread");
    marshal.types(":t");
    marshal.sees("Navy7: ahoy");
    marshal.types("all well?");
    marshal.sees("NavyMarshal (me): all well?");
    navy.sees("NavyMarshal: all well?");

    chief.types(":N");
    chief.sees("NavyMarshal: all well?");
    chief.types("report");
    chief.sees("* navy is only read: the line goes to heads");
    marshal.types(":T");
    marshal.sees("ChiefCommander: report");
    chief.types(":h");
    chief.sees("ChiefCommander (me): report");

    // What is not for somebody is an error here, and is not sent.
    navy.types(":h");
    navy.types(":t");
    navy.types("::)");
    navy.sees("Navy7 (me): :)");

    // Who goes and comes back has missed nothing.
    army.types("logmeout");
    let army_saw = army.ends();
    let other_at = recruit(&host, "Army4");
    let mut other = Talk::begin(&other_at);
    other.types("are you there?");
    other.sees("Army4 (me): are you there?");
    other.types("logmeout");
    other.ends();
    let mut army = Talk::begin(&army_at);
    army.sees("Army4: are you there?");
    army.types(":d week.txt");
    army.sees("* 2 lines saved as week.txt");

    for talk in [&mut chief, &mut marshal, &mut navy, &mut army] {
        talk.types("logmeout");
    }
    assert_eq!(army_saw, "* -- army --\nArmy3 (me): text\n");
    assert_eq!(
        army.ends(),
        "* -- army --\nArmy3 (me): text\nArmy4: are you there?\n* 2 lines saved as week.txt\n"
    );
    assert_eq!(
        chief.ends(),
        "* -- heads --\n* -- navy --\nNavy7: ahoy\nNavyMarshal: all well?\n* navy is only read: the line goes to heads\n* -- heads \
         --\nChiefCommander (me): report\n"
    );
    assert_eq!(
        marshal.ends(),
        "* -- heads --\n* heads  read and write\n* navy   read and write, 1 unread\n* -- navy --\nNavy7: ahoy\nNavyMarshal \
         (me): all well?\n* -- heads --\nChiefCommander: report\n"
    );
    assert_eq!(
        navy.ends(),
        "* -- navy --\nNavy7 (me): ahoy\nNavyMarshal: all well?\n! `:h` is no command here; :help lists what there is, :: \
         sends a colon\n! `:t` is no command here; :help lists what there is, :: sends a colon\nNavy7 (me): :)\n"
    );
    let week = std::fs::read_to_string(army_at.path("week.txt")).expect("it was saved");
    let texts: Vec<&str> =
        week.lines().map(|line| line.split_once(']').expect("a time comes first").1).collect();
    assert_eq!(texts, ["Army3:text", "Army4:are you there?"]);
    let stamp = week.split(']').next().expect("there is a line");
    assert!(stamp.len() == 20 && stamp.starts_with("[20") && stamp.as_bytes()[11] == b' ', "{stamp}");
}

#[test]
fn scripts_send_read_search_export_and_verify() {
    let (here, host) = headquarters();
    let marshal = recruit(&host, "NavyMarshal");
    let soldier = recruit(&host, "Navy1");
    let sent = marshal.json(&["chat", "send", "--group", "navy", "the harbour is \u{1b}[31mred\u{202e}"]);
    assert_eq!((sent["seq"].as_u64(), sent["group"].as_str()), (Some(1), Some("n")));
    soldier.ok(&["chat", "send", "fuel report"]);
    let history = soldier.ok(&["chat", "history"]);
    assert!(history.contains("NavyMarshal: the harbour is [31mred⟨U+202E⟩\n"), "{history:?}");
    let found = soldier.json(&["chat", "search", "fuel"]);
    assert_eq!(found["text"], "fuel report");

    let text = soldier.ok(&["chat", "export"]);
    assert!(text.ends_with("]Navy1:fuel report\n") && text.lines().count() == 2, "{text}");
    soldier.ok(&["chat", "export", "--format", "jsonl", "--out", "week.jsonl"]);
    let good = soldier.json(&["chat", "verify", "week.jsonl"]);
    assert_eq!(good["groups"][0]["messages"], 2);
    let changed =
        std::fs::read_to_string(soldier.path("week.jsonl")).expect("it is there").replace("fuel", "food");
    std::fs::write(soldier.path("changed.jsonl"), changed).expect("a file can be written");
    let refused = soldier.gx(&["chat", "verify", "changed.jsonl"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("changed.jsonl:2: message 2 of n is not what was stored"),
        "{}",
        refused.stderr
    );

    // No entitlement, no trace.
    let strange = soldier.gx(&["chat", "history", "--group", "h"]);
    assert_eq!(strange.code, 1);
    assert!(strange.stderr.contains("you have no group h"), "{}", strange.stderr);
    let groups = soldier.json(&["chat", "groups"]);
    assert_eq!(groups["groups"].as_array().map(Vec::len), Some(1));

    // Who is disabled is nobody; and the chat ends while the server goes on.
    let own = format!("{}@{}", host.node, host.address);
    here.ok(&["--on", &own, "chat", "user", "disable", "Navy1"]);
    let out = soldier.gx(&["chat", "send", "still here?", "--password-file", "pw"]);
    assert_eq!(out.code, 5, "{}", out.stderr);
    here.ok(&["--on", &own, "chat", "stop"]);
    assert_ne!(marshal.gx(&["chat", "groups"]).code, 0);
    here.ok(&["--on", &own, "specs"]);
}

#[test]
fn a_line_for_a_server_that_is_gone_is_kept_and_goes_later() {
    let (here, mut host) = headquarters();
    let soldier = recruit(&host, "Navy1");
    let address = host.address.clone();
    let mut talk = Talk::begin(&soldier);
    talk.sees("* -- navy --");
    host.kill();
    talk.sees("* the connection is gone; trying again");
    talk.types("kept");
    talk.sees("* not connected: 1 line waits to be sent");
    let _again = here.serve_at(&address);
    talk.sees("Navy1 (me): kept");
    talk.types("logmeout");
    let saw = talk.ends();
    assert_eq!(saw.matches("Navy1 (me): kept").count(), 1, "{saw}");
}

#[test]
fn who_is_known_by_a_key_starts_without_the_server_and_what_is_sent_then_goes_later() {
    let (here, mut host) = headquarters();
    let own = format!("{}@{}", host.node, host.address);
    let [marshal, fresh] = [(); 2].map(|()| {
        let there =
            Surroundings::new().configured(&format!("[chat]\nserver = \"{own}\"\nuser = \"NavyMarshal\"\n"));
        let invited = here.json(&["--on", &own, "invite", "--address", &host.address]);
        there.ok(&["join", invited["ticket"].as_str().expect("there is a ticket")]);
        there
    });
    let node = marshal.json(&["id"])["node_id"].as_str().expect("it has an id").to_owned();
    here.ok(&["--on", &own, "chat", "user", "add", "NavyMarshal", "--node", &node]);
    let mut talk = Talk::begin(&marshal);
    talk.sees("* -- heads --");
    talk.types("one");
    talk.sees("NavyMarshal (me): one");
    talk.types("logmeout");
    talk.ends();
    let address = host.address.clone();
    host.kill();

    let sent = marshal.gx(&["chat", "send", "--group", "n", "two"]);
    assert_eq!(sent.code, 3, "{sent:?}");
    assert!(sent.stderr.contains("the line is kept, and goes with the next"), "{sent:?}");
    let elsewhere = marshal.gx(&["chat", "send", "--group", "r", "never"]);
    assert_eq!(elsewhere.code, 1, "{elsewhere:?}");
    let lost = fresh.gx(&["chat", "send", "nobody keeps it"]);
    assert_eq!(lost.code, 3, "{lost:?}");
    assert!(lost.stderr.contains("the line is not kept"), "{lost:?}");
    let nowhere = format!("127.0.0.1:{}", free_port());
    let lost = fresh.gx(&["--on", &nowhere, "chat", "send", "nobody keeps it"]);
    assert!(lost.code == 3 && lost.stderr.contains("the line is not kept"), "{lost:?}");

    let mut talk = Talk::begin(&marshal);
    talk.sees("NavyMarshal (me): one");
    talk.types("three");
    talk.sees("* not connected: 2 lines wait to be sent");
    let mut host = here.serve_at(&address);
    talk.sees("NavyMarshal (me): three");
    talk.types("logmeout");
    talk.ends();
    host.kill();
    assert_eq!(marshal.gx(&["chat", "send", "--group", "n", "four"]).code, 3);
    let _again = here.serve_at(&address);
    marshal.ok(&["chat", "send", "--group", "h", "five"]);
    for (group, texts) in [("h", ["one", "three", "five"].as_slice()), ("n", &["two", "four"])] {
        let history = marshal.ok(&["--json", "chat", "history", "--group", group]);
        let said: Vec<serde_json::Value> =
            history.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
        assert_eq!(
            said.iter().map(|line| line["text"].as_str()).collect::<Vec<_>>(),
            texts.iter().map(|text| Some(*text)).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_member_finds_the_chat_by_the_table_and_loses_it_with_the_membership() {
    let (here, host) = headquarters();
    let elsewhere = Surroundings::new();
    let other = elsewhere.serve();
    let own = format!("{}@{}", host.node, host.address);
    let soldier = Surroundings::new();
    for (owner, host) in [(&here, &host), (&elsewhere, &other)] {
        let at = format!("{}@{}", host.node, host.address);
        let invited = owner.json(&["--on", &at, "invite", "--address", &host.address]);
        soldier.ok(&["join", invited["ticket"].as_str().expect("there is a ticket")]);
    }
    let node = soldier.json(&["id"])["node_id"].as_str().expect("it has an id").to_owned();
    here.ok(&["--on", &own, "chat", "user", "add", "Navy1", "--node", &node]);
    eventually("the host says in the table that it has a chat", || {
        soldier.gx(&["peers", "update"]);
        (soldier.gx(&["chat", "groups", "--as", "Navy1"]).code == 0).then_some(())
    });

    // The chat ends and is back, and so is who was in it.
    let mut talk = Talk::of(soldier.command(&["chat", "--as", "Navy1"]));
    talk.sees("* -- navy --");
    here.ok(&["--on", &own, "chat", "stop"]);
    talk.sees("* the server stops");
    assert_eq!(soldier.gx(&["chat", "groups", "--as", "Navy1"]).code, 1);
    assert!(here.ok(&["--on", &own, "chat", "start"]).contains("served again"));
    assert!(here.ok(&["--on", &own, "chat", "start"]).contains("already"));
    talk.sees("* connected again");

    let removed = here.gx(&["--on", &own, "allow", "remove", &node]);
    assert_eq!(removed.code, 0, "{}", removed.stderr);
    assert_eq!(talk.fails(), 5);
    assert_eq!(soldier.gx(&["chat", "groups", "--as", "Navy1"]).code, 5);
}

#[test]
fn a_tail_goes_on_where_it_was_when_the_server_is_back() {
    let (here, mut host) = headquarters();
    let (reader, writer) = (recruit(&host, "Navy1"), recruit(&host, "Navy2"));
    let address = host.address.clone();
    writer.ok(&["chat", "send", "before"]);
    let mut tail = Talk::of(reader.command(&["--json", "chat", "tail"]));
    // It is there once a message comes through.
    let mut sent = 0;
    eventually("it prints what comes", || {
        sent += 1;
        writer.ok(&["chat", "send", &format!("live {sent}")]);
        tail.lines.recv_timeout(Duration::from_millis(200)).ok()
    });
    host.kill();
    let _host = here.serve_at(&address);
    for number in 0..3 {
        writer.ok(&["chat", "send", &format!("missed {number}")]);
    }
    tail.sees_part("missed 2");
    writer.ok(&["chat", "send", "after"]);
    tail.sees_part("\"after\"");
    let texts: Vec<&str> =
        tail.transcript.split("\"text\":\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let texts: Vec<&str> = texts.into_iter().filter(|text| !text.starts_with("live")).collect();
    assert_eq!(
        texts,
        ["missed 0", "missed 1", "missed 2", "after"],
        "once each, in order, and nothing of before"
    );
}

#[test]
fn what_is_no_text_is_not_sent() {
    let (_here, host) = headquarters();
    let soldier = recruit(&host, "Navy1");
    let mut talk = Talk::begin(&soldier);
    talk.sees("* -- navy --");
    talk.types_bytes(b"\xff\xfe\n");
    talk.sees("! not sent: it is not UTF-8");
    talk.types(&"x".repeat(5_000));
    talk.sees("! not sent: it has 5000 bytes, and 4096 are the most");
    talk.types("text");
    talk.sees("Navy1 (me): text");
    talk.types("logmeout");
    talk.ends();
    std::fs::write(soldier.path("bytes"), b"\xff\xfe").expect("a file can be written");
    let mut send = soldier.command(&["chat", "send", "-"]);
    send.stdin(std::fs::File::open(soldier.path("bytes")).expect("it is there"));
    let refused = run(send);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert_eq!(soldier.ok(&["chat", "history"]).lines().count(), 1);
}

#[test]
fn a_server_restored_from_a_backup_is_noticed_and_nothing_is_made_up() {
    let (here, mut host) = headquarters();
    let soldier = recruit(&host, "Navy1");
    let address = host.address.clone();
    soldier.ok(&["chat", "send", "one"]);
    let folder = here.data().join("chat");
    let stop = |host: &mut Host| {
        signal(host.pid(), "TERM");
        eventually("all is in the database", || (!folder.join("chat.db-wal").exists()).then_some(()));
        host.kill();
    };
    stop(&mut host);
    std::fs::copy(folder.join("chat.db"), here.path("backup.db")).expect("a file can be copied");
    let mut host = here.serve_at(&address);
    soldier.ok(&["chat", "send", "two"]);
    let mut talk = Talk::begin(&soldier);
    talk.sees("Navy1 (me): two");
    stop(&mut host);
    std::fs::copy(here.path("backup.db"), folder.join("chat.db")).expect("a file can be copied");
    let _host = here.serve_at(&address);
    talk.sees("! the server has lost messages of navy: what was here is gone");
    talk.types("three");
    talk.sees("Navy1 (me): three");
    talk.types("logmeout");
    talk.ends();
    let texts: Vec<String> = soldier
        .ok(&["chat", "history"])
        .lines()
        .filter_map(|line| Some(line.rsplit_once(' ')?.1.to_owned()))
        .collect();
    assert_eq!(texts, ["one", "three"]);
}

#[test]
fn a_policy_that_is_broken_on_reload_leaves_the_old_one() {
    let policy = std::fs::read_to_string(root().join("examples/chat/army.toml")).expect("it is there");
    let here = Surroundings::new();
    let file = here.path("policy.toml");
    std::fs::write(&file, &policy).expect("a file can be written");
    let here = here.configured(&format!("[chat]\npolicy = {file:?}\n"));
    let host = here.serve();
    let soldier = recruit(&host, "Navy1");
    let log = || std::fs::read_to_string(here.path("serve.log")).unwrap_or_default();
    std::fs::write(&file, policy.replace("id = \"n\"", "id = \"r\"")).expect("a file can be written");
    signal(host.pid(), "HUP");
    eventually("the log says what is wrong", || log().contains("policy.toml:").then_some(()));
    soldier.ok(&["chat", "send", "as before"]);
    std::fs::write(&file, policy.replace("Navy{1..50}", "Navy{2..50}")).expect("a file can be written");
    signal(host.pid(), "HUP");
    eventually("a good one is in force", || (soldier.gx(&["chat", "groups"]).code == 5).then_some(()));
}

/// A terminal of 80 columns and 24 rows, in which a program runs.
struct Tmux {
    socket: String,
}

impl Tmux {
    fn begin(command: &Command) -> Self {
        let tmux = Self { socket: unique("gx-chat-test") };
        let mut begin = Command::new("tmux");
        begin.args(["-L", &tmux.socket, "-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24"]);
        begin.env_remove("TMUX").env("TERM", "xterm-256color");
        let folder = command.get_current_dir().expect("it has a folder");
        begin.arg("-c").arg(folder).arg("env");
        // Options of `env` come before its assignments.
        let (set, removed): (Vec<_>, Vec<_>) = command.get_envs().partition(|(_, value)| value.is_some());
        for (name, _) in removed {
            begin.arg("-u").arg(name);
        }
        for (name, value) in set {
            begin.arg(format!("{}={}", name.display(), value.unwrap_or_default().display()));
        }
        begin.arg(command.get_program()).args(command.get_args());
        let begun = run(begin);
        assert_eq!(begun.code, 0, "{}", begun.stderr);
        tmux
    }

    fn tmux(&self, args: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.args(["-L", &self.socket]).args(args).env_remove("TMUX");
        run(command).stdout
    }

    fn types(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    fn presses(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The last line that is not empty.
    fn typed(&self) -> String {
        self.screen().trim_end().lines().last().unwrap_or_default().to_owned()
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn the_typed_line_stays_whatever_comes_in() {
    let (_here, host) = headquarters();
    let (soldier, other) = (recruit(&host, "Navy1"), recruit(&host, "Navy2"));
    let terminal = Tmux::begin(&soldier.command(&["chat"]));
    eventually("the prompt is there", || (terminal.typed() == "navy>").then_some(()));
    let mut talk = Talk::begin(&other);
    talk.sees("* -- navy --");

    // Half a line is typed, letter by letter, while messages come in as fast as they are stored; wide letters too.
    let line = "a line 山田 that is typed slowly";
    let (mut typed, mut number) = (String::new(), 0);
    for letter in line.chars() {
        terminal.types(&letter.to_string());
        typed.push(letter);
        for _ in 0..2 {
            number += 1;
            talk.types(&format!("message {number}"));
            talk.sees(&format!("Navy2 (me): message {number}"));
            if number % 20 == 0 {
                // As many as a user may send in a while.
                let shown = format!("Navy2: message {number}");
                eventually("messages are shown", || terminal.screen().contains(&shown).then_some(()));
                let expected = format!("navy> {}", typed.trim_end());
                eventually("the typed line is whole", || (terminal.typed() == expected).then_some(()));
            }
        }
        if number >= 40 {
            break;
        }
    }
    let expected = format!("navy> {}", typed.trim_end());
    eventually("the typed line is whole", || (terminal.typed() == expected).then_some(()));

    // What steers a terminal does not: nothing is cleared, no title set, and the line stays.
    talk.types("\u{1b}[2J\u{1b}[H\u{1b}]0;owned\u{7}\u{1b}[31m\u{9b}2Jafter");
    talk.sees("Navy2 (me): [2J[H]0;owned[31m2Jafter");
    eventually("the message is shown", || {
        terminal.screen().contains("Navy2: [2J[H]0;owned[31m2Jafter").then_some(())
    });
    assert!(terminal.screen().contains(&format!("Navy2: message {number}")), "{}", terminal.screen());
    assert_ne!(terminal.tmux(&["display-message", "-p", "#{pane_title}"]).trim(), "owned");
    eventually("the typed line is whole", || (terminal.typed() == expected).then_some(()));

    // And it is sent as it was typed.
    terminal.presses("Enter");
    talk.sees(&format!("Navy1: {typed}"));
    eventually("the line is a message", || {
        let screen = terminal.screen();
        (screen.contains(&format!("Navy1 (me): {}", typed.trim_end())) && terminal.typed() == "navy>")
            .then_some(())
    });
    terminal.types("logmeout");
    terminal.presses("Enter");
    eventually("it ends", || terminal.tmux(&["list-sessions"]).is_empty().then_some(()));
}
