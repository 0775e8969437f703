//! Each line of code on the page occurs in the tests.

use std::fs;

const PAGE: &str = include_str!("../../../docs/recipes.md");

/// The text without white space and without the escapes of tables.
fn squeezed(text: &str) -> String {
    text.replace("\\|", "|").chars().filter(|c| !c.is_whitespace()).collect()
}

/// The code in the last column of the tables.
fn code() -> Vec<String> {
    let rows = PAGE.lines().filter(|line| line.starts_with('|') && !line.starts_with("|--"));
    let cells = rows.map(|row| {
        let row = row.trim_end_matches('|').replace("\\|", "\u{0}");
        row.rsplit('|').next().unwrap().replace('\u{0}', "|")
    });
    cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2).map(squeezed).collect::<Vec<_>>())
        .filter(|code| code.contains("::") || code.contains('('))
        .collect()
}

#[test]
fn code_of_each_recipe_is_tested() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("it/recipes");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let tests: String = files.map(|file| squeezed(&fs::read_to_string(file).unwrap())).collect();
    let code = code();
    assert!(code.len() > 40, "{}", code.len());
    let missing: Vec<_> = code.iter().filter(|code| !tests.contains(*code)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}
