//! Tests of runs whose seeds are the jobs of a queue.

use crate::*;

use mock::{Mock, MockJudge, plan};
use spread::Place;

/// Runs a plan by the queue in a folder, as the machine `name`. Returns the progress and the machine's records.
fn spread_by(
    folder: &Path,
    name: &str,
    plan: &Plan<'_>,
    mock: Mock,
) -> Result<(runner::Progress, Vec<Record>), Failure> {
    let path = |file: &str| folder.join(file);
    let place = Place::open(&format!("sqlite:{}", path("queue.db").display()), &path("store").display().to_string())?;
    let (mut records, known) = Records::open(&path(name))?;
    let bench = || Ok((mock, MockJudge));
    let progress = spread::run(plan, &known, &mut records, &place, bench, |_, _| Ok(()))?;
    Ok((progress, record::read(&path(name))?))
}

/// Records of a plan in an order that does not depend on machines, without times.
fn figures(records: Vec<Record>, plan: &Plan<'_>) -> Vec<Record> {
    let timeless = |record| Record { ms: 0.0, ms_unforced: None, ..record };
    of_maker(records, &plan.made).into_iter().map(timeless).collect()
}

#[test]
fn figures_of_two_machines_are_those_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let suite = Suite::new("public", 0);
    let plan = plan(&suite, &[Method::Unforced, Method::Exact, Method::Pww, Method::PwwOff, Method::Image]);
    let alone = figures(mock::ran(&plan, folder.path(), Mock::Perfect), &plan);
    assert_eq!(alone.iter().map(|record| record.wanted).collect::<HashSet<_>>().len(), 3);
    let machines = ["one.jsonl", "two.jsonl"];
    let both = std::thread::scope(|scope| {
        let (folder, plan) = (folder.path(), &plan);
        let run = |name| scope.spawn(move || spread_by(folder, name, plan, Mock::Perfect).unwrap());
        machines.map(run).map(|machine| machine.join().unwrap())
    });
    for (progress, records) in both {
        assert_eq!((progress.seeds, progress.stopped), (3, false));
        assert_eq!(records.len(), alone.len());
        assert_eq!(figures(records, &plan), alone);
    }
    // Records that a machine has are not added again, and another plan has jobs of its own.
    let (_, records) = spread_by(folder.path(), machines[0], &plan, Mock::Fails).unwrap();
    assert_eq!(figures(records, &plan), alone);
    let other = Plan { choice: Choice { tasks: vec![Task::Named], ..plan.choice.clone() }, ..plan };
    let (_, records) = spread_by(folder.path(), "three.jsonl", &other, Mock::Fails).unwrap();
    assert!(records.iter().any(|record| record.status == Status::Failed));
}

#[test]
fn run_without_a_number_of_seeds_has_no_jobs() {
    let folder = tempfile::tempdir().unwrap();
    let suite = Suite::new("public", 0);
    let plan = Plan { seeds: Seeds::Within(Duration::from_secs(60)), ..plan(&suite, &[Method::Unforced]) };
    let error = spread_by(folder.path(), "runs.jsonl", &plan, Mock::Perfect).unwrap_err().to_string();
    assert!(error.contains("a queue needs a number of seeds"), "{error}");
}
