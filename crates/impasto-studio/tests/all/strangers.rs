//! Clients without the token, and clients that take no answers: they shut no others out.

use crate::running::Running;
use impasto_studio::Options;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Asks with the token, and checks that the answer comes within a second.
fn served(studio: &Running) {
    let begun = Instant::now();
    let answer = ureq::get(&studio.url("/api/health")).set("authorization", "Bearer secret").call().unwrap();
    assert!(answer.status() == 200 && begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

fn with_token(connections: usize) -> Running {
    Running::start(Options { connections, token: Some("secret".into()), ..Options::default() })
}

/// Connects and sends some bytes.
fn connect(studio: &Running, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(studio.address).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

#[test]
fn silent_connections_shut_nobody_out() {
    let studio = with_token(16);
    let end = Instant::now() + Duration::from_secs(3);
    std::thread::scope(|scope| {
        for _ in 0..40 {
            // Each stranger connects again when the studio ends the connection.
            scope.spawn(|| {
                while Instant::now() < end {
                    if let Ok(mut stream) = TcpStream::connect(studio.address) {
                        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
                        let _ = stream.read(&mut [0]);
                    }
                }
            });
        }
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
            served(&studio);
        }
    });
}

#[test]
fn idle_and_refused_connections_make_room() {
    let studio = with_token(16);
    let host = format!("Host: {}\r\n", studio.address);
    for bytes in [
        String::new(),
        "GET /api/he".into(),
        format!("GET / HTTP/1.1\r\n{host}\r\n"),
        format!("POST /api/jobs HTTP/1.1\r\n{host}Content-Length: 99999999\r\n\r\n"),
        format!("GET /api/health HTTP/1.1\r\n{host}Authorization: Bearer secret\r\n\r\n"),
    ] {
        let _idle: Vec<TcpStream> = (0..40).map(|_| connect(&studio, &bytes)).collect();
        served(&studio);
    }
}

#[test]
fn silent_connection_is_closed_early() {
    let options = Options { arrival: Duration::from_millis(300), ..Options::default() };
    let studio = Running::start(options);
    let mut silent = connect(&studio, "");
    let begun = Instant::now();
    assert_eq!(silent.read(&mut [0]).unwrap_or(0), 0);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn streams_take_a_share_of_the_connections() {
    let studio = with_token(16);
    let head = format!("Host: {}\r\nAuthorization: Bearer secret\r\n", studio.address);
    let body = json!({ "prompt": "a boat", "steps": 150 }).to_string();
    let length = body.len();
    let mut submitted = connect(
        &studio,
        &format!(
            "POST /api/jobs HTTP/1.1\r\n{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        ),
    );
    let mut answer = String::new();
    submitted.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let mut statuses = Vec::new();
    let mut streams: Vec<TcpStream> = Vec::new();
    for _ in 0..40 {
        let mut stream = connect(&studio, &format!("GET /api/jobs/1/events HTTP/1.1\r\n{head}\r\n"));
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        statuses.push(String::from_utf8_lossy(&status).into_owned());
        streams.push(stream);
    }
    assert_eq!(statuses.iter().filter(|status| *status == "HTTP/1.1 200").count(), 4, "{statuses:?}");
    assert!(statuses[4..].iter().all(|status| status == "HTTP/1.1 503"), "{statuses:?}");
    served(&studio);
    drop(streams);
}
