//! Requests that are refused, with the reason and the way out.

use crate::running::Running;
use impasto::Raster;
use impasto_studio::{Options, Studio};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Sends a raw request and returns the whole answer, which begins with the status line.
fn raw(studio: &Running, request: &str) -> String {
    let mut stream = TcpStream::connect(studio.address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn wrong_bodies_are_explained() {
    let studio = Running::start(Options { body: 100_000, ..Options::default() });
    let json = |body: &str| studio.post("/api/jobs", "application/json", body.as_bytes());
    for (body, status, words) in [
        ("", 400, "EOF"),
        ("{\"prompt\": ", 400, "EOF"),
        ("{\"promt\": \"a boat\"}", 400, "unknown field `promt`"),
        ("{\"images\": 99}", 400, "Pictures is 99; expected 1 to 4"),
        ("{\"images\": -1}", 400, "expected usize"),
        ("{\"mask\": \"data:image/png;base64,AAAA\"}", 400, "Mask: unexpected end"),
        ("{\"start\": \"/etc/passwd\"}", 400, "data URL"),
    ] {
        let answer = json(body);
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        assert!(answer.error().contains(words), "{body}: {}", answer.error());
    }
    let large = json(&format!("{{\"prompt\": \"{}\"}}", "a".repeat(200_000)));
    assert_eq!(large.status, 413, "{large:?}");
    assert_eq!(studio.post("/api/jobs", "text/plain", b"{}").status, 415);
    assert_eq!(studio.post("/api/recipes", "image/gif", b"x").status, 415);
    assert!(studio.post("/api/recipes", "image/jpeg", b"x").error().contains("no picture"));
    let bare = Raster::flat(impasto::Rgb(0, 0, 0), (8, 8)).to_png(&[]).unwrap();
    assert!(studio.post("/api/recipes", "image/png", &bare).error().contains("no recipe"));
    assert!(json(&"[".repeat(50_000)).status == 400);
}

#[test]
fn refusals_quote_few_letters() {
    let studio = Running::start(Options::default());
    let long = "x".repeat(10 << 20);
    for body in
        [json!({ "seed": long }), json!({ &long: 1 }), json!({ "mask": long }), json!({ "areas": [{ &long: 1 }] })]
    {
        let answer = studio.post("/api/jobs", "application/json", body.to_string().as_bytes());
        assert!(answer.status == 400 && answer.body.len() < 1000, "{}: {} bytes", answer.status, answer.body.len());
    }
    let host = "h".repeat(5000);
    let answer = raw(&studio, &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 403") && answer.len() < 1000, "{answer}");
    let path = format!("/{}", "p".repeat(5000));
    assert!(studio.get(&path).error().len() < 1000);
}

#[test]
fn late_request_is_told() {
    let studio = Running::start(Options { arrival: Duration::from_millis(500), ..Options::default() });
    let answer = raw(
        &studio,
        &format!(
            "POST /api/jobs HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{{",
            studio.address
        ),
    );
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("{\"error\":\"the request took longer"), "{answer}");
}

#[test]
fn any_loopback_address_can_be_bound() {
    let studio = Running::start(Options { address: ([127, 0, 0, 2], 0).into(), ..Options::default() });
    assert_eq!(studio.get("/api/health").status, 200);
    let other = raw(&studio, "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert!(other.starts_with("HTTP/1.1 403") && other.contains(&studio.address.to_string()), "{other}");
}

#[test]
fn unknown_jobs_paths_and_methods_are_explained() {
    let studio = Running::start(Options::default());
    assert!(studio.get("/api/jobs/99").error().contains("job 99 is not known"));
    assert_eq!(studio.get("/api/jobs/99/events").status, 404);
    assert_eq!(studio.delete("/api/jobs/99").status, 404);
    assert_eq!(studio.get("/../Cargo.toml").status, 404);
    assert_eq!(studio.delete("/api/jobs").status, 405);
    for path in
        ["/api/jobs/x", "/api/jobs/-1", "/api/jobs/99999999999999999999", "/api/jobs/%ff", "/api/jobs/1/pictures/x"]
    {
        let answer = studio.get(path);
        assert!(answer.status == 404 && answer.error().contains("has no valid number"), "{path}: {answer:?}");
    }
    let id = studio.submit(&json!({ "prompt": "a boat", "steps": 1 }));
    studio.ended(id);
    assert!(studio.get(&format!("/api/jobs/{id}/pictures/1")).error().contains("1 pictures"));
}

#[test]
fn job_that_fails_says_why_and_the_next_one_runs() {
    let studio = Running::start(Options::default());
    let failed = studio.ended(studio.submit(&json!({ "prompt": "a boat", "forces": ["hat=red"] })));
    assert!(failed["error"].as_str().unwrap().contains("\"hat\" is not in the prompt"), "{failed}");
    assert_eq!(studio.ended(studio.submit(&json!({ "prompt": "a boat", "steps": 1 })))["state"], "finished");
}

#[test]
fn foreign_hosts_and_pages_are_refused() {
    let studio = Running::start(Options::default());
    let port = studio.address.port();
    let get =
        |host: &str| raw(&studio, &format!("GET /api/model HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    assert!(get(&format!("localhost:{port}")).starts_with("HTTP/1.1 200"));
    assert!(get(&format!("evil.example:{port}")).starts_with("HTTP/1.1 403"));
    assert!(get("127.0.0.1").starts_with("HTTP/1.1 403"));
    let post = |headers: &str| {
        raw(
            &studio,
            &format!(
                "POST /api/jobs HTTP/1.1\r\nHost: localhost:{port}\r\n{headers}Content-Type: application/json\r\n\
             Content-Length: 2\r\nConnection: close\r\n\r\n{{}}"
            ),
        )
    };
    assert!(post(&format!("Origin: http://localhost:{port}\r\n")).starts_with("HTTP/1.1 202"));
    assert!(post("Origin: http://evil.example\r\n").starts_with("HTTP/1.1 403"));
    assert!(post("Origin: null\r\n").starts_with("HTTP/1.1 403"));
    assert!(post("Sec-Fetch-Site: cross-site\r\n").starts_with("HTTP/1.1 403"));
    assert!(post(&format!("Origin: http://localhost:{port}\r\nOrigin: null\r\n")).starts_with("HTTP/1.1 400"));
    assert!(post("Host: evil.example\r\n").starts_with("HTTP/1.1 400"));
    // A link on another page opens the studio's page, and reaches nothing else.
    let follow = |path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nSec-Fetch-Site: cross-site\r\n");
        raw(&studio, &format!("{head}Connection: close\r\n\r\n"))
    };
    assert!(follow("/").starts_with("HTTP/1.1 200"));
    for path in ["/api/jobs", "/api/jobs/1/events", "/metrics"] {
        assert!(follow(path).starts_with("HTTP/1.1 403"), "{path}");
    }
}

#[test]
fn token_is_needed_where_one_is_set() {
    let studio = Running::start(Options { token: Some("secret".into()), ..Options::default() });
    assert_eq!(studio.get("/api/model").status, 401);
    assert_eq!(studio.get("/?token=wrong").status, 401);
    let bearer = ureq::get(&studio.url("/api/model")).set("authorization", "Bearer secret").call().unwrap();
    assert_eq!(bearer.status(), 200);
    let agent = ureq::AgentBuilder::new().redirects(0).build();
    let opened = agent.get(&studio.url("/?token=secret")).call().unwrap();
    assert_eq!(opened.status(), 303);
    let cookie = opened.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(ureq::get(&studio.url("/api/model")).set("cookie", &cookie).call().unwrap().status(), 200);
}

#[test]
fn address_beyond_this_machine_needs_a_token() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = Options { address: ([0, 0, 0, 0], 0).into(), ..Options::default() };
    let pipeline = impasto::Pipeline::builder().build().unwrap();
    let error = runtime.block_on(Studio::bind(pipeline, options)).unwrap_err();
    assert!(error.to_string().contains("expected a token"), "{error}");
    let options = Options { address: ([127, 0, 0, 1], 0).into(), token: Some("a b".into()), ..Options::default() };
    let pipeline = impasto::Pipeline::builder().build().unwrap();
    let error = runtime.block_on(Studio::bind(pipeline, options)).unwrap_err();
    assert!(error.to_string().contains("expected letters, digits"), "{error}");
}

#[test]
fn studio_that_is_never_served_ends() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = Options { address: ([127, 0, 0, 1], 0).into(), ..Options::default() };
    let pipeline = impasto::Pipeline::builder().build().unwrap();
    drop(runtime.block_on(Studio::bind(pipeline, options)).unwrap());
    drop(runtime); // waits for the worker, which would otherwise wait for jobs forever
}

#[test]
fn every_file_of_the_page_has_a_strict_content_policy() {
    let studio = Running::start(Options::default());
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    for file in files.chain([String::new()]) {
        let kind = match file.rsplit_once('.') {
            Some((_, "js")) => "text/javascript",
            Some((_, "css")) => "text/css",
            _ => "text/html",
        };
        let response = ureq::get(&studio.url(&format!("/{file}"))).call().unwrap();
        assert!(response.header("content-type").unwrap().starts_with(kind), "{file}");
        assert!(response.header("content-security-policy").unwrap().contains("default-src 'self'"));
    }
}
