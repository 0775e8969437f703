//! The page about debugging explains each reason that the cache writes into `Cache-Status`.

use std::fs;

use super::repository;

#[test]
fn each_reason_is_on_the_debug_page() {
    let read = |path| fs::read_to_string(repository().join(path)).unwrap();
    let (source, page) = (read("src/outcome.rs"), read("docs/debug.md"));
    let tokens = tokens(&source);
    assert!(tokens.len() >= 40, "{tokens:?}");
    let absent: Vec<_> = tokens.into_iter().filter(|token| !explains(&page, token)).collect();
    assert!(absent.is_empty(), "docs/debug.md does not explain {absent:?}");
}

#[test]
fn reasons_are_told_from_other_text() {
    let source =
        "Self::Head => \"head\",\n    Self::Handler(_) => \"handler\",\n Self::Hit => return None,";
    assert_eq!(tokens(source), ["head", "handler"]);
    let page =
        "The `detail` is `mode`.\n| `head`, `range` | text |\n| `fwd=stale; stored` | text |";
    for (token, want) in [
        ("head", true),
        ("range", true),
        ("stale", true),
        ("mode", false),
        ("stored", false),
        ("text", false),
    ] {
        assert_eq!(explains(page, token), want, "{token}");
    }
}

/// The texts of match arms such as `Self::Head => "head",`.
fn tokens(source: &str) -> Vec<&str> {
    let arms = source.lines().filter_map(|line| line.trim().strip_prefix("Self::"));
    arms.filter_map(|arm| arm.split_once("=> \"")?.1.split('"').next()).collect()
}

/// Returns whether the first column of a table has the token, alone or after `fwd=`.
fn explains(page: &str, token: &str) -> bool {
    let first_columns = page.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    first_columns.flat_map(|column| column.split('`').skip(1).step_by(2)).any(|code| {
        let value = code.strip_prefix("fwd=").unwrap_or(code);
        value.split(';').next() == Some(token)
    })
}
