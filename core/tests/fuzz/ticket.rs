//! A ticket: one, or an error that repeats nothing of what may be most of a good one. What is read is written as it was.

use gx_core::ticket::Ticket;
use proptest::prelude::*;

use crate::mutate::{cases, corpus, inputs};

const WORDS: &[&str] = &[
    "gx1", "gx2", "gx", "GX1", " ", "\n", "\r\n", "\t", "a", "7", "0", "1", "aaaaaaaa", "\u{200b}",
    "\u{202e}", "а", "=",
];
/// So much of a ticket says nothing yet of its secret.
const TELLING: usize = 12;

fn read(input: &[u8]) -> Result<(), TestCaseError> {
    let text = String::from_utf8_lossy(input);
    match text.parse::<Ticket>() {
        Ok(ticket) => {
            let written = ticket.to_text().map_err(|error| TestCaseError::fail(error.to_string()))?;
            let plain: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
            prop_assert_eq!(written.reveal(), plain.as_str());
        }
        Err(error) => {
            let said = format!("{error} {}", error.hint());
            let letters: Vec<char> = text.chars().take(4_000).collect();
            let repeats = letters.windows(TELLING).map(|piece| piece.iter().collect::<String>());
            for piece in repeats.filter(|piece| piece.bytes().all(|b| b.is_ascii_alphanumeric())) {
                prop_assert!(!said.contains(&piece), "{said}");
            }
        }
    }
    Ok(())
}

#[test]
fn the_corpus_is_read() {
    for input in corpus("ticket") {
        read(&input).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(4_000), ..ProptestConfig::default() })]
    #[test]
    fn a_ticket_is_one_or_an_error_that_repeats_nothing(input in inputs("ticket", WORDS)) {
        read(&input)?;
    }
}
