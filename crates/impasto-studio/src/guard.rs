//! The checks before any handler: the right host, no foreign page, and the token.

use crate::places::Place;
use crate::refusal::Refusal;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use std::net::SocketAddr;
use std::sync::Arc;

/// Name of the cookie that holds the token.
const COOKIE: &str = "impasto_token";

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
        let port = self.address.port();
        if host.parse() == Ok(self.address) {
            return true;
        }
        let (name, given) = match host.rsplit_once(':') {
            Some((name, digits)) if !digits.ends_with(']') => (name, digits.parse().ok()),
            _ => (host, Some(80)),
        };
        given == Some(port) && ["127.0.0.1", "localhost", "[::1]"].contains(&name)
    }

    /// Returns true if the headers carry the token.
    fn has_token(&self, headers: &HeaderMap, token: &str) -> bool {
        let text = |name| headers.get_all(name).into_iter().filter_map(|value: &HeaderValue| value.to_str().ok());
        let bearer = text(header::AUTHORIZATION).filter_map(|value| value.strip_prefix("Bearer "));
        let cookies = text(header::COOKIE).flat_map(|value| value.split("; "));
        let cookies = cookies.filter_map(|cookie| cookie.strip_prefix(COOKIE)?.strip_prefix('='));
        bearer.chain(cookies).any(|given| equal(given, token))
    }
}

/// Compares two secrets in a time that does not depend on where they differ.
fn equal(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// Refuses requests for other hosts, from pages of other sites, and without the token.
pub async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let place = request.extensions().get::<Arc<Place>>();
    place.inspect(|place| place.begin());
    let headers = request.headers();
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    // With a token, any host name is allowed: a foreign page under its own name has no cookie with the token.
    if guard.token.is_none() && !guard.is_own(host) {
        let (address, port) = (guard.address, guard.address.port());
        let sentence = format!("the host is \"{host}\"; expected {address} or localhost:{port}");
        return Refusal::new(StatusCode::FORBIDDEN, sentence).into_response();
    }
    let foreign = text(header::ORIGIN)
        .is_some_and(|origin| origin.split_once("://").is_none_or(|(_, origin)| origin != host))
        || text(header::HeaderName::from_static("sec-fetch-site")).is_some_and(|site| site == "cross-site");
    if foreign && request.method() != Method::GET {
        let sentence = "the request comes from another site's page; open the studio's own page";
        return Refusal::new(StatusCode::FORBIDDEN, sentence).into_response();
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
            return response;
        }
        let sentence = "the token is missing or wrong; open /?token=TOKEN, or send Authorization: Bearer TOKEN";
        return Refusal::new(StatusCode::UNAUTHORIZED, sentence).into_response();
    }
    let busy = place.map(|place| Arc::clone(place).allow());
    let response = next.run(request).await;
    drop(busy);
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_loopback_interface_are_own() {
        let guard = Guard { address: "127.0.0.1:7860".parse().unwrap(), token: None };
        for host in ["127.0.0.1:7860", "localhost:7860", "[::1]:7860"] {
            assert!(guard.is_own(host), "{host}");
        }
        for host in
            ["", "evil.example", "evil.example:7860", "localhost", "localhost:80", "127.0.0.1.evil:7860", "[::1]"]
        {
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
        assert!(!carries(header::AUTHORIZATION, "Bearer secre"));
        assert!(!carries(header::COOKIE, "impasto_token=secretx"));
    }
}
