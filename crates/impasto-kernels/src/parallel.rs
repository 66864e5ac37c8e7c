//! Work in parts, which threads share.

use crate::pool::share;
use crate::serial::threads;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Calls `part` for each of `0..parts` on the kernels' threads, with memory of the thread.
pub(crate) fn each_with<S: Default>(parts: usize, part: impl Fn(usize, &mut S) + Sync) {
    each(parts, |parts| {
        let mut scratch = S::default();
        parts.for_each(|index| part(index, &mut scratch));
    });
}

/// Calls `work` on each of the kernels' threads. Each call takes items of `0..items` from its iterator until none are
/// left.
pub(crate) fn each(items: usize, work: impl Fn(&mut dyn Iterator<Item = usize>) + Sync) {
    let threads = threads().min(items);
    if threads < 2 {
        return work(&mut (0..items));
    }
    let next = AtomicUsize::new(0);
    share(threads - 1, &|| {
        let item = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&item| item < items);
        work(&mut std::iter::from_fn(item));
    });
}
