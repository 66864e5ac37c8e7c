//! Memory of a process.

use std::fs;

/// The value of a line of `/proc/self/status`, in bytes; NaN on systems other than Linux.
pub fn resident(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).map_or(f64::NAN, |kb: f64| 1024.0 * kb)
}
