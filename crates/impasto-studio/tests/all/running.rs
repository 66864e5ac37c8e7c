//! [`Running`]: a studio of the embedded model on a free port, and a client for it.

use crate::queue;
use impasto::Pipeline;
use impasto_studio::{Engine, Options, Studio, StudioError};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A studio that ends when the value is dropped.
pub struct Running {
    pub address: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The status and body of an answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The sentence of a refusal in the form of the web UI.
    pub fn detail(&self) -> String {
        self.json()["detail"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }

    /// The beginning of the body as text.
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(500).collect()
    }

    /// The sentence of a refusal.
    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

impl Running {
    pub fn start(options: Options) -> Self {
        Self::start_with(Pipeline::builder().build().unwrap(), options)
    }

    pub fn start_with(engine: impl Into<Engine>, options: Options) -> Self {
        let engine = engine.into();
        Self::start_bound(options, |free| Studio::bind(engine, free))
    }

    /// Starts a studio on the queue in a folder.
    pub fn start_on(folder: &Path, options: Options) -> Self {
        let folder = folder.to_owned();
        Self::start_bound(options, |free| async move {
            let pipeline = Pipeline::builder().build().unwrap();
            Studio::bind_to_queue(pipeline, free, queue::open(&folder).await, queue::MODEL).await
        })
    }

    fn start_bound<F>(options: Options, bind: impl FnOnce(Options) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<Studio, StudioError>>,
    {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let free = Options { address: (options.address.ip(), 0).into(), ..options };
                let studio = bind(free).await.unwrap();
                tell.send(studio.address()).unwrap();
                studio
                    .serve(async {
                        let _ = ended.await;
                    })
                    .await;
            });
        });
        Self { address: told.recv().unwrap(), end: Some(end), thread: Some(thread) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn get(&self, path: &str) -> Answer {
        answer(ureq::get(&self.url(path)).call())
    }

    pub fn delete(&self, path: &str) -> Answer {
        answer(ureq::delete(&self.url(path)).call())
    }

    pub fn post(&self, path: &str, kind: &str, body: &[u8]) -> Answer {
        answer(ureq::post(&self.url(path)).set("content-type", kind).send_bytes(body))
    }

    /// Submits a request and returns the number of its job.
    pub fn submit(&self, request: &Value) -> u64 {
        let answer = self.post("/api/jobs", "application/json", request.to_string().as_bytes());
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["id"].as_u64().unwrap()
    }

    /// Waits for the end of a job and returns the job.
    pub fn ended(&self, id: u64) -> Value {
        let begun = Instant::now();
        loop {
            let job = self.get(&format!("/api/jobs/{id}")).json();
            if !["queued", "running"].contains(&job["state"].as_str().unwrap()) {
                return job;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "{job}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The value of a metric.
    pub fn metric(&self, name: &str) -> f64 {
        let text = String::from_utf8(self.get("/metrics").body).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// Ends the studio and waits until it has ended.
    pub fn end(&mut self) {
        drop(self.end.take());
        self.thread.take().map_or(Ok(()), JoinHandle::join).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.end.take());
    }
}

#[allow(clippy::result_large_err)] // ureq's own error
fn answer(result: Result<ureq::Response, ureq::Error>) -> Answer {
    let response = match result {
        Ok(response) | Err(ureq::Error::Status(_, response)) => response,
        Err(error) => panic!("{error}"),
    };
    let status = response.status();
    let mut body = Vec::new();
    std::io::Read::read_to_end(&mut response.into_reader(), &mut body).unwrap();
    Answer { status, body }
}
