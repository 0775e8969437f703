//! Runs each parser on values of two lengths. The program `fuzz/linear` counts the instructions.

use super::parsers::PARSERS;

/// The lengths of the two values of a shape, in bytes.
const LENGTHS: [usize; 2] = [100 * 1024, 200 * 1024];

/// The texts that are repeated up to the length of a value.
const SHAPES: &[&str] = &[
    ",",
    ";",
    " ",
    "\t",
    "\"",
    "\\",
    "=",
    "-",
    "/",
    "%",
    "&",
    "a",
    "1",
    "(",
    "{",
    "[",
    "a,",
    "a;",
    "a b",
    "a=b,",
    "a=b;",
    "a=b&",
    "\"a\",",
    "\"\\\"",
    "\",\"",
    "W/\"a\", ",
    "max-age=1, ",
    "private=\"x-a\", ",
    "a-",
    "1-2,",
    "%25",
    "%41",
    "%e4",
    "../",
    "a=b; ",
    "host=\"a;",
    "'nonce-a' ",
    "(a",
    "[a]",
    "{a}",
    "{a1}/",
    "a|",
    "\\d",
    "a=(",
    "a;b=1,",
    "a;q=0.1,",
    "06 Nov ",
    "@",
    ":",
    "#",
    "a\n",
    "a=b\n",
    "+",
];

/// Calls `run` for each parser and each shape, with the name of both, the parser, and two values of
/// the shape. The second value is twice as long as the first.
pub fn each(mut run: impl FnMut(&str, &dyn Fn(&[u8]), [&[u8]; 2])) {
    for shape in SHAPES {
        let values = LENGTHS.map(|length| shape.as_bytes().iter().copied().cycle().take(length));
        let [short, long] = values.map(Iterator::collect::<Vec<_>>);
        for (name, parser) in PARSERS {
            run(&format!("{name} of {shape:?}"), parser, [&short, &long]);
        }
    }
}
