//! Work shared among libtorch's own threads.

use std::ffi::c_void;
#[cfg(target_os = "linux")]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// OpenMP's entry for a parallel region: calls `body(data)` on `threads` threads and waits for all of them.
type Region = unsafe extern "C" fn(body: extern "C" fn(*mut c_void), data: *mut c_void, threads: u32, flags: u32);

/// Returns the entry of the OpenMP library that this process has loaded, which is libtorch's; `None` if there is none.
#[cfg(target_os = "linux")]
fn region() -> Option<Region> {
    static REGION: OnceLock<Option<Region>> = OnceLock::new();
    *REGION.get_or_init(|| {
        // SAFETY: the name is a C string. A library that exports it implements GNU's OpenMP interface, whose function
        // has this signature.
        unsafe {
            let found = libc::dlsym(libc::RTLD_DEFAULT, c"GOMP_parallel".as_ptr());
            (!found.is_null()).then(|| std::mem::transmute::<*mut c_void, Region>(found))
        }
    })
}

/// Returns `None`: the library of other systems has other entries.
#[cfg(not(target_os = "linux"))]
fn region() -> Option<Region> {
    None
}

/// Returns the number of libtorch's threads.
pub(crate) fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1)
}

/// Returns true if work can be shared among libtorch's threads. Otherwise one thread does all of it.
pub(crate) fn is_shared() -> bool {
    region().is_some()
}

/// The work of a parallel region.
struct Shared<'a, W> {
    next: AtomicUsize,
    items: usize,
    work: &'a W,
}

/// Takes items until none are left.
extern "C" fn take<W: Fn(&mut dyn Iterator<Item = usize>) + Sync>(data: *mut c_void) {
    // SAFETY: `each` passes its `Shared`, which lives until the region ends.
    let shared = unsafe { &*data.cast::<Shared<'_, W>>() };
    let mut items = std::iter::from_fn(|| {
        let item = shared.next.fetch_add(1, Ordering::Relaxed);
        (item < shared.items).then_some(item)
    });
    (shared.work)(&mut items);
}

/// Calls `part` for each of `0..parts` on libtorch's threads, with memory of the thread.
pub(crate) fn each_with<S: Default>(parts: usize, part: impl Fn(usize, &mut S) + Sync) {
    each(parts, |parts| {
        let mut scratch = S::default();
        parts.for_each(|index| part(index, &mut scratch));
    });
}

/// Calls `work` once on each of libtorch's threads. Each call takes items of `0..items` from its iterator until none
/// are left.
pub(crate) fn each<W: Fn(&mut dyn Iterator<Item = usize>) + Sync>(items: usize, work: W) {
    let threads = threads().min(items);
    match region().filter(|_| threads > 1) {
        None => work(&mut (0..items)),
        Some(region) => {
            let shared = Shared { next: AtomicUsize::new(0), items, work: &work };
            // SAFETY: `take` reads `shared` as what it is, and the region has ended before `shared` is dropped.
            unsafe { region(take::<W>, (&raw const shared).cast_mut().cast(), threads as u32, 0) };
        }
    }
}
