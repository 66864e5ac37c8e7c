//! Many clients at once, slow readers and cut connections.

use crate::running::Running;
use impasto_studio::Options;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Number of clients at once, and number of requests of all clients together.
const CLIENTS: u64 = 32;
const REQUESTS: u64 = 1000;

/// Resident memory of this process in MiB; Linux only.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse().map_or(0.0, |kb: f64| kb / 1024.0)
}

#[test]
fn accepted_jobs_are_never_lost_under_load() {
    let studio = Running::start(Options::default());
    let answers = Mutex::new(BTreeMap::<u16, u64>::new());
    let (early, done) = (Mutex::new(None), Mutex::new(0));
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (studio, answers, early, done) = (&studio, &answers, &early, &done);
            scope.spawn(move || {
                for number in 0..REQUESTS / CLIENTS + u64::from(client < REQUESTS % CLIENTS) {
                    let request = match number % 5 {
                        0 => "{\"prompt\": ".to_owned(),
                        1 => json!({ "prompt": "a boat", "images": 99 }).to_string(),
                        _ => json!({ "prompt": "a boat", "steps": 1, "width": 64, "height": 64 }).to_string(),
                    };
                    let answer = studio.post("/api/jobs", "application/json", request.as_bytes());
                    *answers.lock().unwrap().entry(answer.status).or_default() += 1;
                    assert!(answer.status == 202 || !answer.error().is_empty());
                    let mut done = done.lock().unwrap();
                    *done += 1;
                    if *done == REQUESTS / 3 {
                        *early.lock().unwrap() = Some(resident());
                    }
                }
            });
        }
    });
    let answers = answers.into_inner().unwrap();
    assert_eq!(answers.values().sum::<u64>(), REQUESTS);
    assert!(answers.keys().all(|status| [202, 400, 429].contains(status)), "{answers:?}");
    let accepted = answers[&202] as f64;
    assert_eq!(studio.metric("impasto_jobs_accepted_total"), accepted);
    let begun = Instant::now();
    while studio.metric("impasto_jobs_finished_total") < accepted {
        assert!(begun.elapsed() < Duration::from_secs(60), "{answers:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (early, late) = (early.into_inner().unwrap().unwrap(), resident());
    println!("{answers:?}; {early:.0} MiB after a third, {late:.0} MiB after all");
    assert!(late < early + 64.0, "{early:.0} MiB after a third, {late:.0} MiB after all");
}

#[test]
fn slow_and_cut_connections_leave_the_studio_free() {
    let studio = Running::start(Options { arrival: Duration::from_secs(1), ..Options::default() });
    let connect = |bytes: &str| {
        let mut stream = TcpStream::connect(studio.address).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        stream
    };
    let host = format!("Host: {}\r\n", studio.address);
    let id = studio.submit(&json!({ "prompt": "a boat", "steps": 150 }));
    // Some clients never read their events, some never finish their request, and some disconnect.
    let readers: Vec<TcpStream> =
        (0..8).map(|_| connect(&format!("GET /api/jobs/{id}/events HTTP/1.1\r\n{host}\r\n"))).collect();
    let halves: Vec<TcpStream> = (0..8)
        .flat_map(|_| {
            let head = format!(
                "POST /api/jobs HTTP/1.1\r\n{host}Content-Type: application/json\r\nContent-Length: 99\r\n\r\n"
            );
            [connect("GET /api/mod"), connect(&head)]
        })
        .collect();
    (0..8).for_each(|_| drop(connect(&format!("GET /api/jobs/{id}/events HTTP/1.1\r\n{host}\r\n"))));
    assert_eq!(studio.get("/api/health").status, 200);
    std::thread::sleep(Duration::from_secs(2));
    for mut half in halves {
        half.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut half, &mut rest).unwrap(); // the studio closed it
        let answer = String::from_utf8(rest).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    studio.delete(&format!("/api/jobs/{id}"));
    assert_eq!(studio.ended(id)["state"], "cancelled");
    drop(readers);
}
