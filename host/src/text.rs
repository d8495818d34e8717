//! Text from a plugin, made fit for people: no control characters, no endless length.

use gx_core::RuntimeError;

/// How long a text from a plugin may be, in characters.
const LONGEST: usize = 4_000;

/// Returns the text without control characters (line feeds and tabs become spaces) and without the characters that
/// turn the direction of writing (Unicode TR 9, section 2), cut at a length.
pub(crate) fn clean(text: &str) -> String {
    cleaned(text, ' ')
}

/// Returns the text as [`clean`] does, with its lines: what a build printed last is told in an error.
fn clean_lines(text: &str) -> String {
    cleaned(text, '\n')
}

fn cleaned(text: &str, line_end: char) -> String {
    let shown = text.chars().filter_map(|c| match c {
        '\n' => Some(line_end),
        '\t' | '\r' => Some(' '),
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => None,
        c if c.is_control() => None,
        c => Some(c),
    });
    let mut cleaned: String = shown.take(LONGEST).collect();
    if cleaned.chars().count() == LONGEST {
        cleaned.push('…');
    }
    cleaned
}

/// Cleans all texts of an error.
pub(crate) fn clean_error(error: RuntimeError) -> RuntimeError {
    RuntimeError {
        message: clean_lines(&error.message),
        field: error.field.as_deref().map(clean),
        backend: error.backend.as_deref().map(clean_lines),
        hint: error.hint.as_deref().map(clean),
        ..error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_move_a_cursor_is_gone() {
        assert_eq!(clean("a\u{1b}[2J\u{7}b\nc\u{202e}d\u{0}\u{9b}"), "a[2Jb cd");
        assert_eq!(clean_lines("a\nb\tc\r\n"), "a\nb c \n");
        assert_eq!(clean(&"x".repeat(9_000)).chars().count(), LONGEST + 1);
    }
}
