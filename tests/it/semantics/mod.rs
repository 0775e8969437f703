//! The rules of RFC 9111.

mod age_and_cache_status;
mod extreme_input;
mod head_invalidation;
mod variant_selection;
