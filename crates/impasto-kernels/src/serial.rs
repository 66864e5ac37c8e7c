//! Operations of libtorch on one thread, among kernels on several.

use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    /// Number of threads of the kernels that this thread calls, while a [`SerialLibtorch`] lives.
    static THREADS: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Returns the number of threads of the kernels: libtorch's number of threads, as
/// [`set_num_threads`](tch::set_num_threads) sets it.
pub(crate) fn threads() -> usize {
    THREADS.get().unwrap_or_else(libtorch_threads)
}

fn libtorch_threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1)
}

/// While this value lives, libtorch's own operations run on the calling thread alone, and the kernels on as many
/// threads as before.
///
/// Among kernels, libtorch's operations are small. Its threads would spin for milliseconds after each operation, on the
/// processors that the kernels' threads need. On systems other than Linux, and for a libtorch with another library than
/// GNU's or LLVM's for OpenMP, nothing changes.
///
/// ```
/// use tch::{Device, Kind, Tensor};
///
/// let threads = tch::get_num_threads();
/// {
///     let _serial = impasto_kernels::SerialLibtorch::begin();
///     let x = Tensor::f_randn([512, 512], (Kind::Float, Device::Cpu))?;
///     let _ = x.f_matmul(&x)?; // on this thread
/// }
/// assert_eq!(tch::get_num_threads(), threads);
/// # Ok::<(), tch::TchError>(())
/// ```
#[derive(Debug)]
#[must_use = "libtorch's threads work again when this value is dropped"]
pub struct SerialLibtorch {
    /// The settings of OpenMP and of MKL before; `None` inside another such value.
    before: Option<[i32; 2]>,
    /// The settings are those of this thread.
    thread: PhantomData<*const ()>,
}

impl SerialLibtorch {
    /// Begins.
    pub fn begin() -> Self {
        let before = THREADS.get().is_none().then(|| {
            let threads = libtorch_threads();
            THREADS.set(Some(threads));
            set([1; 2], threads)
        });
        Self { before, thread: PhantomData }
    }
}

impl Drop for SerialLibtorch {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            THREADS.set(None);
            set(before, 1);
        }
    }
}

/// Sets the threads of OpenMP and of MKL for the operations that this thread calls. Returns the settings before, where
/// OpenMP had `threads`.
#[cfg(target_os = "linux")]
fn set([openmp, mkl]: [i32; 2], threads: usize) -> [i32; 2] {
    use std::mem::transmute;
    use std::sync::OnceLock;

    /// Functions of the libraries that this process has loaded.
    #[derive(Clone, Copy)]
    struct Setters {
        openmp: Option<unsafe extern "C" fn(i32)>,
        mkl: Option<unsafe extern "C" fn(i32) -> i32>,
    }
    static SETTERS: OnceLock<Setters> = OnceLock::new();
    let setters = *SETTERS.get_or_init(|| {
        let find = |name: &std::ffi::CStr| {
            // SAFETY: the name is a C string.
            let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
            (!found.is_null()).then_some(found)
        };
        // SAFETY: functions of these names have these signatures.
        unsafe {
            Setters {
                openmp: find(c"omp_set_num_threads").map(|found| transmute(found)),
                mkl: find(c"MKL_Set_Num_Threads_Local").map(|found| transmute(found)),
            }
        }
    });
    // SAFETY: the functions take any number above 0, and MKL's takes 0, for its global setting.
    unsafe {
        if let Some(set) = setters.openmp {
            set(openmp);
        }
        [threads as i32, setters.mkl.map_or(0, |set| set(mkl))]
    }
}

/// Leaves the threads as they are.
#[cfg(not(target_os = "linux"))]
fn set(_: [i32; 2], threads: usize) -> [i32; 2] {
    [threads as i32, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_is_serial_and_kernels_are_not() {
        let before = tch::get_num_threads();
        tch::set_num_threads(3);
        {
            let _outer = SerialLibtorch::begin();
            {
                let _inner = SerialLibtorch::begin();
                assert_eq!(threads(), 3);
            }
            assert_eq!(threads(), 3);
            assert_eq!(tch::get_num_threads(), if cfg!(target_os = "linux") { 1 } else { 3 });
            let elsewhere = std::thread::spawn(|| (threads(), tch::get_num_threads())).join().unwrap();
            assert_eq!(elsewhere, (3, 3), "threads of the program that begin now are not serial");
        }
        assert_eq!((threads(), tch::get_num_threads()), (3, 3));
        tch::set_num_threads(before);
    }
}
