//! Counts the user-space instructions of a request with valgrind's callgrind. The load of the
//! machine does not affect the counts.

use std::{env, fs, io, path::PathBuf};

use crate::{
    cases::Case,
    check, store,
    support::{Load, Server},
};

/// The numbers of requests of the two runs of a server. The difference of their instructions does not
/// include the start of the server.
const FEW: u64 = 1000;
const MANY: u64 = 4000;

/// Valgrind counts an instruction that repeats itself once for each byte. With these settings, glibc
/// fills and copies memory without such instructions, as it does on processors that lack them.
const TUNABLES: &str = "glibc.cpu.x86_rep_stosb_threshold=1073741824\
    :glibc.cpu.x86_rep_movsb_threshold=1073741824";

/// Counts the instructions of a request to a server. Writes the profile into `folder` if there is
/// one.
pub(crate) fn count(
    case: Case,
    variables: &[(&str, String)],
    folder: Option<&str>,
) -> io::Result<f64> {
    let folder = folder.map_or_else(env::temp_dir, PathBuf::from);
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{}-{}.callgrind", case.name, std::process::id()));
    let mut variables = variables.to_vec();
    variables.push(("GLIBC_TUNABLES", TUNABLES.to_owned()));
    let total = |count| {
        let out = format!("--callgrind-out-file={}", file.display());
        let valgrind = ["valgrind", "-q", "--tool=callgrind", &out];
        let server = Server::start_under(&valgrind, case.name, &variables);
        let load = Load::new(case.connections());
        store(&load, &server, case);
        load.requests_for_count(server.addr, count, move |n| case.request(n));
        check(&load, &server, &case);
        server.interrupt()?;
        let profile = fs::read_to_string(&file)?;
        let total = profile.lines().find_map(|line| line.strip_prefix("totals: "));
        total
            .and_then(|total| total.parse::<u64>().ok())
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    };
    let (few, many): (io::Result<u64>, io::Result<u64>) = (total(FEW), total(MANY));
    if folder == env::temp_dir() {
        fs::remove_file(&file)?;
    }
    Ok((many? - few?) as f64 / (MANY - FEW) as f64)
}
