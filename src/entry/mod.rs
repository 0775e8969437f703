//! What is stored: responses, the names they have, and their form as bytes. Plain data.

pub mod codec;
pub(crate) mod invalidation;
pub(crate) mod key;
pub(crate) mod length_prefixed;
pub(crate) mod limits;
pub(crate) mod response;
pub(crate) mod selector;
pub(crate) mod stamp;
pub(crate) mod tag;
