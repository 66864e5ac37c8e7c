//! Tests of the command line's ranges.

use std::process::{Command, Stdio};

#[test]
fn numbers_out_of_range_are_refused() {
    let lora = ["lora", "OUT", "--pictures", "PICTURES"];
    let cases: [(&[&str], &str, &str); 10] = [
        (&["unet", "OUT"], "--count=0", "1..=1048576"),
        (&["unet", "OUT"], "--count=99999999999", "1..=1048576"),
        (&["control", "OUT"], "--rate=nan", "a number above 0"),
        (&["control", "OUT"], "--rate=0", "a number above 0"),
        (&["control", "OUT"], "--crops=1.5", "a number from 0 to 1"),
        (&["control", "OUT"], "--offset-noise=inf", "a number from 0 to 1"),
        (&lora, "--rate=-1", "a number above 0"),
        (&lora, "--offset-noise=-0.1", "a number from 0 to 1"),
        (&lora, "--rank=0", "0 is not in 1.."),
        (&lora, "--alpha=inf", "a number above 0"),
    ];
    // All programs start before the first is read, because each takes a moment to load libtorch.
    let started = cases.map(|(part, option, expected)| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_impasto-train"));
        command.args(part).arg(option).stdout(Stdio::null()).stderr(Stdio::piped());
        (command.spawn().unwrap(), option, expected)
    });
    for (program, option, expected) in started {
        let output = program.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let name = option.split('=').next().unwrap();
        assert!(!output.status.success() && said.contains(name) && said.contains(expected), "{option}: {said}");
    }
}
