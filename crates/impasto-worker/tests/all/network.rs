//! A network between workers and their database that is cut, that stalls, and that loses connections.

use crate::crashes::{check, number};
use crate::stage::{Program, Stage};
use impasto_worker::State;
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use url::Url;

/// The state of the network, and its changes.
#[derive(Default)]
struct Wire {
    state: Mutex<Condition>,
    changed: Condvar,
}

/// The state of the network.
#[derive(Default)]
struct Condition {
    is_cut: bool,
    is_stalled: bool,
    /// Number of times that all open connections were lost. A lost connection stays open and carries nothing.
    losses: usize,
    open: Vec<TcpStream>,
}

impl Wire {
    /// Waits until a connection carries bytes. A connection that was lost never does.
    fn wait(&self, losses: usize) {
        let waits = |state: &mut Condition| state.is_stalled || state.losses > losses;
        drop(self.changed.wait_while(self.state.lock().unwrap(), waits).unwrap());
    }

    /// Carries the bytes of one direction until an end closes.
    fn carry(&self, mut from: TcpStream, mut to: TcpStream, losses: usize) {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            self.wait(losses);
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        for end in [from, to] {
            let _ = end.shutdown(Shutdown::Both); // the other end may have closed it
        }
    }

    fn change(&self, change: impl FnOnce(&mut Condition)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }
}

/// A proxy in front of a server. Its threads end with the program.
struct Proxy {
    port: u16,
    wire: Arc<Wire>,
}

impl Proxy {
    fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, wire) = (listener.local_addr().unwrap().port(), Arc::<Wire>::default());
        let shared = Arc::clone(&wire);
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (near, mut state) = (near.unwrap(), shared.state.lock().unwrap());
                if state.is_cut {
                    continue;
                }
                let far = TcpStream::connect(("127.0.0.1", server)).unwrap();
                let ends = [(near.try_clone(), far.try_clone()), (far.try_clone(), near.try_clone())];
                for (from, to) in ends {
                    let (wire, losses) = (Arc::clone(&shared), state.losses);
                    std::thread::spawn(move || wire.carry(from.unwrap(), to.unwrap(), losses));
                }
                state.open.extend([near, far]);
            }
        });
        Self { port, wire }
    }

    /// Closes all connections, and refuses others for a while.
    fn cut(&self, time: Duration) {
        self.wire.change(|state| {
            state.is_cut = true;
            for end in state.open.drain(..) {
                let _ = end.shutdown(Shutdown::Both);
            }
        });
        std::thread::sleep(time);
        self.wire.change(|state| state.is_cut = false);
    }

    /// Holds all bytes back for a while.
    fn stall(&self, time: Duration) {
        self.wire.change(|state| state.is_stalled = true);
        std::thread::sleep(time);
        self.wire.change(|state| state.is_stalled = false);
    }

    /// Loses all connections: they stay open without a sign, as behind a router that has forgotten them.
    fn lose(&self) {
        self.wire.change(|state| state.losses += 1);
    }
}

pub fn cut_network_loses_no_job(stage: Stage) {
    let mut address = Url::parse(&stage.address).unwrap();
    let proxy = Proxy::start(address.port().unwrap());
    address.set_port(Some(proxy.port)).unwrap();
    let program = || Command::new(std::env::current_exe().unwrap());
    let mut workers: Vec<Program> = (0..2).map(|_| stage.program_by(program(), address.as_str())).collect();
    let (cuts, jobs) = (number("IMPASTO_KILLS", 3), number("IMPASTO_JOBS", 60));
    let mut keys = Vec::new();
    for cut in 0..cuts {
        let job = |number| json!({ "prompt": format!("job {number} of cut {cut}"), "steps": 4, "millis": 5 });
        let added: Vec<_> = (0..jobs.div_ceil(cuts)).map(|number| stage.submit(job(number)).key).collect();
        // The workers have found the way back by themselves after the cut before.
        stage.wait_for(&added[0], State::Done);
        assert_ne!(stage.find(added.last().unwrap()).state, State::Done, "the cut comes too late");
        match cut % 3 {
            0 => proxy.lose(),
            1 => proxy.cut(Duration::from_millis(800)),
            _ => proxy.stall(Duration::from_millis(2500)), // longer than a lease
        }
        keys.extend(added);
    }
    check(&stage, &keys, &mut []);
    assert!(workers.iter_mut().all(|worker| !worker.has_ended()));
}
