//! What others wrote, as it is shown: on one line, and without anything that steers a terminal, turns the direction of
//! writing or piles up on other lines.

use std::borrow::Cow;

use unicode_normalization::char::is_combining_mark;

/// The most combining marks on one letter: more than any living script writes.
const MAX_MARKS: usize = 4;

/// Returns a text as it is shown. Control characters are taken out, line ends and what changes direction or hides are
/// made visible, and of the marks on one letter a few are left.
pub fn shown(text: &str) -> Cow<'_, str> {
    let mut marks = 0;
    let plain = |c: char| {
        marks = if is_combining_mark(c) { marks + 1 } else { 0 };
        matches!(kind(c), Kind::Plain) && marks <= MAX_MARKS
    };
    if text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut marks = 0;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        marks = if is_combining_mark(c) { marks + 1 } else { 0 };
        match kind(c) {
            Kind::Plain if marks <= MAX_MARKS => shown.push(c),
            Kind::Plain | Kind::Control => {}
            Kind::Tab => shown.push(' '),
            Kind::LineEnd if c == '\r' && rest.peek() == Some(&'\n') => {}
            Kind::LineEnd => shown.push_str(" ⏎ "),
            Kind::Hidden => shown.push_str(&format!("⟨U+{:04X}⟩", u32::from(c))),
        }
    }
    Cow::Owned(shown)
}

enum Kind {
    Plain,
    Tab,
    LineEnd,
    Control,
    Hidden,
}

fn kind(c: char) -> Kind {
    match c {
        '\t' => Kind::Tab,
        // NEL, and the separators of UAX 14.
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => Kind::LineEnd,
        // C0, DEL and C1: what begins every sequence that steers a terminal (ECMA-48 §5).
        c if c.is_control() => Kind::Control,
        // The marks and overrides of bidirectional text (UAX 9 §2), what has no width, and the tags, which spell out a
        // text that nobody sees.
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' => Kind::Hidden,
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}' => {
            Kind::Hidden
        }
        '\u{ad}' | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' => Kind::Hidden,
        _ => Kind::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_steers_is_taken_out_or_seen() {
        for (text, expected) in [
            ("plain ünïcode 🦀 שלום 한국", "plain ünïcode 🦀 שלום 한국"),
            ("\u{1b}[31mred\u{1b}[0m", "[31mred[0m"),
            ("\u{1b}]0;title\u{7}x\u{9b}2J", "]0;titlex2J"),
            ("a\rb\r\nc\td\u{2028}e", "a ⏎ b ⏎ c d ⏎ e"),
            ("gx\u{202e}txt.exe", "gx⟨U+202E⟩txt.exe"),
            ("a\u{200b}b\u{feff}c\u{e0041}", "a⟨U+200B⟩b⟨U+FEFF⟩c⟨U+E0041⟩"),
            ("\u{0}\u{8}\u{7f}", ""),
            ("👩\u{200d}🚀", "👩\u{200d}🚀"),
        ] {
            assert_eq!(shown(text), expected, "{text:?}");
        }
    }

    #[test]
    fn ten_thousand_marks_are_a_few() {
        let pile = format!("a{}b", "\u{301}".repeat(10_000));
        assert_eq!(shown(&pile), format!("a{}b", "\u{301}".repeat(MAX_MARKS)));
        assert_eq!(shown("e\u{323}\u{302}"), "e\u{323}\u{302}");
    }

    proptest! {
        #[test]
        fn nothing_steers_the_terminal(text in "(.|\\PC|[\\x00-\\x1f\u{7f}-\u{9f}\u{202a}-\u{202e}]){0,60}") {
            prop_assert!(shown(&text).chars().all(|c| matches!(kind(c), Kind::Plain)));
        }
    }
}
