//! Names under which several stored responses are invalidated at once.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

/// What a stored response can be invalidated by, beside its key and everything at once.
///
/// Today there is one kind: the URL of a response whose key has application parts (a tenant, a
/// cookie). All keys of one URL share it, so that purging the URL reaches keys that nobody can
/// list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TagId(u128);

impl TagId {
    /// The tag shared by all keys of one URL; `url` is [`Key::url`](crate::Key::url).
    #[must_use]
    pub fn url(url: &[u8]) -> Self {
        Self(digest(b'u', url))
    }
}

/// 128 bits keyed per process: a collision can only invalidate too much.
fn digest(kind: u8, text: &[u8]) -> u128 {
    static KEYS: LazyLock<(RandomState, RandomState)> =
        LazyLock::new(|| (RandomState::new(), RandomState::new()));
    let high = KEYS.0.hash_one((kind, text));
    let low = KEYS.1.hash_one((kind, text));
    (u128::from(high) << 64) | u128::from(low)
}
