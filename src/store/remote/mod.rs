//! Building blocks for stores on a remote server: a circuit breaker, deadlines and a retry queue.
//!
//! A remote server can be slow or unreachable, and requests must not wait for such a server.
//! [`RedisStore`](crate::RedisStore) uses these types as follows, and other remote stores can too:
//!
//! 1. The store makes no call while the [`CircuitBreaker`] is open.
//! 2. Each call ends at its [`Deadline`] at the latest.
//! 3. The breaker counts failed calls, and opens after several failures in a row.
//! 4. A [`RetryQueue`] keeps each invalidation that did not reach the server, and opens the
//!    breaker. The store reads nothing from the server until the queue is empty.
//! 5. While the breaker is open, a background task probes the server. If the server answers, the
//!    task sends the queued invalidations, and then closes the breaker.
//!
//! ```
//! use std::{future::Future, io, time::Duration};
//!
//! use actix_web_cache::store::{
//!     Invalidation,
//!     remote::{CircuitBreaker, Deadline, RemoteError, RetryQueue},
//! };
//!
//! #[derive(Default)]
//! struct Client {
//!     breaker: CircuitBreaker,
//!     retries: RetryQueue,
//! }
//!
//! impl Client {
//!     /// Awaits `call` for at most 45 ms, unless the breaker is open.
//!     async fn call<T>(
//!         &self,
//!         call: impl Future<Output = io::Result<T>>,
//!     ) -> Result<T, RemoteError<io::Error>> {
//!         if self.breaker.is_open() {
//!             return Err(RemoteError::CircuitOpen);
//!         }
//!         let result = Deadline::after(Duration::from_millis(45)).run(call).await;
//!         match &result {
//!             Ok(_) => self.breaker.record_success(),
//!             Err(_) if self.breaker.record_failure() => { /* start to probe the server */ }
//!             Err(_) => {}
//!         }
//!         result
//!     }
//!
//!     /// Queues an invalidation, and stops reads from the server until the queue is empty.
//!     fn retry_later(&self, invalidation: Invalidation) {
//!         if self.retries.push(invalidation, &self.breaker) { /* start to probe the server */ }
//!     }
//! }
//!
//! # let client = Client::default();
//! # let reply = futures_util::FutureExt::now_or_never(client.call(async { Ok(1) }));
//! # client.retry_later(Invalidation::PurgeAll);
//! # assert!(client.breaker.is_open());
//! ```

pub(super) mod circuit_breaker;
pub(super) mod deadline;
pub(super) mod error;
pub(super) mod retry_queue;

pub use self::{
    circuit_breaker::CircuitBreaker,
    deadline::Deadline,
    error::RemoteError,
    retry_queue::{QueuedInvalidation, RetryQueue},
};
