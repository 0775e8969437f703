//! Data types for stored responses, their cache keys and their tags, and the encoding of stored
//! responses as bytes.

pub mod codec;
pub(crate) mod coded_copy;
mod coded_response;
pub(crate) mod coded_tag;
pub(crate) mod content_coding;
pub(crate) mod digest;
pub(crate) mod discriminator;
#[cfg(test)]
pub(crate) mod fixtures;
pub(crate) mod implied_tags;
pub(crate) mod invalidation;
pub(crate) mod key;
pub(crate) mod key_scope;
pub(crate) mod length_prefixed;
pub(crate) mod lifetime;
pub(crate) mod limits;
pub(crate) mod response;
pub(crate) mod response_copy;
pub(crate) mod selector;
pub(crate) mod stamp;
pub(crate) mod stored_fields;
pub(crate) mod tag;
pub(crate) mod url;
pub(crate) mod url_index;
pub(crate) mod url_keys;
pub(crate) mod url_table;
pub(crate) mod uses;
pub(crate) mod validity;
pub(crate) mod variants;
