//! What keeps a page to itself.

use std::io;
use std::net::SocketAddr;

use warp::http::header::{
    self, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use warp::http::{HeaderMap, HeaderName, HeaderValue};
use warp::reply::Response;

/// Returns a random token, 128 bits in hexadecimal digits.
pub(super) fn token() -> io::Result<String> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Returns whether a request is for this address, and from the page itself or from nobody: another site can point a
/// name of its own at loopback, and its pages can send requests there, but a browser then says so.
pub(super) fn from_the_page(headers: &HeaderMap, address: SocketAddr) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    let here = address.to_string();
    let host = text(HOST).is_some_and(|host| host == here);
    let origin = text(ORIGIN).is_none_or(|origin| origin.strip_prefix("http://") == Some(&here));
    let site = text(HeaderName::from_static("sec-fetch-site"));
    host && origin && site.is_none_or(|site| matches!(site, "none" | "same-origin"))
}

/// Returns what comes after the prefix, without telling by its time how much of the prefix was right.
pub(super) fn below<'p>(prefix: &str, path: &'p str) -> Option<&'p str> {
    let (start, rest) = path.split_at_checked(prefix.len())?;
    let differing = start.bytes().zip(prefix.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    (differing == 0).then_some(rest)
}

/// Adds what keeps the page to itself: nothing of other sites in it, and it in no other.
pub(super) fn guarded(mut response: Response, address: SocketAddr) -> Response {
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
         connect-src 'self' ws://{address}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers = response.headers_mut();
    let policy = HeaderValue::from_str(&policy).expect("an address is visible ASCII");
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
