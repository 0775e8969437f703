//! Memory in front of a store that processes share.

mod builder;
pub(super) mod far_store;
mod store;

pub use self::{
    builder::{TieredStoreBuilder, TieredStoreError},
    far_store::FarStore,
    store::{TieredStats, TieredStore},
};
