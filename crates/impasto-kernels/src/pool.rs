//! The threads that help with the kernels' work.
//!
//! OpenMP's threads, which libtorch uses, spin for milliseconds before they sleep. Beside another program, a thread
//! that spins holds the processor which the thread that it waits for would need, and a picture takes several times as
//! long. The threads here spin for microseconds, which is as long as the pauses between a network's layers, and then
//! sleep.

use std::any::Any;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Time for which a thread spins before it sleeps. Waking a thread takes about as long.
const PATIENCE: Duration = Duration::from_micros(50);
/// Number of looks at a condition between two looks at the clock.
const LOOKS: u32 = 64;

/// The helpers of this process.
static POOL: Pool = Pool { state: Mutex::new(State::NEW), wake: Condvar::new(), places: AtomicUsize::new(0) };

struct Pool {
    state: Mutex<State>,
    /// Wakes helpers that sleep.
    wake: Condvar,
    /// Number of places for helpers in all jobs. Helpers that spin watch it.
    places: AtomicUsize,
}

struct State {
    open: Vec<Open>,
    /// Number of threads that have been started.
    helpers: usize,
    /// Number of threads that sleep.
    asleep: usize,
}

impl State {
    const NEW: Self = Self { open: Vec::new(), helpers: 0, asleep: 0 };
}

/// A job that helpers may join.
struct Open {
    job: *const Job<'static>,
    places: usize,
}

// SAFETY: `Job` is shared among threads, and it outlives its stay in the pool.
unsafe impl Send for Open {}

/// Work that several threads do at once.
struct Job<'w> {
    work: &'w (dyn Fn() + Sync),
    /// Number of helpers that have joined and not ended.
    helping: AtomicUsize,
    caller: Thread,
    /// The panic of a helper.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Calls `work` on this thread, and at the same time on up to `helpers` other threads. Returns when all calls have
/// ended. There are fewer calls while helpers do other work, and if the system refuses threads.
pub(crate) fn share(helpers: usize, work: &(dyn Fn() + Sync)) {
    let (caller, helping) = (thread::current(), AtomicUsize::new(0));
    let job = Job { work, helping, caller, panic: Mutex::new(None) };
    {
        // SAFETY: only the lifetime changes. Helpers use the job until `Stay` is dropped, which waits for them.
        let job = unsafe { std::mem::transmute::<*const Job<'_>, *const Job<'static>>(&raw const job) };
        let _stay = POOL.open(job, helpers);
        work();
    }
    if let Some(panic) = lock(&job.panic).take() {
        resume_unwind(panic);
    }
}

/// Locks a mutex, also after a panic, because no code that can panic runs under a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Spins until a condition is met. Returns false if that takes too long.
fn spin_until(met: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        for _ in 0..LOOKS {
            if met() {
                return true;
            }
            spin_loop();
        }
        if begun.elapsed() > PATIENCE {
            return false;
        }
    }
}

/// A job's stay in the pool. When it is dropped, helpers can no longer join, and those that have joined are awaited.
struct Stay(*const Job<'static>);

impl Drop for Stay {
    fn drop(&mut self) {
        POOL.close(self.0);
        // SAFETY: `share` drops the job after this.
        let helping = unsafe { &(*self.0).helping };
        let ended = || helping.load(Ordering::Acquire) == 0;
        if !spin_until(ended) {
            while !ended() {
                thread::park();
            }
        }
    }
}

impl Pool {
    /// Lets helpers join a job.
    fn open(&'static self, job: *const Job<'static>, places: usize) -> Stay {
        let mut state = lock(&self.state);
        while state.helpers < places {
            let thread = thread::Builder::new().name("impasto-kernels".into());
            if thread.spawn(|| self.help()).is_err() {
                break;
            }
            state.helpers += 1;
        }
        state.open.push(Open { job, places });
        self.places.fetch_add(places, Ordering::Relaxed);
        if places >= state.asleep {
            self.wake.notify_all();
        } else {
            (0..places).for_each(|_| self.wake.notify_one());
        }
        Stay(job)
    }

    /// Lets no more helpers join a job.
    fn close(&self, job: *const Job<'static>) {
        let mut state = lock(&self.state);
        if let Some(at) = state.open.iter().position(|open| std::ptr::eq(open.job, job)) {
            self.places.fetch_sub(state.open.remove(at).places, Ordering::Relaxed);
        }
    }

    /// Joins a job, if one has a place.
    fn join(&self, state: &mut State) -> Option<*const Job<'static>> {
        let open = state.open.iter_mut().find(|open| open.places > 0)?;
        open.places -= 1;
        self.places.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: a job in the pool is alive. From here on, the end of its stay waits for this helper.
        unsafe { (*open.job).helping.fetch_add(1, Ordering::Relaxed) };
        Some(open.job)
    }

    /// Helps with jobs for as long as the process lives.
    fn help(&self) {
        loop {
            spin_until(|| self.places.load(Ordering::Relaxed) > 0);
            let mut state = lock(&self.state);
            let job = loop {
                match self.join(&mut state) {
                    Some(job) => break job,
                    None => {
                        state.asleep += 1;
                        state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                        state.asleep -= 1;
                    }
                }
            };
            drop(state);
            // SAFETY: this helper has joined the job.
            unsafe { help_with(job) };
        }
    }
}

/// Calls the work of a job.
///
/// # Safety
/// The helper has joined the job.
unsafe fn help_with(job: *const Job<'static>) {
    // SAFETY: the job is alive until its last helper has left.
    let job = unsafe { &*job };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(job.work)) {
        *lock(&job.panic) = Some(panic);
    }
    let caller = job.caller.clone();
    // After this, the job may be gone.
    if job.helping.fetch_sub(1, Ordering::AcqRel) == 1 {
        caller.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Barrier;

    #[test]
    fn callers_and_helpers_work_at_the_same_time() {
        // Each call waits for the others.
        let (all, threads) = (Barrier::new(3), Mutex::new(HashSet::new()));
        share(2, &|| {
            lock(&threads).insert(thread::current().id());
            all.wait();
        });
        let threads = lock(&threads);
        assert!(threads.len() == 3 && threads.contains(&thread::current().id()));
    }

    #[test]
    fn many_callers_at_once_get_all_of_their_work_done() {
        thread::scope(|scope| {
            for caller in 0..4 {
                scope.spawn(move || {
                    for round in 0..200 {
                        let (next, sum) = (AtomicUsize::new(0), AtomicUsize::new(0));
                        share(caller % 3, &|| {
                            while let Some(item) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&item| item < 50)
                            {
                                sum.fetch_add(item * round, Ordering::Relaxed);
                            }
                        });
                        assert_eq!(sum.into_inner(), 1225 * round);
                    }
                });
            }
        });
    }

    #[test]
    fn panic_of_a_helper_reaches_the_caller() {
        let (caller, both) = (thread::current().id(), Barrier::new(2));
        let work = || {
            both.wait();
            assert!(thread::current().id() == caller, "a helper fails");
        };
        let panic = catch_unwind(AssertUnwindSafe(|| share(1, &work))).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"a helper fails"));
        callers_and_helpers_work_at_the_same_time(); // helpers outlive a panic
    }
}
