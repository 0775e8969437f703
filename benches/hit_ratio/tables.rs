//! The tables that the bench prints, in Markdown.

use crate::replay::{Hits, Load};

/// The hit ratios of one trace at one capacity, in percent, for each column.
pub(crate) struct Row {
    trace: &'static str,
    capacity: u64,
    pub(crate) requests: Vec<Option<f64>>,
    pub(crate) bytes: Vec<Option<f64>>,
}

impl Row {
    pub(crate) fn new(load: &Load, capacity: u64, hits: &[Option<Hits>]) -> Self {
        let (requests, bytes) = (load.trace.requests.len() as f64, load.bytes() as f64);
        let percent = |ratio: &dyn Fn(&Hits) -> f64| -> Vec<Option<f64>> {
            hits.iter().map(|hits| hits.as_ref().map(|hits| ratio(hits) * 100.0)).collect()
        };
        Self {
            trace: load.trace.name,
            capacity,
            requests: percent(&|hits| hits.requests / requests),
            bytes: percent(&|hits| hits.bytes / bytes),
        }
    }
}

/// Prints the properties of the traces.
pub(crate) fn print_traces(loads: &[Load]) {
    let head = [
        "trace",
        "requests",
        "pages",
        "MB",
        "KB a page",
        "KB a request",
        "requests a page",
        "content",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for load in loads {
        let requests = load.trace.requests.len() as f64;
        let pages = load.pages as f64;
        let bodies = load.distinct_bodies() as f64;
        lines.push(vec![
            load.trace.name.to_owned(),
            requests.to_string(),
            pages.to_string(),
            format!("{:.0}", load.distinct as f64 / 1e6),
            format!("{:.1}", bodies / pages / 1e3),
            format!("{:.1}", load.bytes() as f64 / requests / 1e3),
            format!("{:.1}", requests / pages),
            load.trace.about.to_owned(),
        ]);
    }
    print_table(&lines);
}

/// Prints a table of hit ratios. `values` returns the values of a row.
pub(crate) fn print_ratios(
    title: &str,
    columns: &[&str],
    rows: &[Row],
    values: impl Fn(&Row) -> &[Option<f64>],
) {
    println!("{title}:\n");
    let head = ["trace", "capacity"].iter().chain(columns).map(|name| (*name).to_owned());
    let mut lines = vec![head.collect::<Vec<_>>()];
    for row in rows {
        let capacity = format!("{} %", row.capacity);
        let mut line = vec![row.trace.to_owned(), capacity];
        let cell =
            |value: &Option<f64>| value.map_or_else(String::new, |value| format!("{value:.1}"));
        line.extend(values(row).iter().map(cell));
        lines.push(line);
    }
    print_table(&lines);
}

/// Prints a table whose first line is its head. All columns have equal widths in all lines.
fn print_table(lines: &[Vec<String>]) {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for (number, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(&widths).map(|(cell, &width)| format!(" {cell:width$} |"));
        println!("|{}", cells.collect::<String>());
        if number == 0 {
            let rules = widths.iter().map(|width| format!("{}|", "-".repeat(width + 2)));
            println!("|{}", rules.collect::<String>());
        }
    }
    println!();
}
