//! Runs each parser on texts of 100 KiB and 200 KiB. `scripts/linear` counts the instructions.

use std::hint::black_box;

use actix_web_cache::fuzzing::linear;

fn main() {
    linear::each(|name, parser, values| {
        println!("{name}");
        for value in values {
            measured(parser, black_box(value));
        }
    });
}

/// The function whose instructions count.
#[inline(never)]
fn measured(parser: &dyn Fn(&[u8]), value: &[u8]) {
    parser(value);
    black_box(());
}
