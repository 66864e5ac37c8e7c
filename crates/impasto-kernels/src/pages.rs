//! Pages of memory.

use tch::Tensor;

/// Asks the system to put a new contiguous tensor, whose memory is not written yet, on large pages. The processor finds
/// their addresses faster: it looks up a page for each row of a weight. If the system refuses, the pages stay small.
#[cfg(target_os = "linux")]
pub(crate) fn enlarge(tensor: &Tensor) {
    /// Bytes of a large page on x86-64.
    const LARGE: usize = 2 << 20;

    let start = tensor.data_ptr() as usize;
    let end = start + tensor.numel() * tensor.kind().elt_size_in_bytes();
    let (first, last) = (start.next_multiple_of(LARGE), end / LARGE * LARGE);
    if first < last {
        // SAFETY: the range is memory of the tensor. The advice changes no bytes.
        unsafe { libc::madvise(first as *mut libc::c_void, last - first, libc::MADV_HUGEPAGE) };
    }
}

/// Leaves the tensor as it is, because other systems choose pages by themselves.
#[cfg(not(target_os = "linux"))]
pub(crate) fn enlarge(_: &Tensor) {}
