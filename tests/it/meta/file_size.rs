//! Source files are short enough to be read in one go.

/// The most lines of a file.
const LIMIT: usize = 600;

#[test]
fn source_files_have_at_most_600_lines() {
    let mut problems = Vec::new();
    for folder in ["src", "tests/it", "examples", "benches", "fuzz/fuzz_targets"] {
        for (file, text) in super::read_sources(folder) {
            let lines = text.lines().count();
            if lines > LIMIT {
                problems.push(format!("{folder}/{file} has {lines} lines"));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}
