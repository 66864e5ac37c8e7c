//! [`Painter`]: paints text files in place of pictures, as the job says.

use impasto_worker::{Failure, Paint, Painted, Progress};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Paints text files in place of pictures. Fields of a job: `steps` (1), `millis` of a step (0), `drying`, milliseconds
/// after the last step (0), `bytes` of the first picture (those of the job), and `do`: `refuse`, `trouble`, `panic` or
/// `paint`.
#[derive(Clone, Default)]
pub struct Painter {
    /// Prompts of the jobs that were begun, in their order.
    pub begun: Arc<Mutex<Vec<String>>>,
}

impl Painter {
    pub fn begun(&self) -> Vec<String> {
        self.begun.lock().unwrap().clone()
    }
}

impl Paint for Painter {
    fn paint(&mut self, job: &Value, progress: &Progress) -> Result<Painted, Failure> {
        let prompt = job["prompt"].as_str().unwrap().to_owned();
        self.begun.lock().unwrap().push(prompt.clone());
        let number = |name: &str, other: u64| job[name].as_u64().unwrap_or(other);
        let steps = number("steps", 1) as u32;
        for step in 1..=steps {
            std::thread::sleep(Duration::from_millis(number("millis", 0)));
            progress.step(step, steps, || format!("{prompt} at {step}").into_bytes())?;
        }
        std::thread::sleep(Duration::from_millis(number("drying", 0)));
        match job["do"].as_str().unwrap_or("paint") {
            "refuse" => Err(Failure::Refused("no such color".into())),
            "trouble" => Err(Failure::Trouble("out of paint".into())),
            "panic" => panic!("no canvas"),
            _ => Ok(Painted {
                pictures: vec![
                    job["bytes"].as_u64().map_or(job.to_string().into_bytes(), |bytes| vec![0; bytes as usize]),
                    prompt.into_bytes(),
                ],
                report: json!({ "steps": steps }),
            }),
        }
    }
}
