//! The target `redis_replies`: no reply of Redis makes the parsers panic, and an unknown member of
//! the invalidation table invalidates all responses.

use deadpool_redis::redis::Value;

use super::input::Input;
use crate::{coordination::coordinator::Coordinator, store::redis::fuzzing};

/// The deepest nesting of a reply. The client library refuses deeper replies.
const DEPTH: usize = 4;

/// Runs the target.
///
/// # Panics
///
/// Panics if a reply is misread.
pub fn run(bytes: &[u8]) {
    fuzzing::decode_members(bytes);
    fuzzing::decode_selecting_fields(bytes);
    let mut input = Input::new(bytes);
    let replies = std::array::from_fn(|_| value(&mut input, DEPTH));
    fuzzing::read_replies(replies, &Coordinator::default());
    let rest = input.rest();
    fuzzing::decode_members(rest);
    fuzzing::parse_url(&String::from_utf8_lossy(rest));
}

/// Reads a reply.
fn value(input: &mut Input<'_>, depth: usize) -> Value {
    let members: [&[u8]; 8] =
        [b"e", b"f", b"o", b"r", b"d", b"p0123456789abcdef", b"g01234567", b""];
    match input.below(if depth == 0 { 8 } else { 10 }) {
        0 => Value::Nil,
        1 => Value::Int(input.number().cast_signed()),
        2 => Value::BulkString(input.bytes().to_vec()),
        3 => Value::BulkString(input.choose(&members).to_vec()),
        4 => Value::Double(f64::from_bits(input.number())),
        5 => Value::SimpleString(String::from_utf8_lossy(input.bytes()).into_owned()),
        6 => Value::Boolean(input.flag()),
        7 => Value::BulkString(input.number().to_string().into_bytes()),
        _ => Value::Array((0..input.below(12)).map(|_| value(input, depth - 1)).collect()),
    }
}
