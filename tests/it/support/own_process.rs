//! Tests that need a process of their own, for example to measure memory.

use std::{env, fs, process::Command};

/// The environment variable that marks a process which runs a single test.
const OWN_PROCESS: &str = "ACTIX_WEB_CACHE_TEST_OWN_PROCESS";

/// Runs the named test (`module::name`) again in a new process without other tests.
///
/// Returns true in the new process. Returns false in the process that started it, once it has ended.
pub(crate) fn runs_in_own_process(test: &str) -> bool {
    if env::var_os(OWN_PROCESS).is_some() {
        return true;
    }
    let child = Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(OWN_PROCESS, "yes")
        .output()
        .unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    // With a wrong name the process would run no test and succeed.
    let ran = child.status.success() && stdout.contains("1 passed");
    assert!(ran, "{test}, in a process of its own:\n{stdout}\n{stderr}");
    false
}

/// The resident memory of this process in bytes; 0 on systems other than Linux.
pub(crate) fn resident_bytes() -> usize {
    of_status("VmRSS:")
}

/// The peak of the resident memory of this process in bytes; 0 on systems other than Linux.
pub(crate) fn peak_resident_bytes() -> usize {
    of_status("VmHWM:")
}

fn of_status(name: &str) -> usize {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return 0 };
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
