//! [`run`]: a run whose seeds are the jobs of a queue, which workers on one machine or on many measure.

use crate::choice::Choice;
use crate::failure::Failure;
use crate::judge::Judge;
use crate::random::fnv;
use crate::record::{Made, Record, Records};
use crate::runner::{self, Plan, Progress, Seeds};
use crate::shot::Generator;
use crate::suite::Suite;
use impasto_worker::{Class, Entry, Key, Order, Paint, Painted, Queue, Settings, State, Store, Worker};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// Time between two looks at the seeds that other machines measure.
const LOOK: Duration = Duration::from_millis(500);

/// The queue of a run, and the store of its records.
pub struct Place {
    runtime: Runtime,
    queue: Queue,
}

impl Place {
    /// Opens a queue, such as `sqlite:queue.db`, and a store, such as a folder.
    ///
    /// # Errors
    /// Unknown addresses, and a database or a store that does not answer.
    pub fn open(queue: &str, store: &str) -> Result<Self, Failure> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let address = queue.parse().map_err(|error| format!("--queue: {error}"))?;
        let queue = Queue::open(&address, Store::open(store)?, Settings::default());
        let queue = runtime.block_on(queue).map_err(|error| format!("{address}: {error}"))?;
        Ok(Self { runtime, queue })
    }
}

/// Runs a plan by a queue. Every machine carries out the same command: each one adds the seeds, of which a queue keeps
/// one each, measures those that no other machine has begun, and returns when all are measured. `bench` makes a
/// generator and a judge for each worker. `keep` gets every new record.
///
/// # Errors
/// A plan without a number of seeds; errors of queue and store; a seed that the queue has given up.
pub fn run<G: Generator + Send + 'static, J: Judge + 'static>(
    plan: &Plan<'_>,
    done: &[Record],
    records: &mut Records,
    place: &Place,
    bench: impl Fn() -> Result<(G, J), Failure>,
    mut keep: impl FnMut(&Record, &Progress) -> Result<(), Failure>,
) -> Result<Progress, Failure> {
    let Seeds::Exactly(seeds) = plan.seeds else { return Err("a queue needs a number of seeds".into()) };
    let (begun, Place { runtime, queue }) = (Instant::now(), place);
    let model = model(plan);
    let mut left = Vec::new();
    for wanted in 0..seeds.min(plan.suite.pair_count()) {
        let (owner, title) = ("yardstick".into(), format!("{} {}, seed {wanted}", plan.suite.split, plan.suite.number));
        let job = json!({ "wanted": wanted });
        let order = Order { owner, title, class: Class::Batch, ..Order::new(model.clone(), job) };
        left.push((wanted, runtime.block_on(queue.submit(order))?.key));
    }
    let (end, ended) = watch::channel(false);
    let mut workers = Vec::new();
    for _ in 0..plan.workers {
        let (generator, judge) = bench()?;
        let worker = Worker::new(queue.clone(), model.clone(), Measuring::new(plan, generator, judge));
        let mut ended = ended.clone();
        workers.push(runtime.spawn(worker.run(async move {
            drop(ended.wait_for(|end| *end).await);
        })));
    }
    let mut known: HashSet<String> =
        done.iter().filter(|record| record.made == plan.made).map(|record| record.key.clone()).collect();
    let mut progress = Progress::default();
    let collected = (|| {
        while !left.is_empty() {
            let mut later = Vec::new();
            for (wanted, key) in left.drain(..) {
                let Some(all) = collect(place, wanted, &key)? else {
                    later.push((wanted, key));
                    continue;
                };
                progress.seeds += 1;
                for record in all {
                    progress.elapsed = begun.elapsed();
                    if known.insert(record.key.clone()) {
                        records.append(&record)?;
                        keep(&record, &progress)?;
                    }
                }
            }
            left = later;
            if !left.is_empty() {
                std::thread::sleep(LOOK);
            }
        }
        Ok::<(), Failure>(records.sync()?)
    })();
    end.send_replace(true);
    for worker in workers {
        runtime.block_on(worker)?;
    }
    collected?;
    Ok(Progress { elapsed: begun.elapsed(), ..progress })
}

/// Returns the records of a seed; `None` while it is not measured.
fn collect(Place { runtime, queue }: &Place, wanted: usize, key: &Key) -> Result<Option<Vec<Record>>, Failure> {
    match runtime.block_on(queue.find(key))? {
        Some(Entry { state: State::Done, .. }) => {
            let report = runtime.block_on(queue.report(key))?.ok_or("the store has lost a record")?;
            Ok(Some(serde_json::from_value(report)?))
        }
        Some(Entry { state: state @ (State::Failed | State::Cancelled), reason, .. }) => {
            Err(format!("seed {wanted} is {state}: {reason}; repeat the command to try it again").into())
        }
        _ => Ok(None),
    }
}

/// Returns a name that all machines of a run have in common, and no other run.
fn model(Plan { suite, choice, made, unsteady, .. }: &Plan<'_>) -> String {
    format!("yardstick {:016x}", fnv(format!("{suite:?}|{choice:?}|{made:?}|{unsteady:?}")))
}

/// Measures seeds for a queue.
struct Measuring<G, J> {
    suite: Suite,
    choice: Choice,
    made: Made,
    unsteady: Vec<String>,
    generator: G,
    judge: J,
}

impl<G: Generator, J: Judge> Measuring<G, J> {
    fn new(plan: &Plan<'_>, generator: G, judge: J) -> Self {
        let Plan { suite, choice, made, unsteady, .. } = plan;
        let (suite, choice) = (Suite::clone(suite), choice.clone());
        Self { suite, choice, made: made.clone(), unsteady: unsteady.clone(), generator, judge }
    }
}

impl<G: Generator + Send + 'static, J: Judge + 'static> Paint for Measuring<G, J> {
    fn paint(&mut self, job: &Value, progress: &impasto_worker::Progress) -> Result<Painted, impasto_worker::Failure> {
        let wanted = job.get("wanted").and_then(Value::as_u64).and_then(|wanted| usize::try_from(wanted).ok());
        let Some(wanted) = wanted.filter(|wanted| *wanted < self.suite.pair_count()) else {
            return Err(impasto_worker::Failure::Refused("the job names no seed of the suite".into()));
        };
        let plan = Plan {
            suite: &self.suite,
            choice: self.choice.clone(),
            made: self.made.clone(),
            seeds: Seeds::Exactly(1),
            unsteady: self.unsteady.clone(),
            limit: None,
            workers: 1,
            shard: (0, 1),
            only: None,
        };
        let total = self.suite.jobs(wanted, &self.choice).len() as u32;
        let mut begun = 0;
        let go_on = || {
            begun += 1;
            progress.step(begun.min(total), total, Vec::new).is_ok()
        };
        let trouble = |failure: Failure| impasto_worker::Failure::Trouble(failure.to_string());
        let records = runner::seed(&plan, &mut self.generator, &mut self.judge, wanted, go_on).map_err(trouble)?;
        let records = records.ok_or(impasto_worker::Failure::Stopped)?;
        let report = serde_json::to_value(records).map_err(|error| trouble(error.into()))?;
        Ok(Painted { pictures: Vec::new(), report })
    }
}
