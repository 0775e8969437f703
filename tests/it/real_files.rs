//! Real input: a machine's documentation, served by a program that others wrote, through the
//! reverse proxy example.

use std::{
    fmt::Write as _,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use futures_util::{FutureExt as _, StreamExt as _, stream};

use crate::support::{Answer, Client, Program, Protocol, Proxy};

/// What the cache stores at most of one body.
const MAX_BODY: u64 = 2 * 1024 * 1024;

/// Files to compare at most, and at least.
const MOST: usize = 400;
const LEAST: usize = 100;

/// A file, and the path of its URL.
struct Page {
    file: PathBuf,
    path: String,
}

/// A directory with many files that come with any machine, and some of them.
fn pages() -> (PathBuf, Vec<Page>) {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    let sysroot = sysroot.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    let toolchain = sysroot.map(|sysroot| Path::new(sysroot.trim()).join("share/doc"));
    let shared = ["/usr/share/doc", "/usr/share"].map(PathBuf::from);
    let candidates = shared[..1].iter().cloned().chain(toolchain).chain(shared[1..].to_vec());
    for root in candidates {
        let mut files = Vec::new();
        collect(&root, &mut files);
        if files.len() >= LEAST {
            files.sort_unstable();
            let pages = spread(files.into_iter().map(|file| page(&root, file)).collect());
            return (root, pages);
        }
    }
    panic!("no directory with {LEAST} files");
}

/// Files below a directory that can be read and are not too large; no links.
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

/// With the path that needs no more than the characters which are safe everywhere.
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

/// Those whose names need encoding, and of the others as many as there is room for, from all over.
fn spread(pages: Vec<Page>) -> Vec<Page> {
    let (mut chosen, others): (Vec<_>, Vec<_>) =
        pages.into_iter().partition(|page| page.path.contains('%'));
    chosen.truncate(MOST / 2);
    let step = others.len().div_ceil(MOST - chosen.len()).max(1);
    chosen.extend(others.into_iter().step_by(step));
    chosen
}

/// Asks for all, several at a time; each body is the file.
async fn compare(client: &Client, pages: &[Page], check: impl Fn(&Answer)) {
    let answers =
        stream::iter(pages).map(|page| client.get(&page.path).map(move |answer| (page, answer)));
    let mut answers = answers.buffer_unordered(8);
    while let Some((Page { file, path }, answer)) = answers.next().await {
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body == fs::read(file).unwrap(), "{path} is not as on disk");
        check(&answer);
    }
}

#[actix_web::test]
async fn a_tree_of_real_files_is_fetched_once_and_never_changes() {
    let (root, pages) = pages();
    assert!(pages.len() >= LEAST, "{} files of {root:?}", pages.len());
    // `exec`, so that what is started is what is stopped.
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
    // It logs each request in a line, before it answers.
    let logged = python.stop();
    let asked = logged.iter().filter(|line| line.contains("\"GET /")).count();
    assert_eq!(asked, pages.len(), "requests that reached the origin");
}
