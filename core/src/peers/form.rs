//! The multipart form in which a table is uploaded (RFC 7578, RFC 2046 section 5.1): one part, `json`.
//!
//! A body is in memory as a whole, as it is short; so is reading one a matter of finding its boundaries.

/// The part that has the table.
pub const PART: &str = "json";
/// The longest body, in bytes.
pub const MAX_BYTES: usize = 256 * 1_024;
/// The longest boundary (RFC 2046, section 5.1.1).
const MAX_BOUNDARY: usize = 70;
/// The longest head of a part, in bytes.
const MAX_HEAD: usize = 4 * 1_024;
/// Parts that are looked at.
const MAX_PARTS: usize = 16;

/// Why a body is no such form: a lower-case fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// The content type is another one, or has no boundary.
    #[error("the content type is not multipart/form-data with a boundary")]
    Type,
    /// The boundaries are not where they have to be.
    #[error("the form is damaged")]
    Damaged,
    /// There is no part of that name.
    #[error("the form has no part `json`")]
    Missing,
}

/// Returns the content type and the body for this text.
pub fn encode(text: &str) -> (String, Vec<u8>) {
    // No line of JSON begins with dashes, so nothing in it is taken for the boundary.
    const BOUNDARY: &str = "gx-ip-table-b7d1f0";
    let head = format!(
        "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{PART}\"; filename=\"ip_table.json\"\r\n"
    );
    let body = format!("{head}content-type: application/json\r\n\r\n{text}\r\n--{BOUNDARY}--\r\n");
    (format!("multipart/form-data; boundary={BOUNDARY}"), body.into_bytes())
}

/// Returns the part `json` of a body.
///
/// # Errors
/// [`FormError`].
pub fn decode<'a>(content_type: &str, body: &'a [u8]) -> Result<&'a [u8], FormError> {
    let boundary = boundary(content_type).ok_or(FormError::Type)?;
    let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
    // The first boundary may be at the very beginning, without a line end before it.
    let first = delimiter.get(2..).ok_or(FormError::Type)?;
    let mut rest = match body.strip_prefix(first) {
        Some(rest) => rest,
        None => &body[find(body, &delimiter).ok_or(FormError::Damaged)? + delimiter.len()..],
    };
    for _ in 0..MAX_PARTS {
        if rest.starts_with(b"--") {
            return Err(FormError::Missing);
        }
        // Spaces may follow a boundary.
        let line = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t')).ok_or(FormError::Damaged)?;
        let part = rest[line..].strip_prefix(b"\r\n").ok_or(FormError::Damaged)?;
        let end = find(part, &delimiter).ok_or(FormError::Damaged)?;
        let (head, content) = split_head(&part[..end]).ok_or(FormError::Damaged)?;
        if is_wanted(head) {
            return Ok(content);
        }
        rest = &part[end + delimiter.len()..];
    }
    Err(FormError::Missing)
}

/// Returns the boundary that a content type names.
fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters, "boundary")?;
    let letter = |b: u8| b.is_ascii_alphanumeric() || b" '()+_,-./:=?".contains(&b);
    let fits = (1..=MAX_BOUNDARY).contains(&boundary.len()) && boundary.bytes().all(letter);
    fits.then_some(boundary)
}

/// Returns a part's head and content.
fn split_head(part: &[u8]) -> Option<(&str, &[u8])> {
    if let Some(content) = part.strip_prefix(b"\r\n") {
        return Some(("", content));
    }
    let end = find(part.get(..MAX_HEAD.min(part.len()))?, b"\r\n\r\n")?;
    Some((std::str::from_utf8(&part[..end]).ok()?, &part[end + 4..]))
}

fn is_wanted(head: &str) -> bool {
    let mut lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let disposition = lines.find(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"));
    let Some((_, value)) = disposition else { return false };
    let (kind, parameters) = value.split_once(';').unwrap_or((value, ""));
    kind.trim().eq_ignore_ascii_case("form-data") && parameter(parameters, "name").as_deref() == Some(PART)
}

/// Returns a parameter of a header, without its quotes.
fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text;
    loop {
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => match after.split_once(';') {
                Some((value, next)) => (value.trim().to_owned(), next),
                None => (after.trim().to_owned(), ""),
            },
        };
        if name.trim_matches([' ', '\t', ';']).eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = next;
    }
}

/// Reads up to the closing quote, and returns what is behind it too.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            letter => value.push(letter),
        }
    }
    None
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_programs_send_is_read() {
        let curl = "--------------------------d74496d66958873e\r\nContent-Disposition: form-data; name=\"json\"; \
                    filename=\"a;b=\\\"c.json\"\r\nContent-Type: application/octet-stream\r\n\r\n{\"a\":1}\r\n\
                    --------------------------d74496d66958873e--\r\n";
        let kind = "multipart/form-data; boundary=------------------------d74496d66958873e";
        assert_eq!(decode(kind, curl.as_bytes()), Ok(&b"{\"a\":1}"[..]));
        let two = "preamble\r\n--x \r\ncontent-disposition: form-data; name=other\r\n\r\n1\r\n--x\r\n\
                   Content-Disposition: form-data; filename=f; name=json\r\n\r\n{}\n\r\n--x--";
        assert_eq!(
            decode("Multipart/Form-Data; charset=utf-8; Boundary=\"x\"", two.as_bytes()),
            Ok(&b"{}\n"[..])
        );
    }

    #[test]
    fn what_is_no_form_is_refused() {
        let (kind, body) = encode("{}");
        assert_eq!(decode("application/json", &body), Err(FormError::Type));
        assert_eq!(decode("multipart/form-data", &body), Err(FormError::Type));
        assert_eq!(decode("multipart/form-data; boundary=\"\"", &body), Err(FormError::Type));
        assert_eq!(decode("multipart/form-data; boundary=other", &body), Err(FormError::Damaged));
        assert_eq!(decode(&kind, b""), Err(FormError::Damaged));
        assert_eq!(decode(&kind, b"--gx-ip-table-b7d1f0--"), Err(FormError::Missing));
        let other = String::from_utf8(body).unwrap().replace("name=\"json\"", "name=\"yaml\"");
        assert_eq!(decode(&kind, other.as_bytes()), Err(FormError::Missing));
    }

    proptest! {
        #[test]
        fn any_table_comes_through(text in "[^-]\\PC{0,80}") {
            let (kind, body) = encode(&text);
            prop_assert_eq!(decode(&kind, &body), Ok(text.as_bytes()));
        }

        #[test]
        fn any_bytes_are_a_form_or_an_error(
            kind in "(multipart/form-data)?[;=\" a-z]{0,20}(boundary=x)?",
            body in proptest::collection::vec(prop_oneof![Just(b"--x".to_vec()), Just(b"\r\n".to_vec()),
                Just(b"content-disposition: form-data; name=json".to_vec()), any::<Vec<u8>>()], 0..12),
        ) {
            let _ = decode(&kind, &body.concat());
        }
    }
}
