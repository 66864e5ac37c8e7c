//! Tests of the queue and its workers, on SQLite and on PostgreSQL.
//!
//! Without PostgreSQL the tests on it count as ignored, and without libfaketime those of clocks that jump:
//! `sudo apt-get install postgresql faketime`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod clock;
mod crashes;
mod disk;
mod jobs;
mod network;
mod painter;
mod server;
mod stage;

use libtest_mimic::{Arguments, Trial};
use server::Server;
use stage::Stage;
use std::sync::{Arc, Mutex};

/// A test of a queue in any database.
type Test = (&'static str, fn(Stage));

const TESTS: [Test; 15] = [
    ("job_is_painted_once", jobs::job_is_painted_once),
    ("users_take_turns", jobs::users_take_turns),
    ("cancelled_job_ends_at_its_next_step", jobs::cancelled_job_ends_at_its_next_step),
    ("job_cancelled_at_its_end_is_not_counted_as_done", jobs::job_cancelled_at_its_end_is_not_counted_as_done),
    ("failures_are_tried_again_if_that_helps", jobs::failures_are_tried_again_if_that_helps),
    ("ending_worker_gives_its_job_back", jobs::ending_worker_gives_its_job_back),
    ("limits_refuse_jobs", jobs::limits_refuse_jobs),
    ("pictures_of_a_job_reach_the_painter", jobs::pictures_of_a_job_reach_the_painter),
    ("history_is_found_by_text_and_state", jobs::history_is_found_by_text_and_state),
    ("job_whose_workers_die_is_given_up", crashes::job_whose_workers_die_is_given_up),
    ("killed_workers_lose_no_job", crashes::killed_workers_lose_no_job),
    ("jobs_of_dead_workers_are_painted_once", crashes::jobs_of_dead_workers_are_painted_once),
    ("half_submitted_job_is_mended", crashes::half_submitted_job_is_mended),
    ("every_half_submitted_job_is_mended", crashes::every_half_submitted_job_is_mended),
    (FULL_DISK, disk::job_waits_for_room_on_the_disk),
];

/// The test that needs a file system of its own.
const FULL_DISK: &str = "job_waits_for_room_on_the_disk";

/// The tests of a queue on a server.
const ON_A_SERVER: [Test; 1] = [("cut_network_loses_no_job", network::cut_network_loses_no_job)];

fn main() {
    if let Some(address) = std::env::var_os(stage::WORKER) {
        return stage::work(&address.into_string().unwrap());
    }
    let arguments = Arguments::from_args();
    let programs = server::programs();
    if programs.is_none() {
        eprintln!("PostgreSQL is missing, so its tests are ignored: {}", server::INSTALL);
    }
    let has_disk = disk::can_be_mounted();
    if !has_disk {
        eprintln!("file systems cannot be mounted here, so the tests of a full disk are ignored");
    }
    let mut trials: Vec<Trial> = TESTS
        .iter()
        .map(|(name, test)| {
            Trial::test(*name, || {
                test(Stage::sqlite());
                Ok(())
            })
            .with_kind("sqlite")
            .with_ignored_flag(*name == FULL_DISK && !has_disk)
        })
        .collect();
    let server: Arc<Mutex<Option<Server>>> = Arc::default();
    for (name, test) in TESTS.into_iter().chain(ON_A_SERVER) {
        let (server, programs) = (Arc::clone(&server), programs.clone());
        let missing = programs.is_none();
        let trial = Trial::test(name, move || {
            let stage = {
                let mut server = server.lock().unwrap();
                let running = server.get_or_insert_with(|| Server::start(programs.unwrap()));
                Stage::postgres(running.database(name))
            };
            test(stage);
            Ok(())
        });
        let missing = missing || name == FULL_DISK && !has_disk;
        trials.push(trial.with_kind("postgres").with_ignored_flag(missing));
    }
    let clock = clock::library();
    if clock.is_none() {
        eprintln!("libfaketime is missing, so the tests of clocks are ignored: {}", clock::INSTALL);
    }
    let (library, missing) = (clock.clone(), clock.is_none());
    let jumping = Trial::test("jumping_clock_loses_no_job", move || {
        clock::jumping_clock_loses_no_job(&Stage::sqlite(), &library.unwrap());
        Ok(())
    });
    trials.push(jumping.with_kind("sqlite").with_ignored_flag(missing));
    let (postgres, missing) = (programs.clone(), missing || programs.is_none());
    let jumping = Trial::test("jumping_clock_of_the_server_loses_no_job", move || {
        clock::jumping_clock_of_the_server_loses_no_job(postgres.unwrap(), &clock.unwrap());
        Ok(())
    });
    trials.push(jumping.with_kind("postgres").with_ignored_flag(missing));
    let missing = programs.is_none();
    let killed = Trial::test("killed_server_loses_no_job", move || {
        crashes::killed_server_loses_no_job(Server::start(programs.unwrap()));
        Ok(())
    });
    trials.push(killed.with_kind("postgres").with_ignored_flag(missing));
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(server.lock().unwrap().take());
    conclusion.exit();
}
