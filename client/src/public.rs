//! This machine's address in the Internet, as somebody else sees it.

use std::net::IpAddr;
use std::time::Duration;

use gx_identity::tls::Connector;
use reqwest::Url;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of an answer.
const MAX_BYTES: usize = 16 * 1_024;

/// Why it is not known.
#[derive(Debug, thiserror::Error)]
pub enum PublicAddressError {
    /// The URL is none, or not one of `http`.
    #[error("{url} is no http:// address")]
    Url {
        /// What was given.
        url: String,
    },
    /// Nobody answers there, or not in time.
    #[error("nobody answers there within {} s", PATIENCE.as_secs())]
    NoAnswer,
    /// The answer has no address in it.
    #[error("the answer has no address in it")]
    NoAddress,
}

/// Asks at a URL for this machine's address: the answer is one, or JSON with one as `query` or `ip`. Whoever is on the way
/// can answer what they like, so it is a hint and no more.
///
/// # Errors
/// [`PublicAddressError`].
pub async fn public_address(url: &str) -> Result<IpAddr, PublicAddressError> {
    let bad = || PublicAddressError::Url { url: url.chars().take(200).collect() };
    let url = Url::parse(url).ok().filter(|url| url.scheme() == "http").ok_or_else(bad)?;
    let http = reqwest::Client::builder()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured(Connector::to_anybody().config())
        .no_proxy()
        .build()
        .expect("the settings fit together");
    let mut response = http.get(url).send().await.map_err(|_| PublicAddressError::NoAnswer)?;
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(|_| PublicAddressError::NoAnswer)? {
        body.extend_from_slice(&bytes);
        if body.len() > MAX_BYTES {
            return Err(PublicAddressError::NoAddress);
        }
    }
    address_in(&body).ok_or(PublicAddressError::NoAddress)
}

fn address_in(body: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(body).ok()?.trim();
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    ["query", "ip"].iter().find_map(|key| value[*key].as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_what_such_services_answer() {
        for (body, found) in [
            ("203.0.113.7\n", Some("203.0.113.7")),
            ("{\"status\":\"success\",\"query\":\"203.0.113.7\"}", Some("203.0.113.7")),
            ("{\"ip\":\"2001:db8::1\"}", Some("2001:db8::1")),
            ("<html>", None),
            ("{\"query\":7}", None),
            ("", None),
        ] {
            assert_eq!(address_in(body.as_bytes()), found.map(|text| text.parse().unwrap()), "{body}");
        }
    }

    #[tokio::test]
    async fn only_http_is_asked_and_nobody_is_waited_for() {
        for url in ["https://example.org", "file:///etc/passwd", "x"] {
            assert!(matches!(public_address(url).await, Err(PublicAddressError::Url { .. })), "{url}");
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let begun = std::time::Instant::now();
        assert!(matches!(public_address(&url).await, Err(PublicAddressError::NoAnswer)));
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}
