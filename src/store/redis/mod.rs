//! A store in Redis or Valkey, which several processes can share.
//!
//! | file | content |
//! |---|---|
//! | `address`, `certificates`, `tls`, `builder`, `error` | settings: the server's address, certificates, time-outs |
//! | `store` | [`RedisStore`]: lookups, writes and removals |
//! | `check` | the check at start-up |
//! | `client`, `batch`, `worker_connections`, `connector`, `connection` | calls to the server |
//! | `maintenance` | the maintenance thread, which probes a failed server, sends queued invalidations, and listens to announcements of invalidations |
//! | `invalidation_table` | the table in Redis that holds the invalidations of all processes |
//! | `first_read` | the first read of the table in a process |
//! | `table_replacements` | replaces many invalidations in the table by one |
//! | `primary_search` | limits the searches for the primary after a failover |
//! | `records`, `keys`, `lease` | stored responses and leases in Redis |
//! | `decoded_records` | stored responses that each thread has decoded lately |
//! | `counters`, `failure` | statistics and errors of calls |

mod address;
mod batch;
mod builder;
mod certificates;
mod check;
mod client;
mod connection;
mod connector;
mod counters;
mod decoded_records;
mod error;
mod failure;
mod first_read;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod invalidation_table;
mod keys;
mod large_records;
mod lease;
mod maintenance;
mod primary_search;
mod records;
mod store;
mod table_replacements;
#[cfg(feature = "redis-rustls")]
mod tls;
mod worker_connections;

pub use self::{
    address::RedisSource, builder::RedisStoreBuilder, counters::RedisStats, error::RedisStoreError,
    store::RedisStore,
};
