//! Checks at start-up whether Redis can be used.

use std::{sync::Arc, time::Duration};

use deadpool_redis::redis::cmd;

use super::{client::RedisClient, error::RedisStoreError, failure::Failure, store::RedisStore};
use crate::store::remote::deadline::Deadline;

/// The time that a check may take, including the time to connect.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

impl RedisStore {
    /// Checks that the store can use Redis, by a connection, a read and a write that changes
    /// nothing.
    ///
    /// The check is for applications that should not start with a wrong address or password. It is
    /// optional: without it, the store connects at the first request, and handlers answer requests
    /// while Redis fails. A failed check has no effect on later calls, so an application can also
    /// log the error and start.
    ///
    /// ```no_run
    /// use actix_web_cache::RedisStore;
    ///
    /// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = RedisStore::new("redis://127.0.0.1:6379", "shop")?;
    /// store.check().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RedisStoreError::Unusable`] if Redis cannot be reached, does not answer within 2 s,
    /// refuses the login or a command, or is a replica.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub async fn check(&self) -> Result<(), RedisStoreError> {
        let checked = Deadline::after(CHECK_TIMEOUT).run(check(self.client())).await;
        checked.map_err(|error| RedisStoreError::Unusable(Failure::from(error).to_string()))
    }
}

async fn check(client: &Arc<RedisClient>) -> Result<(), Failure> {
    let mut connection = Arc::clone(client).connect().await?;
    client.update_table(&mut connection).await?;
    // No store writes this key. A replica refuses the command.
    Ok(cmd("UNLINK").arg(client.keys.unused()).exec_async(&mut connection).await?)
}
