//! A line that is half typed while twenty messages a second come in, and the terminal gets another size.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Talk, Tmux, recruit};
use crate::support::{Surroundings, eventually, root};

/// Messages come so soon after one another: 20 a second.
const PACE: Duration = Duration::from_millis(50);
/// How many a second there were at least; a machine that is busy may be late with some.
const LEAST_A_SECOND: f64 = 15.0;
/// Letters of one column and of two, and one of an accent of its own.
const LINE: &str = "half a line 山田 of wide e\u{301} letters, 本日は晴天なり, to its end";
/// After so many letters the terminal is of so many columns and rows.
const SIZES: [(usize, &str, &str); 2] = [(20, "34", "12"), (40, "100", "30")];

/// Says something twenty times a second, until it is told to end.
struct Chatter {
    end: Sender<()>,
    working: JoinHandle<(Talk, u64, Duration)>,
}

impl Chatter {
    fn begin(mut talk: Talk) -> Self {
        let (end, ending) = channel();
        let working = std::thread::spawn(move || {
            let (start, mut number) = (Instant::now(), 0);
            while let Err(RecvTimeoutError::Timeout) = {
                let due = start + PACE * u32::try_from(number).expect("there are few");
                ending.recv_timeout(due.saturating_duration_since(Instant::now()))
            } {
                number += 1;
                talk.types(&format!("message {number}"));
            }
            (talk, number, start.elapsed())
        });
        Self { end, working }
    }

    /// Returns who talked, how many messages there were and how long that was.
    fn end(self) -> (Talk, u64, Duration) {
        drop(self.end);
        self.working.join().expect("everything was sent")
    }
}

impl Tmux {
    /// Returns the newest message that is shown.
    fn newest(&self) -> u64 {
        let screen = self.screen();
        let numbers =
            screen.lines().filter_map(|line| line.strip_prefix("Navy2: message ")?.trim().parse().ok());
        numbers.max().unwrap_or_default()
    }

    /// Returns the line that is typed, also where it is longer than the terminal is wide.
    fn whole(&self) -> String {
        let screen = self.tmux(&["capture-pane", "-p", "-J"]);
        screen.trim_end().lines().last().unwrap_or_default().trim_end().to_owned()
    }
}

#[test]
fn the_typed_line_stays_at_twenty_messages_a_second() {
    let policy = std::fs::read_to_string(root().join("examples/chat/army.toml")).expect("it is there");
    let here = Surroundings::new();
    let file = here.path("policy.toml");
    let faster = policy.replace("rate = \"50/10s\"", "rate = \"1000/1s\"");
    assert_ne!(faster, policy);
    std::fs::write(&file, faster).expect("a file can be written");
    let here = here.configured(&format!("[chat]\npolicy = {file:?}\n"));
    let host = here.serve();
    let (soldier, other) = (recruit(&host, "Navy1"), recruit(&host, "Navy2"));
    let terminal = Tmux::begin(&soldier.command(&["chat"]));
    eventually("the prompt is there", || (terminal.typed() == "navy>").then_some(()));
    let mut talk = Talk::begin(&other);
    talk.sees("* -- navy --");

    let chatter = Chatter::begin(talk);
    let mut typed = String::new();
    for (number, letter) in LINE.chars().enumerate() {
        if let Some((_, columns, rows)) = SIZES.iter().find(|(at, ..)| *at == number) {
            terminal.tmux(&["resize-window", "-x", columns, "-y", rows]);
        }
        let before = terminal.newest();
        terminal.types(&letter.to_string());
        typed.push(letter);
        // Between any two letters there are messages.
        eventually("messages come in", || (terminal.newest() > before).then_some(()));
        let expected = format!("navy> {}", typed.trim_end());
        eventually("the typed line is whole", || (terminal.whole() == expected).then_some(()));
    }
    let (mut talk, number, span) = chatter.end();
    let a_second = number as f64 / span.as_secs_f64();
    assert!(a_second > LEAST_A_SECOND, "{number} messages in {span:?} are few");
    eventually("all messages are shown", || (terminal.newest() == number).then_some(()));
    let expected = format!("navy> {LINE}");
    eventually("the typed line is whole", || (terminal.whole() == expected).then_some(()));

    terminal.presses("Enter");
    talk.sees(&format!("Navy1: {LINE}"));
    eventually("nothing of it is left", || (terminal.typed() == "navy>").then_some(()));
}
