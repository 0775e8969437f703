//! A tiered store: each process keeps copies of responses in its memory, in front of a store that
//! several processes share.

mod builder;
pub(super) mod far_store;
mod store;

pub use self::{
    builder::{TieredStoreBuilder, TieredStoreError},
    far_store::FarStore,
    store::{TieredStats, TieredStore},
};
