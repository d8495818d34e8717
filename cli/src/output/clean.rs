//! Text from outside, made harmless for a terminal: no escape sequences, no control characters, nothing that turns
//! the direction of writing.

use std::borrow::Cow;

/// Returns the text on one line, without anything that steers a terminal.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let text = lines(text);
    Cow::Owned(text.trim_end().replace(['\n', '\t'], " "))
}

/// Returns the text without anything that steers a terminal; line ends and tabs stay.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| harmless(c) || matches!(c, '\n' | '\t')) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => skip_escape(&mut rest),
            '\u{9b}' => skip_control_sequence(&mut rest),
            '\r' if rest.peek() == Some(&'\n') => {}
            '\r' => clean.push('\n'),
            '\n' | '\t' => clean.push(c),
            c if harmless(c) => clean.push(c),
            _ => {}
        }
    }
    Cow::Owned(clean)
}

/// Returns JSON with everything escaped that steers a terminal, which JSON itself allows in texts; line ends stay.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    let stays = |c: char| harmless(c) || c == '\n';
    if text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    let escaped = |c: char| if stays(c) { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) };
    Cow::Owned(text.chars().map(escaped).collect())
}

fn harmless(c: char) -> bool {
    // The marks and overrides of bidirectional text (UAX 9 §2) could show a name as another.
    let turns = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    );
    !c.is_control() && !turns
}

// ECMA-48 §5.4: a control sequence ends with a byte from 0x40 to 0x7e; §5.6: a control string with ST, and by
// xterm's custom with BEL.
fn skip_escape(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match rest.peek() {
        Some('[') => {
            rest.next();
            skip_control_sequence(rest);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = rest.next() {
                if c == '\u{7}' || c == '\u{9c}' || (c == '\u{1b}' && rest.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        Some(' '..='/') => {
            while rest.next_if(|c| matches!(c, ' '..='/')).is_some() {}
            rest.next();
        }
        Some('0'..='~') => {
            rest.next();
        }
        _ => {}
    }
}

fn skip_control_sequence(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while rest.next_if(|c| matches!(c, ' '..='?')).is_some() {}
    rest.next_if(|c| matches!(c, '@'..='~'));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_go_and_text_stays() {
        for (dirty, clean) in [
            ("plain ünïcode 🦀", "plain ünïcode 🦀"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}x", "x"),
            ("\u{1b}]8;;http://a\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("a\u{1b}(Bb\u{9b}2Jc", "abc"),
            ("a\rb\r\nc\td", "a b c d"),
            ("gx\u{202e}txt.exe", "gxtxt.exe"),
            ("\u{0}\u{8}\u{7f}x\u{1b}", "x"),
        ] {
            assert_eq!(line(dirty), clean, "{dirty:?}");
        }
        assert_eq!(lines("a\nb\u{1b}[2K"), "a\nb");
    }

    proptest! {
        #[test]
        fn nothing_steers_the_terminal(text in ".{0,80}") {
            prop_assert!(line(&text).chars().all(harmless));
            prop_assert!(lines(&text).chars().all(|c| harmless(c) || c == '\n' || c == '\t'));
        }
    }
}
