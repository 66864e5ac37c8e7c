//! [`Server`]: a PostgreSQL of the tests, on a free port and in a folder of its own.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The way to install what the tests need.
pub const INSTALL: &str = "sudo apt-get install postgresql";

/// Returns the folder of PostgreSQL's programs; `None` if PostgreSQL is not installed.
pub fn programs() -> Option<PathBuf> {
    let has = |folder: &PathBuf| ["initdb", "postgres", "createdb"].iter().all(|name| folder.join(name).is_file());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    folders.extend(debian.map(|version| version.path().join("bin")));
    folders.into_iter().find(has)
}

/// A PostgreSQL that can be killed and started again. It ends with the value.
pub struct Server {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
    /// Variables of the server's environment.
    variables: Vec<(&'static str, PathBuf)>,
    child: Option<Child>,
}

impl Server {
    /// Makes a database and starts its server.
    pub fn start(programs: PathBuf) -> Self {
        Self::start_with(programs, Vec::new())
    }

    /// Makes a database and starts its server with variables in its environment.
    pub fn start_with(programs: PathBuf, variables: Vec<(&'static str, PathBuf)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { programs, folder, port, variables, child: None };
        let data = server.data();
        fs::create_dir(&data).unwrap();
        // PostgreSQL refuses to run as root.
        if let Some((user, group)) = other_user() {
            std::os::unix::fs::chown(&data, Some(user), Some(group)).unwrap();
            open_to_all(server.folder.path());
        }
        let made =
            server.command("initdb").args(["-U", "tests", "-A", "trust", "-N", "-D"]).arg(&data).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.run();
        server
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir("/").stdin(Stdio::null());
        if let Some((user, group)) = other_user() {
            command.uid(user).gid(group);
        }
        command
    }

    /// Starts the server, and waits until it answers.
    pub fn run(&mut self) {
        let port = self.port.to_string();
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &port, "-c", "listen_addresses=127.0.0.1"]);
        command.args(["-c", "unix_socket_directories=", "-c", "max_connections=200"]);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let begun = Instant::now();
        while !self.psql(&["-c", "SELECT 1", "postgres"]) {
            assert!(begun.elapsed() < Duration::from_secs(30), "PostgreSQL does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn psql(&self, arguments: &[&str]) -> bool {
        let mut command = self.command("psql");
        command.args(["-h", "127.0.0.1", "-U", "tests", "-p", &self.port.to_string()]).args(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    /// Makes a database, and returns its address.
    pub fn database(&self, name: &str) -> String {
        assert!(self.psql(&["-c", &format!("CREATE DATABASE {name}"), "postgres"]), "{name}");
        format!("postgres://tests@127.0.0.1:{}/{name}", self.port)
    }

    /// Kills the server and its processes at once, as a machine that fails does.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let id = child.id();
        child.kill().unwrap();
        child.wait().unwrap();
        // The server's processes end once they see that it is gone; the next server waits for their memory.
        let begun = Instant::now();
        let is_alive =
            || Command::new("pgrep").args(["-P", &id.to_string()]).output().is_ok_and(|out| !out.stdout.is_empty());
        while is_alive() && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
        fs::remove_file(self.data().join("postmaster.pid")).unwrap_or_default();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns a user and a group for PostgreSQL if the tests run as root: those of the first user of Debian's package.
fn other_user() -> Option<(u32, u32)> {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.starts_with(b"0\n"));
    if !is_root {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("PostgreSQL's user");
    let mut numbers = line.split(':').skip(2).map(|number| number.parse().unwrap());
    Some((numbers.next().unwrap(), numbers.next().unwrap()))
}

/// Lets every user enter a folder.
pub fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
}
