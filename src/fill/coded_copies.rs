//! Makes coded copies of stored responses: their bodies in content codings.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{runtime::Handle, task::spawn_blocking};

use crate::{
    compression::{compress, level::CompressionLevel},
    coordination::{
        copy_jobs::CopyJob,
        lease::{Lease, LeaseEnd},
    },
    entry::{
        coded_copy::{CodedCopy, ContentDigest},
        content_coding::ContentCoding,
        key::CacheKey,
        response::StoredResponse,
    },
    shared::SharedRef,
    store::interface::StoreError,
};

/// Starts to make a copy of a stored response, unless the copy is being made or was made lately. The
/// copy is made on a thread for blocking work, and is then added to the store.
pub(crate) fn make_coded_copy(
    shared: &SharedRef,
    level: CompressionLevel,
    key: &CacheKey,
    response: &Arc<StoredResponse>,
    coding: ContentCoding,
) {
    let coordinator = shared.store.coordinator();
    if !shared.store.supports_coded_copies() || coordinator.is_draining() {
        return;
    }
    let Ok(runtime) = Handle::try_current() else { return };
    let Some(job) = coordinator.copy_jobs().begin(key, response, coding, shared.now()) else {
        return;
    };
    let work = Work {
        shared: shared.clone(),
        level,
        key: key.clone(),
        response: Arc::clone(response),
        coding,
    };
    // If the runtime ends, the task is dropped, and another worker can make the copy.
    runtime.spawn(work.run(job));
}

/// The copy to make.
struct Work {
    shared: SharedRef,
    level: CompressionLevel,
    key: CacheKey,
    response: Arc<StoredResponse>,
    coding: ContentCoding,
}

impl Work {
    async fn run(self, job: CopyJob) {
        let Some(_turn) = job.turn().await else { return };
        match self.make().await {
            Ok(()) => {}
            Err(error) => self.shared.warn_about_store(&error),
        }
        job.finish(self.shared.now());
    }

    /// Makes the copy and adds it to the store, unless another process makes it or has made it.
    async fn make(&self) -> Result<(), StoreError> {
        let Self { shared, level, key, response, coding } = self;
        let (store, coding) = (&shared.store, *coding);
        let Some(content) = response.coded.as_ref().map(|coded| coded.content()) else {
            return Ok(());
        };
        let lease = if store.supports_leases() {
            let name = lease_name(content, coding);
            match shared.within_store_timeout(store.lease(key, &name)).await? {
                Lease::Granted(guard) => Some(guard),
                Lease::Unneeded => None,
                Lease::Taken | Lease::Unstorable => return Ok(()),
            }
        } else {
            None
        };
        let found = store.find_coded_copy(key, response, coding);
        if shared.within_store_timeout(found).await?.is_some() {
            return Ok(());
        }
        let (body, level) = (response.body.clone(), *level);
        let coded = spawn_blocking(move || compress(coding, level, &body)).await;
        let coded: Option<Bytes> = coded.unwrap_or_else(|error| {
            log::warn!("a response could not be coded as {coding}: {error}");
            None
        });
        let copy = match coded {
            Some(bytes) => CodedCopy::new(coding, content, bytes),
            None => CodedCopy::useless(coding, content),
        };
        let length = copy.bytes().map_or(0, Bytes::len);
        shared.within_store_timeout(store.put_coded_copy(key, response, copy)).await?;
        log::debug!("coded copy ({coding}): {length} of {} bytes", response.body.len());
        if let Some(lease) = lease {
            lease.end(LeaseEnd::Stored);
        }
        Ok(())
    }
}

/// Returns the text by which the lease for a copy differs from other leases of the cache key.
fn lease_name(content: ContentDigest, coding: ContentCoding) -> Vec<u8> {
    [b"coded copy ", coding.name().as_bytes(), b" ", content.as_bytes()].concat()
}
