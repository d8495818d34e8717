//! The operating system's words for an error, as our other messages are.

use std::io;

/// Returns the system's text for an error as a fragment: in lower case and without the number, as in `permission denied`.
pub fn text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_a_fragment_without_the_number() {
        assert_eq!(text(&io::Error::from_raw_os_error(13)), "permission denied");
        assert_eq!(text(&io::Error::other("Ärger")), "ärger");
        assert_eq!(text(&io::Error::other("")), "");
    }
}
