//! `semantics` is free of waiting and of clocks, and only `clock.rs` reads the time.

use super::{Sources, words};

#[test]
fn only_clock_reads_the_time() {
    let problems = clock_reads(&super::read_sources("src"));
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn semantics_neither_waits_nor_uses_a_clock() {
    let problems = impurities(&super::read_sources("src"));
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn reading_the_time_is_reported() {
    for text in [
        "use std::time::SystemTime; fn f() { SystemTime::now(); }",
        "use std::time::Instant as I; fn f() { I::now(); }",
        "fn f() { actix_web::rt::time::Instant::now() }",
        "fn f() { dbg!(x.elapsed()) }",
    ] {
        assert_eq!(clock_reads(&super::sources(&[("fill.rs", text)])).len(), 1, "{text}");
        assert_eq!(clock_reads(&super::sources(&[("clock.rs", text)])), [""; 0], "{text}");
    }
    let argument = super::sources(&[("fill.rs", "fn f(clock: &Clock) { clock.now() }")]);
    assert_eq!(clock_reads(&argument), [""; 0]);
}

#[test]
fn waiting_or_a_clock_in_semantics_is_reported() {
    for text in ["async fn f() {}", "fn f() { g().await }", "use crate::clock::{Clock, Timestamp};"]
    {
        assert_eq!(impurities(&super::sources(&[("semantics/vary.rs", text)])).len(), 1, "{text}");
        assert_eq!(impurities(&super::sources(&[("fill.rs", text)])), [""; 0], "{text}");
    }
    let timestamp = "// async\nuse crate::clock::Timestamp;";
    assert_eq!(impurities(&super::sources(&[("semantics/vary.rs", timestamp)])), [""; 0]);
}

fn clock_reads(sources: &Sources) -> Vec<String> {
    let others = sources.iter().filter(|(file, _)| *file != "clock.rs");
    let reads = |text: &str| {
        words(text).windows(3).any(|three| match three {
            [first, second, third] => {
                (first == ":" && second == ":" && third == "now")
                    || (first == "." && second == "elapsed")
            }
            _ => false,
        })
    };
    others
        .filter(|(_, text)| reads(text))
        .map(|(file, _)| format!("{file} reads the time: take `now` as an argument"))
        .collect()
}

fn impurities(sources: &Sources) -> Vec<String> {
    let semantics = sources.iter().filter(|(file, _)| file.starts_with("semantics/"));
    let forbidden = ["async", "await", "Clock"];
    semantics
        .filter_map(|(file, text)| {
            let found = words(text).into_iter().find(|t| forbidden.contains(&t.as_str()))?;
            Some(format!("{file} has the word {found}: semantics is pure functions"))
        })
        .collect()
}
