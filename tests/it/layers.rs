//! The house's arrows point down: read from the sources themselves.

use std::{fmt, fs, path::Path};

/// Where a room of `src` lies. A room that is in none is reported, so that a new one is given its
/// place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wing {
    Foundation,
    Study,
    Cellar,
    Office,
    Hall,
    FrontDoor,
}

use Wing::{Cellar, Foundation, FrontDoor, Hall, Office, Study};

const ROOMS: &[(&str, Wing)] = &[
    ("key", Foundation),
    ("stored", Foundation),
    ("tag", Foundation),
    ("selector", Foundation),
    ("stamp", Foundation),
    ("time", Foundation),
    ("outcome", Foundation),
    ("clock", Foundation),
    ("codec", Foundation),
    ("semantics", Study),
    ("store", Cellar),
    ("policy", Office),
    ("service", Hall),
    ("forward", Hall),
    ("freshen", Hall),
    ("change", Hall),
    ("collapse", Hall),
    ("fleet", Hall),
    ("refresh", Hall),
    ("mirror", Hall),
    ("hit", Hall),
    ("fill", Hall),
    ("pump", Hall),
    ("rescue", Hall),
    ("write", Hall),
    ("body", Hall),
    ("handle", Hall),
    ("pages", Hall),
    ("purge", Hall),
    ("options", Hall),
    ("shared", Hall),
    ("middleware", FrontDoor),
    ("headers_only", FrontDoor),
    ("fuzzing", FrontDoor),
];

impl Wing {
    fn of(room: &str) -> Option<Self> {
        ROOMS.iter().find(|(name, _)| *name == room).map(|&(_, wing)| wing)
    }

    /// The wings whose rooms this one's may name, beside its own.
    const fn below(self) -> &'static [Self] {
        match self {
            Foundation => &[],
            Study | Cellar => &[Foundation],
            Office => &[Foundation, Study],
            Hall => &[Foundation, Study, Cellar, Office],
            FrontDoor => &[Foundation, Study, Cellar, Office, Hall],
        }
    }

    /// The study does not know what time it is: it is told.
    fn may_name(self, room: &str) -> bool {
        let Some(wing) = Self::of(room) else { return false };
        (wing == self || self.below().contains(&wing)) && !(self == Study && room == "clock")
    }
}

#[test]
fn the_sources_keep_to_the_house() {
    let mut problems = Vec::new();
    let mut files = 0;
    each_source(&mut |file, text| {
        files += 1;
        problems.extend(check(file, text).into_iter().map(|problem| format!("{file}: {problem}")));
    });
    assert!(files >= ROOMS.len(), "only {files} files were found");
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn the_checker_finds_what_the_house_forbids() {
    let long = "//\n".repeat(601);
    for (file, text, want) in [
        ("key.rs", "use crate::tag::TagId;", None),
        ("key.rs", "use crate::store::Store;", Some("store")),
        ("key.rs", "use crate::semantics::fields;", Some("semantics")),
        ("key.rs", "use super::store::Store;", Some("store")),
        (
            "key.rs",
            "use self::inner::X; mod inner { use super::super::store::Store; }",
            Some("store"),
        ),
        ("key.rs", "mod tests { use super::*; }", None),
        ("key.rs", "use super::*;", Some("*")),
        ("key.rs", "use crate::Cache;", Some("Cache")),
        ("key.rs", "use crate::{self as all};", Some("no room")),
        ("semantics/reuse.rs", "use crate::{stored::X, time::Timestamp};", None),
        ("semantics/reuse.rs", "use crate::{time::Timestamp, store::{Fill, Put}};", Some("store")),
        (
            "semantics/reuse.rs",
            "use crate::{{time::Timestamp}, {outcome::{A, {service as s}}, hit}};",
            Some("hit"),
        ),
        ("semantics/reuse.rs", "use super::{vary::Vary, super::policy::Rule};", Some("policy")),
        ("semantics/reuse.rs", "use crate::clock::Clock;", Some("clock")),
        ("semantics/reuse.rs", "fn f(x: crate::store::Put) {}", Some("store")),
        ("semantics/reuse.rs", "fn f() { super::super::store::x() }", Some("store")),
        (
            "semantics/reuse.rs",
            "// crate::store\n/* a /* crate::store */ */ fn f() { \"crate::store\"; r#\"\"crate::store\"#; }",
            None,
        ),
        (
            "semantics/reuse.rs",
            "fn f<'a>(x: &'a u8) -> char { '\"' } fn g(x: crate::store::Put) {}",
            Some("store"),
        ),
        ("semantics/reuse.rs", "async fn f() {}", Some("waits")),
        ("semantics/reuse.rs", "fn f() { g().await }", Some("waits")),
        (
            "store/redis.rs",
            "use super::{Coordinator, Fill}; use crate::{key::CacheKey, stamp::Stamp};",
            None,
        ),
        ("store/redis.rs", "use crate::semantics::vary::Vary;", Some("semantics")),
        ("store/redis.rs", "use crate::policy::Policy;", Some("policy")),
        ("store/mod.rs", "pub(in crate::store) fn f() {} use super::hit;", Some("hit")),
        ("policy/rule.rs", "use crate::semantics::fields; use super::QueryKey;", None),
        ("policy/rule.rs", "use crate::fill;", Some("fill")),
        ("service.rs", "use crate::{fill, policy::Rule, store::Put};", None),
        ("service.rs", "use crate::middleware::Cache;", Some("middleware")),
        ("middleware.rs", "use crate::service::CacheMiddleware;", None),
        ("lib.rs", "pub use crate::{key::CacheKey, middleware::Cache};", None),
        ("attic.rs", "", Some("attic")),
        ("fill.rs", "use std::time::SystemTime; fn f() { SystemTime::now(); }", Some("clock")),
        ("fill.rs", "use std::time::Instant as I; fn f() { I::now(); }", Some("clock")),
        ("fill.rs", "fn f() { actix_web::rt::time::Instant::now() }", Some("clock")),
        ("fill.rs", "fn f(x: std::time::Instant) { x.elapsed() }", Some("clock")),
        ("fill.rs", "fn f(clock: &Clock) { clock.now() }", None),
        ("clock.rs", "use crate::time::Timestamp; fn f() { SystemTime::now(); x.elapsed() }", None),
        ("fill.rs", long.as_str(), Some("601 lines")),
    ] {
        let found = check(file, text);
        match want {
            None => assert!(found.is_empty(), "{file}: {text}: {found:?}"),
            Some(want) => assert!(
                found.len() == 1 && found[0].contains(want),
                "{file}: {text}: {want} is to be found, not {found:?}"
            ),
        }
    }
}

/// What a file does that the house forbids.
fn check(file: &str, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let module: Vec<_> = file.trim_end_matches(".rs").trim_end_matches("/mod").split('/').collect();
    let mut found = Vec::new();
    if text.lines().count() > 600 {
        found.push(format!("it has {} lines", text.lines().count()));
    }
    let reads = |three: &[Token<'_>]| {
        matches!(three, [Sign(':'), Sign(':'), Word("now")] | [_, Sign('.'), Word("elapsed")])
    };
    if file != "clock.rs" && tokens.windows(3).any(reads) {
        found.push("it reads the clock".to_owned());
    }
    if module[0] == "lib" {
        return found;
    }
    let Some(wing) = Wing::of(module[0]) else {
        found.push(format!("{} has no place in the house", module[0]));
        return found;
    };
    if wing == Study && tokens.iter().any(|token| matches!(token, Word("async" | "await"))) {
        found.push("it waits".to_owned());
    }
    for path in paths(&module, &tokens) {
        let problem = match path.first() {
            Some(room) if wing.may_name(room) => continue,
            Some(room) => format!("it names {room}, above or beside it"),
            None => "it names the whole crate, which is no room".to_owned(),
        };
        if !found.contains(&problem) {
            found.push(problem);
        }
    }
    found
}

fn each_source(f: &mut impl FnMut(&str, &str)) {
    fn walk(directory: &Path, root: &Path, f: &mut impl FnMut(&str, &str)) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, f);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                f(&name.replace('\\', "/"), &fs::read_to_string(&path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    walk(&root, &root, f);
}

/// As much of Rust's grammar as tells paths apart from everything else.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Sign(char),
}

use Token::{Sign, Word};

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Word(word) => f.write_str(word),
            Sign(sign) => write!(f, "{sign}"),
        }
    }
}

/// Words and signs; comments, strings and characters are left out.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = literal(rest) {
            length
        } else if is_word(first) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            found.push(Word(&rest[..length]));
            length
        } else {
            if !first.is_whitespace() {
                found.push(Sign(first));
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of a block comment, with those inside it.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    loop {
        match text.get(at..at + 2) {
            Some("/*") => (depth, at) = (depth + 1, at + 2),
            Some("*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += text[at..].chars().next().map_or(1, char::len_utf8),
        }
        if depth == 0 || at >= text.len() {
            return at.min(text.len());
        }
    }
}

/// The length of the string, character or lifetime that the text begins with, if it does.
fn literal(text: &str) -> Option<usize> {
    let body = text.trim_start_matches(['b', 'c']);
    let prefix = text.len() - body.len();
    if let Some(raw) = body.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = prefix + 1 + hashes + 1;
            return Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()));
        }
    }
    if body.starts_with('"') {
        return Some(prefix + closing(body, '"'));
    }
    let inner = body.strip_prefix('\'')?;
    let second = inner.chars().nth(1);
    // A lifetime is no character: it has no closing quote behind its first letter.
    let lifetime = inner.starts_with(is_word) && second != Some('\'');
    Some(prefix + if lifetime { 1 } else { closing(body, '\'') })
}

/// Where what begins with a quote ends.
fn closing(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// All paths within the crate that a module names, from the crate's root on.
fn paths(module: &[&str], tokens: &[Token<'_>]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    // The modules written inside the file, with the depth of their braces.
    let mut inner: Vec<(&str, usize)> = Vec::new();
    let (mut depth, mut at) = (0, 0);
    while at < tokens.len() {
        let here: Vec<&str> = module.iter().copied().chain(inner.iter().map(|i| i.0)).collect();
        match tokens[at..] {
            [Word("mod"), Word(name), Sign('{'), ..] => {
                depth += 1;
                inner.push((name, depth));
                at += 3;
            }
            [Word("use"), ..] => {
                let mut trees = Vec::new();
                at = tree(tokens, at + 1, &[], &mut trees);
                found.extend(trees.iter().filter_map(|path| resolved(&here, path)));
            }
            [Word("crate" | "self" | "super"), Sign(':'), Sign(':'), ..] => {
                let mut path = Vec::new();
                at = segments(tokens, at, &mut path);
                found.extend(resolved(&here, &path));
            }
            [Sign('{'), ..] => (depth, at) = (depth + 1, at + 1),
            [Sign('}'), ..] => {
                inner.pop_if(|(_, opened)| *opened == depth);
                (depth, at) = (depth - 1, at + 1);
            }
            _ => at += 1,
        }
    }
    found
}

/// Reads `a::b`; returns where it ends.
fn segments<'a>(tokens: &[Token<'a>], mut at: usize, path: &mut Vec<&'a str>) -> usize {
    loop {
        match tokens[at..] {
            [Word(word), Sign(':'), Sign(':'), Word(_), ..] => path.push(word),
            [Word(word), ..] => {
                path.push(word);
                return at + 1;
            }
            _ => return at,
        }
        at += 3;
    }
}

/// Reads what stands behind `use`, or between the braces of another tree; returns where it ends.
fn tree<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    before: &[&'a str],
    found: &mut Vec<Vec<&'a str>>,
) -> usize {
    let mut path = before.to_vec();
    while at < tokens.len() {
        match tokens[at..] {
            [Sign('{'), ..] => {
                at += 1;
                while !matches!(tokens.get(at), None | Some(Sign('}'))) {
                    at = tree(tokens, at, &path, found);
                    at += usize::from(tokens.get(at) == Some(&Sign(',')));
                }
                return at + 1;
            }
            [Word("as"), Word(_), ..] => at += 2,
            [Word(word), ..] => {
                path.push(word);
                at += 1;
            }
            [Sign('*'), ..] => {
                path.push("*");
                at += 1;
            }
            [Sign(':'), ..] => at += 1,
            _ => break,
        }
    }
    found.push(path);
    at
}

/// The path from the crate's root on; none if it leads into another crate.
fn resolved(module: &[&str], path: &[&str]) -> Option<Vec<String>> {
    let (mut from, mut rest) = match path.split_first()? {
        (&"crate", tail) => (Vec::new(), tail),
        (&"self", tail) => (module.to_vec(), tail),
        (&"super", _) => (module.to_vec(), path),
        _ => return None,
    };
    while let Some((&"super", tail)) = rest.split_first() {
        from.pop();
        rest = tail;
    }
    // `use crate::{self as x}`.
    let rest = rest.strip_suffix(&["self"]).unwrap_or(rest);
    Some(from.iter().chain(rest).map(ToString::to_string).collect())
}
