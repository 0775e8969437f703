//! Real files: the documentation on this machine, served by Python's HTTP server through the reverse
//! proxy example.

use std::{
    fmt::Write as _,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use futures_util::{FutureExt as _, StreamExt as _, stream};

use crate::support::{Answer, Client, Program, Protocol, Proxy};

/// The default size limit of stored bodies.
const MAX_BODY: u64 = 2 * 1024 * 1024;

/// The largest and the smallest number of files to compare.
const MAX_FILES: usize = 400;
const MIN_FILES: usize = 100;

/// A file, and the path of its URL.
struct Page {
    file: PathBuf,
    path: String,
}

/// A directory with at least [`MIN_FILES`] files, and a selection of them.
fn pages() -> (PathBuf, Vec<Page>) {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    let sysroot = sysroot.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    let toolchain = sysroot.map(|sysroot| Path::new(sysroot.trim()).join("share/doc"));
    let shared = ["/usr/share/doc", "/usr/share"].map(PathBuf::from);
    let candidates = shared[..1].iter().cloned().chain(toolchain).chain(shared[1..].to_vec());
    for root in candidates {
        let mut files = Vec::new();
        collect(&root, &mut files);
        if files.len() >= MIN_FILES {
            files.sort_unstable();
            let pages = select(files.into_iter().map(|file| page(&root, file)).collect());
            return (root, pages);
        }
    }
    panic!("no directory with {MIN_FILES} files");
}

/// Adds the readable files below a directory, without symbolic links and files over the size limit.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(kind) = entry.metadata() else { continue };
        if kind.is_dir() {
            collect(&entry.path(), files);
        } else if kind.is_file() && kind.len() <= MAX_BODY && fs::File::open(entry.path()).is_ok() {
            files.push(entry.path());
        }
    }
}

/// The page of a file. All characters but letters, digits and `/-._~` are percent-encoded in its path.
fn page(root: &Path, file: PathBuf) -> Page {
    let mut path = "/".to_owned();
    for &byte in file.strip_prefix(root).unwrap().as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            write!(path, "%{byte:02X}").unwrap();
        }
    }
    Page { file, path }
}

/// Selects pages whose paths have percent-encoding, and fills up with others from the whole tree.
fn select(pages: Vec<Page>) -> Vec<Page> {
    let (mut selected, others): (Vec<_>, Vec<_>) =
        pages.into_iter().partition(|page| page.path.contains('%'));
    selected.truncate(MAX_FILES / 2);
    let step = others.len().div_ceil(MAX_FILES - selected.len()).max(1);
    selected.extend(others.into_iter().step_by(step));
    selected
}

/// Requests all pages, eight at a time, and compares each body with its file.
async fn compare(client: &Client, pages: &[Page], check: impl Fn(&Answer)) {
    let answers =
        stream::iter(pages).map(|page| client.get(&page.path).map(move |answer| (page, answer)));
    let mut answers = answers.buffer_unordered(8);
    while let Some((Page { file, path }, answer)) = answers.next().await {
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body == fs::read(file).unwrap(), "{path} differs from its file");
        check(&answer);
    }
}

#[actix_web::test]
async fn real_files_are_fetched_once_and_served_unchanged() {
    let (root, pages) = pages();
    assert!(pages.len() >= MIN_FILES, "{} files of {root:?}", pages.len());
    // `exec` replaces the shell, so that stopping the program stops Python.
    let serve = "exec python3 -u -m http.server --bind 127.0.0.1 0 2>&1";
    let python = Program::start(Command::new("sh").args(["-c", serve]).current_dir(&root));
    let greeting = python.line();
    let url = greeting.split_once("http://").and_then(|(_, rest)| rest.split_once('/'));
    let (addr, _) = url.expect(&greeting);
    let proxy = Proxy::of(addr.parse().unwrap(), &["--memory-bytes", "1073741824"]);

    let client = Client::new(proxy.addr, Protocol::Http1);
    compare(&client, &pages, |answer| assert!(answer.is_stored(), "{}", answer.cache_status()))
        .await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let client = Client::new(proxy.addr, protocol);
        compare(&client, &pages, |answer| assert!(answer.is_hit(), "{}", answer.cache_status()))
            .await;
    }
    // Python logs each request in a line before it responds.
    let log = python.stop();
    let requests = log.iter().filter(|line| line.contains("\"GET /")).count();
    assert_eq!(requests, pages.len(), "requests that reached the origin");
}
