//! Traces that the program sends to a collector of OpenTelemetry.

use super::queue::{QUEUE, end, worker_with};
use super::{run, text};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};

/// Starts a collector. Returns its address, and the paths and bodies of the requests that it gets.
fn collector() -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (send, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = send.send(read(stream.unwrap()));
        }
    });
    (address, requests)
}

/// Reads a request, and answers it.
fn read(mut stream: TcpStream) -> (String, Vec<u8>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let head: Vec<String> = reader.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
    let length = head.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap()];
    reader.read_exact(&mut body).unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").unwrap();
    (head[0].clone(), body)
}

#[test]
fn jobs_of_a_worker_are_traced() {
    let folder = tempfile::tempdir().unwrap();
    let (address, requests) = collector();
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", address.as_str()), ("OTEL_SERVICE_NAME", "easel")];
    let worker = worker_with(folder.path(), &[], &variables);
    let job = ["submit", "a boat", "--seed", "3", "--steps", "2", "--size", "64x64", "-o", "boat.png"];
    let key = text(&run(folder.path(), &[&job[..], &QUEUE].concat()).stdout).lines().next().unwrap().to_owned();
    end(worker);
    let (line, body) = requests.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
    assert_eq!(line, "POST /v1/traces HTTP/1.1");
    let body = String::from_utf8_lossy(&body);
    assert!(["easel", "job", &key].iter().all(|word| body.contains(word)), "{body}");
}
