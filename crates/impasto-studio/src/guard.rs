//! The checks before any handler: the right host, no foreign page, and the token.

use crate::places::Place;
use crate::refusal::Refusal;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tracing::Instrument;

/// Name of the cookie that holds the token.
const COOKIE: &str = "impasto_token";
/// Beginnings of the paths of the APIs.
const APIS: [&str; 3] = ["/api/", "/sdapi/", "/v1/"];

/// The address of the server and its token.
#[derive(Debug)]
pub struct Guard {
    pub address: SocketAddr,
    pub token: Option<String>,
}

impl Guard {
    /// Returns true if `host` is the server's own address, or a name of the loopback interface with the server's port.
    /// A page of another site that had its name resolved to this machine (DNS rebinding) sends its own name here.
    fn is_own(&self, host: &str) -> bool {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port),
            _ => (host, "80"), // browsers leave out HTTP's own port
        };
        let address = match self.address.ip() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        let names = ["127.0.0.1", "[::1]", "localhost", &address];
        port == self.address.port().to_string() && names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Returns true if the headers carry the token: as a bearer's token, as the password of any user, or in the cookie.
    fn has_token(&self, headers: &HeaderMap, token: &str) -> bool {
        let text = |name| headers.get_all(name).into_iter().filter_map(|value: &HeaderValue| value.to_str().ok());
        let bearer = text(header::AUTHORIZATION).filter_map(|value| value.strip_prefix("Bearer "));
        let mut basic = text(header::AUTHORIZATION).filter_map(|value| password(value.strip_prefix("Basic ")?));
        let cookies = text(header::COOKIE).flat_map(|value| value.split("; "));
        let cookies = cookies.filter_map(|cookie| cookie.strip_prefix(COOKIE)?.strip_prefix('='));
        bearer.chain(cookies).any(|given| equal(given, token)) || basic.any(|given| equal(&given, token))
    }
}

/// Returns the password of the credentials of a user, `USER:PASSWORD` in base64 (RFC 7617).
fn password(credentials: &str) -> Option<String> {
    let text = String::from_utf8(BASE64_STANDARD.decode(credentials).ok()?).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

/// Compares two secrets in a time that does not depend on where they differ.
fn equal(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// Returns the value of a header; `None` without the header.
///
/// # Errors
/// A refusal of a header that is given twice, of which another program may read another one, or that is no text.
fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(&name).iter();
    match (values.next().map(HeaderValue::to_str), values.next()) {
        (None, _) => Ok(None),
        (Some(Ok(value)), None) => Ok(Some(value)),
        _ => Err(Refusal::wrong(format!("the header {name} is given twice or is no text; send it once, as text"))),
    }
}

/// Returns true if a browser says that a request comes from another page than the studio's, which is at `host`.
fn is_foreign(headers: &HeaderMap, host: &str) -> Result<bool, Refusal> {
    let is_page = |origin: &str| {
        origin.split_once("://").is_some_and(|(kind, at)| ["http", "https"].contains(&kind) && at == host)
    };
    // A page of another port is of the same site, but not of the same origin.
    let is_same = |site: &str| ["same-origin", "none"].contains(&site);
    Ok(only(headers, header::ORIGIN)?.is_some_and(|origin| !is_page(origin))
        || only(headers, HeaderName::from_static("sec-fetch-site"))?.is_some_and(|site| !is_same(site)))
}

/// Returns true if a request can do no more than to open the page, as a link on another page does. Requests for the API
/// may have effects even if they change nothing at once: a job ends after its last listener has left.
fn opens_page(request: &Request) -> bool {
    let path = request.uri().path();
    let is_of_api = APIS.iter().any(|beginning| path.starts_with(beginning));
    request.method() == Method::GET && !is_of_api && path != "/metrics"
}

/// Refuses requests for other hosts, from pages of other sites, and without the token.
pub async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Result<Response, Refusal> {
    let place = request.extensions().get::<Arc<Place>>().map(Arc::clone);
    place.as_ref().inspect(|place| place.begin());
    let headers = request.headers();
    let host = only(headers, header::HOST)?.unwrap_or_default();
    // With a token, any host name is allowed: a foreign page under its own name has no cookie with the token.
    if guard.token.is_none() && !guard.is_own(host) {
        let (address, port) = (guard.address, guard.address.port());
        let sentence = format!("the host is \"{host}\"; expected {address} or localhost:{port}");
        return Err(Refusal::new(StatusCode::FORBIDDEN, sentence));
    }
    if is_foreign(headers, host)? && !opens_page(&request) {
        let sentence = "the request comes from another site's page; open the studio's own page";
        return Err(Refusal::new(StatusCode::FORBIDDEN, sentence));
    }
    if let Some(token) = &guard.token
        && !guard.has_token(headers, token)
    {
        let query = request.uri().query().unwrap_or_default();
        let given = query.split('&').find_map(|pair| pair.strip_prefix("token="));
        if request.uri().path() == "/" && given.is_some_and(|given| equal(given, token)) {
            let cookie = format!("{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/");
            let mut response = Redirect::to("/").into_response();
            if let Ok(cookie) = HeaderValue::from_str(&cookie) {
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            return Ok(response);
        }
        let sentence = "the token is missing or wrong; open /?token=TOKEN, or send Authorization: Bearer TOKEN";
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, sentence));
    }
    let busy = place.map(Place::allow);
    // The query may have the token.
    let span = tracing::info_span!("request", method = %request.method(), path = request.uri().path());
    let response = next.run(request).instrument(span).await;
    drop(busy);
    Ok(response)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_loopback_interface_are_own() {
        let guard = Guard { address: "127.0.0.1:7860".parse().unwrap(), token: None };
        for host in ["127.0.0.1:7860", "localhost:7860", "LocalHost:7860", "[::1]:7860"] {
            assert!(guard.is_own(host), "{host}");
        }
        let named = ["", "evil.example", "evil.example:7860", "127.0.0.1.evil:7860", "localhost.:7860", "127.1:7860"];
        let ports = ["localhost", "localhost:80", "[::1]", "localhost:+7860", "localhost:7860:7860", "localhost:7860/"];
        for host in named.into_iter().chain(ports) {
            assert!(!guard.is_own(host), "{host}");
        }
    }

    #[test]
    fn any_loopback_address_that_is_bound_is_own() {
        for address in ["127.0.0.2:7860", "[::1]:7860", "127.255.0.1:80"] {
            let guard = Guard { address: address.parse().unwrap(), token: None };
            assert!(guard.is_own(address), "{address}");
            assert!(!guard.is_own("127.0.0.3:7860") && !guard.is_own("127.0.0.2.evil:7860"), "{address}");
        }
        for (address, name) in [("127.0.0.2:80", "127.0.0.2"), ("[::1]:80", "[::1]"), ("127.0.0.2:80", "localhost")] {
            let guard = Guard { address: address.parse().unwrap(), token: None };
            assert!(guard.is_own(name) && !guard.is_own("127.0.0.3"), "{address}");
        }
    }

    #[test]
    fn only_own_page_is_not_foreign() {
        let foreign = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            is_foreign(&headers, "localhost:7860").ok()
        };
        let own = "http://localhost:7860";
        for lines in [&[][..], &[("origin", own)], &[("sec-fetch-site", "same-origin")], &[("sec-fetch-site", "none")]]
        {
            assert_eq!(foreign(lines), Some(false), "{lines:?}");
        }
        let pages = ["null", "", "http://evil.example", "http://localhost:7861", "chrome-extension://localhost:7860"];
        for origin in pages.into_iter().chain(["file://", "http://localhost:7860.evil", "http://localhost:7860/"]) {
            assert_eq!(foreign(&[("origin", origin)]), Some(true), "{origin}");
        }
        for site in ["cross-site", "same-site", "Cross-Site", "x"] {
            assert_eq!(foreign(&[("sec-fetch-site", site)]), Some(true), "{site}");
        }
        assert_eq!(foreign(&[("origin", own), ("origin", "http://evil.example")]), None);
        assert_eq!(foreign(&[("origin", "http://é")]), None);
    }

    #[test]
    fn token_is_found_in_header_and_cookie() {
        let guard = Guard { address: "0.0.0.0:1".parse().unwrap(), token: Some("secret".into()) };
        let carries = |name, value| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            guard.has_token(&headers, "secret")
        };
        assert!(carries(header::AUTHORIZATION, "Bearer secret"));
        assert!(carries(header::COOKIE, "other=1; impasto_token=secret"));
        assert!(carries(header::AUTHORIZATION, "Basic dXNlcjpzZWNyZXQ=")); // user:secret
        assert!(!carries(header::AUTHORIZATION, "Basic c2VjcmV0OnVzZXI=")); // secret:user
        assert!(!carries(header::AUTHORIZATION, "Basic secret"));
        assert!(!carries(header::AUTHORIZATION, "Bearer secre"));
        assert!(!carries(header::COOKIE, "impasto_token=secretx"));
    }
}
