//! Methods of [`Coordinator`] for background work and draining.

use std::{net::IpAddr, pin::pin, sync::atomic::Ordering};

use futures_util::future::select;

use super::{Coordinator, SharedState};
use crate::{
    clock::Timestamp,
    coordination::refreshes::{BackgroundPermit, RefreshPermit},
    entry::key::CacheKey,
};

/// Methods for background work and draining.
impl Coordinator {
    /// Permits a refresh of `key` in the background. `client` is the address of the client whose
    /// request causes the refresh. Returns `None` in four cases: the key has background work
    /// already, its last refresh failed a short while ago, no place is free for the refresh, or the
    /// cache is being drained.
    pub(crate) fn try_refresh(
        &self,
        key: &CacheKey,
        client: Option<IpAddr>,
        now: Timestamp,
    ) -> Option<RefreshPermit> {
        if self.is_draining() { None } else { self.0.refreshes.try_refresh(key, client, now) }
    }

    /// Permits a fill of `key` to continue in the background after its client has been answered,
    /// for example by a stale response. `client` is the address of this client. Returns `None` in
    /// three cases: the key has background work already, no place is free for the fill, or the
    /// cache is being drained.
    pub(crate) fn try_continue_fill(
        &self,
        key: &CacheKey,
        client: Option<IpAddr>,
    ) -> Option<BackgroundPermit> {
        if self.is_draining() { None } else { self.0.refreshes.try_continue_fill(key, client) }
    }

    /// Refuses all new background work from now on, because the server is about to stop
    /// ([`Cache::drain`](crate::Cache::drain)).
    pub(crate) fn begin_draining(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// Waits until no fill and no background work is in progress.
    pub(crate) async fn idle(&self) {
        let SharedState { fills, refreshes, .. } = &*self.0;
        loop {
            // Both futures are made before the check, so that they also notice work that ends
            // between the check and the wait.
            let (no_fills, no_refreshes) =
                (pin!(fills.idle.notified()), pin!(refreshes.idle.notified()));
            let either = select(no_fills, no_refreshes);
            if fills.len() == 0 && refreshes.len() == 0 {
                return;
            }
            either.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::fixtures::at;

    #[test]
    fn background_work_is_not_permitted_while_draining() {
        let coordinator = Coordinator::new();
        let key = CacheKey::new("t", "http", "h", "/", None);
        coordinator.begin_draining();
        assert!(coordinator.try_refresh(&key, None, at(0)).is_none());
        assert!(coordinator.try_continue_fill(&key, None).is_none());
    }
}
