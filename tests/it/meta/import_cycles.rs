//! No file of `src` depends on itself through its imports.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
};

use super::import_graph::{Import, imports};

#[test]
fn src_has_no_import_cycle() {
    let reports = cycles(&imports(&super::read_sources("src")));
    assert!(reports.is_empty(), "{} import cycles:\n\n{}", reports.len(), reports.join("\n"));
}

#[test]
fn import_cycle_is_reported() {
    let sources = super::sources(&[
        ("a.rs", "use crate::b::B;"),
        ("b.rs", "use crate::c::C; pub struct B;"),
        ("c/mod.rs", "mod d; pub use self::d::C;"),
        ("c/d.rs", "pub struct C; fn f() { crate::a::f() }"),
        ("e.rs", "use crate::a::f;"),
    ]);
    let reports = cycles(&imports(&sources));
    let [report] = &reports[..] else { panic!("{reports:?}") };
    assert!(report.starts_with("3 files: a.rs, b.rs, c/d.rs\n"), "{report}");
    assert!(report.contains("a.rs -> b.rs -> c/d.rs -> a.rs"), "{report}");
    assert!(report.contains("c/d.rs -> a.rs (line 1: crate::a::f)"), "{report}");
}

#[test]
fn re_exporting_module_file_closes_no_cycle() {
    let sources = super::sources(&[
        ("lib.rs", "mod c; pub use c::D;"),
        ("c/mod.rs", "mod d; mod e; pub use self::d::D; pub(crate) use self::e::E;"),
        ("c/d.rs", "pub struct D; use super::E;"),
        ("c/e.rs", "pub struct E;"),
    ]);
    assert_eq!(cycles(&imports(&sources)), [""; 0]);
}

/// Describes each group of files that import each other.
fn cycles(imports: &[Import]) -> Vec<String> {
    let mut targets: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for import in imports {
        targets.entry(&import.from).or_default().insert(&import.to);
    }
    let reachable: BTreeMap<_, _> =
        targets.keys().map(|&file| (file, paths_from(file, &targets))).collect();
    let reaches =
        |from: &str, to: &str| reachable.get(from).is_some_and(|to_| to_.contains_key(to));
    let mut reported = BTreeSet::new();
    let mut reports = Vec::new();
    for &file in targets.keys() {
        if !reaches(file, file) || reported.contains(file) {
            continue;
        }
        let group: BTreeSet<&str> = targets
            .keys()
            .copied()
            .filter(|&other| reaches(file, other) && reaches(other, file))
            .collect();
        reports.push(report(&group, &reachable[file][file], imports));
        reported.extend(group);
    }
    reports
}

/// The files that can be reached from a file, with a shortest path to each.
fn paths_from<'a>(
    file: &'a str,
    targets: &BTreeMap<&'a str, BTreeSet<&'a str>>,
) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut paths = BTreeMap::new();
    let mut queue = VecDeque::from([vec![file]]);
    while let Some(path) = queue.pop_front() {
        for &next in path.last().and_then(|last| targets.get(last)).into_iter().flatten() {
            if !paths.contains_key(next) {
                let longer: Vec<_> = path.iter().copied().chain([next]).collect();
                paths.insert(next, longer.clone());
                queue.push_back(longer);
            }
        }
    }
    paths
}

fn report(group: &BTreeSet<&str>, cycle: &[&str], imports: &[Import]) -> String {
    let files: Vec<_> = group.iter().copied().collect();
    let mut text = format!("{} files: {}\n", files.len(), files.join(", "));
    let _ = writeln!(text, "  shortest cycle of the first: {}", cycle.join(" -> "));
    let mut pairs: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for Import { from, to, line, path } in imports {
        if group.contains(from.as_str()) && group.contains(to.as_str()) {
            pairs.entry((from, to)).or_default().push(format!("line {line}: {path}"));
        }
    }
    for ((from, to), places) in pairs {
        let rest = if places.len() > 5 { ", ..." } else { "" };
        let first: Vec<_> = places.into_iter().take(5).collect();
        let _ = writeln!(text, "  {from} -> {to} ({}{rest})", first.join(", "));
    }
    text
}
