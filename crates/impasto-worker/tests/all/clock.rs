//! Machines whose clocks jump, ahead and back.

use crate::crashes::{check, submit};
use crate::server::{Server, open_to_all};
use crate::stage::{Program, Stage};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// The way to install what the tests need.
pub const INSTALL: &str = "sudo apt-get install faketime";

/// The jumps of a clock, each in seconds from the true time. One clock is a day ahead and is set back while a worker's
/// last sign of life is of that day.
const JUMPS: [&str; 4] = ["+3600", "+86400", "-60", "+0"];

/// Returns the file of libfaketime, a library that gives programs a clock of their own; `None` if it is not installed.
pub fn library() -> Option<PathBuf> {
    let systems = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    systems.map(|system| system.path().join("faketime/libfaketimeMT.so.1")).find(|file| file.is_file())
}

/// A clock that the test sets.
struct Clock {
    library: PathBuf,
    folder: TempDir,
}

impl Clock {
    fn new(library: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        open_to_all(folder.path());
        let clock = Self { library: library.into(), folder };
        clock.set("+0");
        clock
    }

    /// Sets the clock to a distance from the true time.
    fn set(&self, distance: &str) {
        let file = self.folder.path().join("next");
        fs::write(&file, distance).unwrap();
        fs::rename(file, self.folder.path().join("distance")).unwrap();
    }

    /// The variables that give a program this clock. Its clock of durations stays the true one, as on a machine whose
    /// time is set.
    fn variables(&self) -> [(&'static str, PathBuf); 4] {
        [
            ("LD_PRELOAD", self.library.clone()),
            ("FAKETIME_TIMESTAMP_FILE", self.folder.path().join("distance")),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }
}

/// Lets the clock jump, each time just after a worker was killed.
fn jump(stage: &Stage, clock: &Clock, begin: impl Fn() -> Program) {
    let keys = submit(stage);
    let mut workers = vec![begin(), begin()];
    for (number, distance) in JUMPS.iter().enumerate() {
        std::thread::sleep(Duration::from_millis(400));
        workers[number % 2] = begin(); // the worker before is killed
        clock.set(distance);
    }
    check(stage, &keys, &mut workers);
}

/// The clock of a machine with SQLite, which is that of its workers.
pub fn jumping_clock_loses_no_job(stage: &Stage, library: &Path) {
    let clock = Clock::new(library);
    jump(stage, &clock, || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.envs(clock.variables());
        stage.program_by(command, &stage.address)
    });
}

/// The clock of PostgreSQL's machine.
pub fn jumping_clock_of_the_server_loses_no_job(programs: PathBuf, library: &Path) {
    let clock = Clock::new(library);
    let server = Server::start_with(programs, clock.variables().into());
    let stage = Stage::postgres(server.database("clock"));
    jump(&stage, &clock, || stage.program());
}
