//! Answers before libtorch starts.
//!
//! The dynamic linker runs libtorch's initializers, which take .4 s, before `main`. Functions that the program lists in
//! its `.preinit_array` run before the initializers of any library. The function below gives the answers that need no
//! libtorch, such as help and the errors of a wrong command line.

#![expect(unsafe_code, reason = "the linker section, the arguments as the dynamic linker passes them, and a signal")]

use super::arguments::Command;
use super::carry_out;
use std::ffi::{CStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;
use std::process::exit;

#[used]
#[unsafe(link_section = ".preinit_array")]
static BEFORE_LIBRARIES: extern "C" fn(c_int, *const *const c_char, *const *const c_char) = answer;

unsafe extern "C" {
    /// The variables of the environment, which the C library sets only after this function.
    static mut environ: *const *const c_char;
}

/// Ends the process if its command line is answered without libtorch.
extern "C" fn answer(count: c_int, words: *const *const c_char, variables: *const *const c_char) {
    let word = |index: c_int| {
        // SAFETY: the dynamic linker passes the arguments of `main`: an array of `count` texts that end with 0. The
        // standard library knows them only after the initializers.
        let word = unsafe { CStr::from_ptr(*words.offset(index as isize)) };
        OsString::from_vec(word.to_bytes().to_vec())
    };
    let words: Vec<_> = (0..count).map(word).collect();
    // SAFETY: no other thread is there yet. The dynamic linker passes the variables as the C library will have them. An
    // option may be given by a variable.
    unsafe { environ = variables };
    // SAFETY: no other thread is there yet. Rust ignores this signal from `main` on, so that writing to a closed pipe
    // is an error, which ends the program without a word.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    if let Some(status) =
        carry_out(&words, |command| matches!(command, Command::Completions { .. } | Command::Man { .. }))
    {
        exit(status.into());
    }
}
