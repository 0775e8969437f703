//! Measuring what belongs to a whole process: its memory, its log.

use std::{env, fs, process::Command};

/// Set in the process that runs one test only.
const ALONE: &str = "ACTIX_WEB_CACHE_TEST_ALONE";

/// Runs the named test (`room::name`) once more in a process of its own, where no other test is in
/// the way. True there; false in the process that waited for it, where nothing is left to do.
pub(crate) fn is_alone(test: &str) -> bool {
    if env::var_os(ALONE).is_some() {
        return true;
    }
    let child = Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, "yes")
        .output()
        .unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    // A name that is nobody's would run nothing, and succeed.
    let ran = child.status.success() && stdout.contains("1 passed");
    assert!(ran, "{test}, in a process of its own:\n{stdout}\n{stderr}");
    false
}

/// Bytes of memory this process has now; always 0 where the system is not Linux.
pub(crate) fn resident() -> usize {
    of_status("VmRSS:")
}

/// Bytes of memory this process had at most; always 0 where the system is not Linux.
pub(crate) fn peak_resident() -> usize {
    of_status("VmHWM:")
}

fn of_status(name: &str) -> usize {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return 0 };
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
