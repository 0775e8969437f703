//! Imports in `src` keep to the order of layers in CONTRIBUTING.md.

use std::{collections::BTreeMap, fs};

use super::{
    Sources,
    import_graph::{Import, imports},
};

/// The line of CONTRIBUTING.md above the block that lists the layers.
const HEADING: &str = "## Layers";

#[test]
fn src_imports_only_from_its_own_or_lower_layers() {
    let text = fs::read_to_string(super::repository().join("CONTRIBUTING.md")).unwrap();
    let layers = Layers::read(&text);
    let sources = super::read_sources("src");
    let mut problems = layers.unlisted(&sources);
    problems.extend(layers.upward(&imports(&sources)));
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn upward_import_is_reported() {
    let layers = Layers::read(TEXT);
    let sources = super::sources(&[
        ("lib.rs", "pub use crate::service::Service;"),
        ("clock.rs", "pub struct Clock; use crate::service::lookup::f;"),
        ("outcome.rs", "pub struct Outcome;"),
        ("entry/mod.rs", "pub(crate) mod key;"),
        ("entry/key.rs", "pub struct Key; use crate::clock::Clock;"),
        ("service/mod.rs", "pub struct Service; use crate::entry::key::Key;"),
        ("service/lookup.rs", "use super::Service; pub fn f() {}"),
    ]);
    assert_eq!(layers.unlisted(&sources), [""; 0]);
    let problems = layers.upward(&imports(&sources));
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    let expected = "clock.rs:1 imports crate::service::lookup::f from service/lookup.rs";
    assert!(problem.starts_with(expected), "{problem}");
}

#[test]
fn import_within_a_layer_is_allowed() {
    let sources = super::sources(&[
        ("clock.rs", "pub struct Clock;"),
        ("outcome.rs", "use crate::clock::Clock;"),
    ]);
    assert_eq!(Layers::read(TEXT).upward(&imports(&sources)), [""; 0]);
}

#[test]
fn module_without_a_layer_is_reported() {
    let sources = super::sources(&[("clock.rs", ""), ("entry.rs", ""), ("attic.rs", "")]);
    let problems = Layers::read(TEXT).unlisted(&sources).join("\n");
    for expected in ["attic has no layer", "outcome is listed", "service is listed"] {
        assert!(problems.contains(expected), "{expected}: {problems}");
    }
    assert!(!problems.contains("entry"), "{problems}");
}

const TEXT: &str =
    "# Title\n\n## Layers\n\nWords.\n\n```text\nlib\nservice\nentry\nclock, outcome\n```\n";

/// Numbers of layers by name of a top-level module; the lowest layer is 0.
struct Layers(BTreeMap<String, usize>);

impl Layers {
    /// Reads the first code block below the heading: a line a layer, the highest first.
    fn read(text: &str) -> Self {
        let (_, section) = text.split_once(HEADING).expect("CONTRIBUTING.md has the section");
        let block = section.split("```").nth(1).expect("the section has a code block");
        let lines: Vec<_> = block.lines().skip(1).collect();
        let mut layers = BTreeMap::new();
        for (number, line) in lines.iter().rev().enumerate() {
            layers.extend(line.split(',').map(|name| (name.trim().to_owned(), number)));
        }
        Self(layers)
    }

    fn of(&self, file: &str) -> Option<usize> {
        self.0.get(top_level(file)).copied()
    }

    /// Modules that the list lacks, and names in the list that no module has.
    fn unlisted(&self, sources: &Sources) -> Vec<String> {
        let modules = sources.keys().map(|file| top_level(file));
        let missing = modules.clone().filter(|name| !self.0.contains_key(*name));
        let missing = missing.map(|name| format!("{name} has no layer in CONTRIBUTING.md"));
        let stale = self.0.keys().filter(|name| !modules.clone().any(|module| module == *name));
        let stale =
            stale.map(|name| format!("{name} is listed in CONTRIBUTING.md, but not in src"));
        missing.chain(stale).collect()
    }

    /// Imports from a higher layer.
    fn upward(&self, imports: &[Import]) -> Vec<String> {
        let upward = imports.iter().filter(|import| self.of(&import.from) < self.of(&import.to));
        let describe = |Import { from, to, line, path }: &Import| {
            format!(
                "{from}:{line} imports {path} from {to}: {} is a layer above {}",
                top_level(to),
                top_level(from)
            )
        };
        upward.map(describe).collect()
    }
}

/// The file's module directly below the crate root.
fn top_level(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}
