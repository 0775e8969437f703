//! The page about security names tests, and each of these tests exists.

use std::fs;

use super::{Sources, read_sources, repository, sources};

#[test]
fn tests_on_the_security_page_exist() {
    let page = fs::read_to_string(repository().join("docs/security.md")).unwrap();
    let names = test_names(&page);
    assert!(names.len() >= 20, "the page names {} tests", names.len());
    let sources = read_sources("tests/it");
    let absent: Vec<_> = names.into_iter().filter(|name| !exists(&sources, name)).collect();
    assert!(absent.is_empty(), "docs/security.md names tests that do not exist: {absent:?}");
}

#[test]
fn names_of_tests_are_told_from_other_code() {
    let page = "`privacy::vary::a_b`, `Policy::vary_cookie`, `cargo test`, and `store::memory::c`";
    assert_eq!(test_names(page), ["privacy::vary::a_b", "store::memory::c"]);
}

#[test]
fn absent_test_is_reported() {
    let text = "#[actix_web::test]\nasync fn found() {}\n\n#[test]\nfn also_found() {}\n\nfn helper() {}\n";
    let sources = sources(&[("privacy/vary.rs", text)]);
    for (name, want) in [
        ("privacy::vary::found", true),
        ("privacy::vary::also_found", true),
        ("privacy::vary::helper", false),
        ("privacy::vary::foun", false),
        ("privacy::keys::found", false),
    ] {
        assert_eq!(exists(&sources, name), want, "{name}");
    }
}

/// The names of tests on a page, as the filter of `cargo test` takes them. Each is in backticks.
fn test_names(page: &str) -> Vec<&str> {
    let code = page.split('`').skip(1).step_by(2);
    let is_name = |code: &&str| {
        code.matches("::").count() >= 2
            && code
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c))
    };
    code.filter(is_name).collect()
}

/// Returns whether the file of the module has a test with this name.
fn exists(sources: &Sources, name: &str) -> bool {
    let Some((module, function)) = name.rsplit_once("::") else { return false };
    let text = sources.get(&format!("{}.rs", module.replace("::", "/")));
    text.is_some_and(|text| {
        let lines: Vec<_> = text.lines().collect();
        lines.windows(2).any(|two| {
            let is_test = two[0].starts_with("#[") && two[0].contains("test");
            let declared = two[1].strip_prefix("async ").unwrap_or(two[1]).strip_prefix("fn ");
            is_test && declared.is_some_and(|rest| rest.starts_with(&format!("{function}(")))
        })
    })
}
