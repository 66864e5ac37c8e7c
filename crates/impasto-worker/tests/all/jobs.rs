//! The life of a job.

use crate::painter::Painter;
use crate::stage::{MODEL, Stage, settings};
use impasto_worker::{Class, Filter, Order, Settings, State};
use serde_json::json;
use std::time::Duration;

pub fn job_is_painted_once(stage: Stage) {
    let painter = Painter::default();
    let submitted = stage.submit(json!({ "prompt": "a boat", "seed": 1 }));
    assert_eq!((submitted.state, submitted.title.as_str()), (State::Waiting, "a boat"));
    let worker = stage.worker(&painter, Duration::ZERO);
    let done = stage.wait_for(&submitted.key, State::Done);
    assert_eq!((done.pictures, done.tries, done.reason.as_str()), (2, 1, ""));
    // The order of the fields makes no other job.
    let again = stage.submit(json!({ "seed": 1, "prompt": "a boat" }));
    assert_eq!((&again.key, again.state), (&done.key, State::Done));
    let other = stage.submit(json!({ "prompt": "a boat", "seed": 2 }));
    assert_eq!(stage.wait_for(&other.key, State::Done).pictures, 2);
    assert_eq!(painter.begun(), ["a boat", "a boat"]);
    let (queue, key) = (&stage.queue, &done.key);
    stage.runtime.block_on(async {
        assert_eq!(queue.picture(key, 1).await.unwrap().unwrap(), b"a boat");
        assert_eq!(queue.picture(key, 2).await.unwrap(), None);
        assert_eq!(queue.report(key).await.unwrap().unwrap(), json!({ "steps": 1 }));
    });
    stage.end(worker);
}

pub fn users_take_turns(stage: Stage) {
    let painter = Painter::default();
    let submit = |owner: &str, class, count: u32| {
        for number in 0..count {
            let job = json!({ "prompt": format!("{owner}{number}") });
            let order = Order { owner: owner.into(), class, ..Order::new(MODEL, job) };
            stage.runtime.block_on(stage.queue.submit(order)).unwrap();
        }
    };
    submit("batch", Class::Batch, 2);
    submit("many", Class::Interactive, 20);
    submit("few", Class::Interactive, 3);
    let worker = stage.worker(&painter, Duration::ZERO);
    let last = stage.submit(json!({ "prompt": "late" }));
    stage.wait_for(&last.key, State::Done);
    let all = || painter.begun().len() == 26;
    let begun = std::time::Instant::now();
    while !all() && begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let order = painter.begun();
    let place = |name: &str| order.iter().position(|other| other == name).unwrap();
    assert!(place("few0") <= 2 && place("few1") <= 4 && place("few2") <= 6, "{order:?}");
    assert!(place("many19") < place("batch0") && place("late") < place("many19"), "{order:?}");
    assert!(place("many0") < place("many1") && place("few0") < place("few1"), "{order:?}");
    stage.end(worker);
}

pub fn cancelled_job_ends_at_its_next_step(stage: Stage) {
    let painter = Painter::default();
    let long = stage.submit(json!({ "prompt": "long", "steps": 1000, "millis": 50 }));
    let waiting = stage.submit(json!({ "prompt": "waiting" }));
    let cancel = |key| stage.runtime.block_on(stage.queue.cancel(key)).unwrap();
    assert!(cancel(&waiting.key) && !cancel(&waiting.key));
    let worker = stage.worker(&painter, Duration::ZERO);
    let running = stage.wait(&long.key, |entry| entry.step > 0);
    assert_eq!((running.state, running.steps), (State::Running, 1000));
    let preview = stage.runtime.block_on(stage.queue.preview(&long.key)).unwrap().unwrap();
    assert!(preview.starts_with(b"long at "), "{preview:?}");
    assert!(cancel(&long.key));
    let next = stage.submit(json!({ "prompt": "next" }));
    stage.wait_for(&next.key, State::Done);
    assert_eq!(stage.find(&long.key).state, State::Cancelled);
    assert_eq!(painter.begun(), ["long", "next"]);
    // A cancelled job can be asked for again.
    assert_eq!(stage.submit(json!({ "prompt": "waiting" })).state, State::Waiting);
    stage.wait_for(&waiting.key, State::Done);
    stage.end(worker);
}

pub fn job_cancelled_at_its_end_is_not_counted_as_done(stage: Stage) {
    let worker = stage.worker(&Painter::default(), Duration::ZERO);
    let late = stage.submit(json!({ "prompt": "late", "drying": 1500 }));
    stage.wait_for(&late.key, State::Running);
    assert!(stage.runtime.block_on(stage.queue.cancel(&late.key)).unwrap());
    let next = stage.submit(json!({ "prompt": "next" }));
    stage.wait_for(&next.key, State::Done);
    assert_eq!(stage.find(&late.key).state, State::Cancelled);
    let metrics = worker.metrics.clone();
    stage.end(worker);
    let text = metrics.text();
    for (name, count) in [("begun", 2), ("done", 1), ("cancelled", 1)] {
        assert!(text.contains(&format!("worker_jobs_{name}_total {count}\n")), "{text}");
    }
}

pub fn failures_are_tried_again_if_that_helps(stage: Stage) {
    let painter = Painter::default();
    let worker = stage.worker(&painter, Duration::ZERO);
    let refused = stage.submit(json!({ "prompt": "refused", "do": "refuse" }));
    let refused = stage.wait_for(&refused.key, State::Failed);
    assert_eq!((refused.tries, refused.reason.as_str()), (1, "no such color"));
    for (what, reason) in [("trouble", "out of paint"), ("panic", "the worker has a fault")] {
        let poison = stage.submit(json!({ "prompt": what, "do": what }));
        let poison = stage.wait_for(&poison.key, State::Failed);
        assert_eq!(poison.tries, 3);
        assert!(poison.reason.starts_with(&format!("given up after 3 tries; the last one: {reason}")), "{poison:?}");
    }
    assert_eq!(painter.begun().len(), 7);
    let good = stage.submit(json!({ "prompt": "good" }));
    stage.wait_for(&good.key, State::Done);
    stage.end(worker);
}

pub fn ending_worker_gives_its_job_back(stage: Stage) {
    let (first, second) = (Painter::default(), Painter::default());
    let job = stage.submit(json!({ "prompt": "shared", "steps": 60, "millis": 50 }));
    let worker = stage.worker(&first, Duration::ZERO);
    stage.wait_for(&job.key, State::Running);
    stage.end(worker);
    let given = stage.find(&job.key);
    assert_eq!((given.state, given.tries), (State::Waiting, 0));
    let worker = stage.worker(&second, Duration::from_secs(60));
    stage.wait_for(&job.key, State::Running);
    // With time left, the worker finishes its job before it ends.
    stage.end(worker);
    let done = stage.find(&job.key);
    assert_eq!((done.state, done.tries), (State::Done, 1));
}

pub fn limits_refuse_jobs(stage: Stage) {
    let queue = stage.reopen(Settings { waiting: 2, job_bytes: 200, ..settings() });
    let submit = |owner: &str, prompt: &str| {
        let order = Order { owner: owner.into(), ..Order::new(MODEL, json!({ "prompt": prompt })) };
        stage.runtime.block_on(queue.submit(order))
    };
    submit("a", "1").unwrap();
    submit("a", "2").unwrap();
    let refused = submit("a", "3").unwrap_err().to_string();
    assert!(refused.starts_with("2 jobs of this user wait"), "{refused}");
    submit("a", "2").unwrap(); // this job waits already
    submit("b", "3").unwrap();
    let large = submit("b", &"x".repeat(300)).unwrap_err().to_string();
    assert!(large.contains("expected at most 200"), "{large}");
    let control = submit("a\nb", "4").unwrap_err().to_string();
    assert!(control.starts_with("the name of the user"), "{control}");
}

pub fn pictures_of_a_job_reach_the_painter(stage: Stage) {
    let painter = Painter::default();
    let picture = format!("data:image/png;base64,{}", "QUJD".repeat(200_000));
    let job = stage.submit(json!({ "prompt": "from a picture", "start": picture }));
    let worker = stage.worker(&painter, Duration::ZERO);
    stage.wait_for(&job.key, State::Done);
    let painted = stage.runtime.block_on(stage.queue.picture(&job.key, 0)).unwrap().unwrap();
    let painted: serde_json::Value = serde_json::from_slice(&painted).unwrap();
    assert_eq!(painted["start"], picture);
    stage.end(worker);
}

pub fn history_is_found_by_text_and_state(stage: Stage) {
    let boats = ["a 100% red boat", "a blue boat", "a_house"].map(|prompt| stage.submit(json!({ "prompt": prompt })));
    stage.runtime.block_on(stage.queue.cancel(&boats[1].key)).unwrap();
    let list = |filter: Filter| {
        let entries = stage.runtime.block_on(stage.queue.list(&filter)).unwrap();
        entries.into_iter().map(|entry| entry.title).collect::<Vec<_>>()
    };
    let text = |text: &str| list(Filter { text: text.into(), ..Filter::default() });
    assert_eq!(list(Filter::default()).len(), 3);
    assert_eq!(list(Filter { limit: 1, ..Filter::default() }), ["a_house"]);
    assert_eq!((text("boat").len(), text("0%").len(), text("%0").len(), text("a_").len()), (2, 1, 0, 1));
    assert_eq!(list(Filter { state: Some(State::Cancelled), ..Filter::default() }), ["a blue boat"]);
    assert!(list(Filter { owner: Some("x".into()), ..Filter::default() }).is_empty());
    assert!(list(Filter { before: Some(1), ..Filter::default() }).is_empty());
    let counts = stage.runtime.block_on(stage.queue.count()).unwrap();
    assert!(counts.contains(&(State::Waiting, 2)) && counts.contains(&(State::Cancelled, 1)), "{counts:?}");
}
