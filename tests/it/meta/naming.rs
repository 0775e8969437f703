//! Functions and comments begin with the noun that they are about.
//!
//! A sentence about an unnamed subject ("What was purged is freed") makes readers guess. The rules
//! are in CONTRIBUTING.md.

use super::Sources;

/// Words that name no subject.
const PRONOUNS: [&str; 6] = ["what", "who", "whoever", "nobody", "somebody", "where"];

const FOLDERS: [&str; 4] = ["src", "tests/it", "examples", "benches"];

#[test]
fn function_names_name_their_subject() {
    let problems: Vec<_> = FOLDERS
        .iter()
        .flat_map(|folder| problems(folder, &super::read_sources(folder), is_vague_function))
        .collect();
    assert!(problems.is_empty(), "{} names:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn comments_name_their_subject() {
    let problems: Vec<_> = FOLDERS
        .iter()
        .flat_map(|folder| problems(folder, &super::read_sources(folder), is_vague_comment))
        .collect();
    assert!(problems.is_empty(), "{} comments:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn vague_function_name_is_reported() {
    for line in ["fn what_is_stored() {", "    async fn nobody_waits() {", "pub(crate) fn who_() {"]
    {
        assert!(is_vague_function(line), "{line}");
    }
    for line in ["fn whatever() {", "fn stored_response_expires() {", "// fn what_it_is()"] {
        assert!(!is_vague_function(line), "{line}");
    }
}

#[test]
fn vague_comment_is_reported() {
    for line in ["/// What is stored.", "    // Nobody waits.", "//! Where it ends.", "//Who asks."]
    {
        assert!(is_vague_comment(line), "{line}");
    }
    for line in ["/// Whatever.", "// The client waits.", "let x = 1; // What", "/// Whether it is"]
    {
        assert!(!is_vague_comment(line), "{line}");
    }
}

/// The lines for which `is_problem` holds, with their places.
fn problems(folder: &str, sources: &Sources, is_problem: fn(&str) -> bool) -> Vec<String> {
    let lines = sources.iter().flat_map(|(file, text)| {
        text.lines().enumerate().map(move |(number, line)| (file, number + 1, line))
    });
    lines
        .filter(|(.., line)| is_problem(line))
        .map(|(file, number, line)| format!("{folder}/{file}:{number}: {}", line.trim()))
        .collect()
}

fn is_vague_function(line: &str) -> bool {
    let Some((before, after)) = line.split_once("fn ") else { return false };
    let is_declaration = before.chars().all(|c| c.is_alphanumeric() || " _():".contains(c));
    let first = after.split_once('_').map_or("", |(first, _)| first);
    is_declaration && PRONOUNS.contains(&first)
}

fn is_vague_comment(line: &str) -> bool {
    let Some(comment) = line.trim_start().strip_prefix("//") else { return false };
    let text = comment.trim_start_matches(['/', '!']).trim_start();
    let first: String = text.chars().take_while(|c| c.is_alphabetic()).collect();
    PRONOUNS.iter().any(|pronoun| {
        first.to_lowercase() == *pronoun && first.starts_with(|c: char| c.is_uppercase())
    })
}
