//! A store that forwards to another store. It counts and records the calls, and can hold them, make them
//! fail or drop them.

use std::{
    collections::HashMap,
    future::{Future, pending, poll_fn},
    panic::resume_unwind,
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use actix_web_cache::{
    MemoryStore,
    store::{
        CacheKey, Coordinator, Fill, Invalidation, Lookup, Put, Selector, Store, StoreError,
        StoredResponse, UrlKey,
    },
};
use tokio::{sync::Semaphore, task::yield_now, time::timeout};

use super::{Counter, HoldPoint, store, wait_until};

/// The methods of [`Store`] that are hooked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum StoreCall {
    LookupNow,
    Lookup,
    Put,
    Remove,
    Invalidate,
}

impl StoreCall {
    pub(crate) const ALL: [Self; 5] =
        [Self::LookupNow, Self::Lookup, Self::Put, Self::Remove, Self::Invalidate];
}

/// An event that the store records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreEvent {
    Begins(StoreCall),
    /// The call has succeeded or failed in the inner store.
    Ends(StoreCall),
    /// An event of the test, recorded by [`HookedStore::record`].
    Test(&'static str),
}

/// A fault of a store call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreFault {
    /// Returns an error with the text `injected fault`.
    Error,
    Hangs,
    /// Panics when the future is polled.
    Panics,
    /// Panics when the method is called, before it returns its future.
    PanicsAtOnce,
}

/// A store with hooks. Clones share the inner store and the hooks.
///
/// It does not support leases, and it implements `lookup_now` only if the test asks for it.
pub(crate) struct HookedStore<S = MemoryStore>(Arc<Inner<S>>);

struct Inner<S> {
    store: S,
    is_slow: bool,
    forwards_lookup_now: bool,
    hanging_call: Option<usize>,
    /// The number of all calls but those of `lookup_now`, for `hanging_call`.
    calls: Counter,
    calls_by_kind: Mutex<HashMap<StoreCall, usize>>,
    events: Mutex<Vec<StoreEvent>>,
    completed_puts: Semaphore,
    put_keys: Mutex<Vec<CacheKey>>,
    faults: Mutex<HashMap<StoreCall, StoreFault>>,
    holds: Mutex<Vec<(StoreEvent, HoldPoint)>>,
    next_drop: Mutex<Option<(StoreCall, usize)>>,
    was_dropped: Mutex<Option<bool>>,
}

impl<S> Clone for HookedStore<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl HookedStore {
    /// A memory store with hooks.
    pub(crate) fn new() -> Self {
        Self::over(store())
    }

    /// A memory store whose calls are not ready at their first poll. A call has no effect if its caller
    /// polls it only once.
    pub(crate) fn slow() -> Self {
        Self(Arc::new(Inner { is_slow: true, ..Inner::new(store()) }))
    }

    /// Like [`slow`](Self::slow), but the call with this number, from 0, never completes.
    pub(crate) fn slow_with_hanging_call(number: usize) -> Self {
        let inner = Inner::new(store());
        Self(Arc::new(Inner { is_slow: true, hanging_call: Some(number), ..inner }))
    }

    /// A memory store that also forwards `lookup_now`, so that its caller need not call `lookup`.
    pub(crate) fn with_lookup_now() -> Self {
        Self(Arc::new(Inner { forwards_lookup_now: true, ..Inner::new(store()) }))
    }
}

impl<S> Inner<S> {
    fn new(store: S) -> Self {
        Self {
            store,
            is_slow: false,
            forwards_lookup_now: false,
            hanging_call: None,
            calls: Counter::default(),
            calls_by_kind: Mutex::default(),
            events: Mutex::default(),
            completed_puts: Semaphore::new(0),
            put_keys: Mutex::default(),
            faults: Mutex::default(),
            holds: Mutex::default(),
            next_drop: Mutex::default(),
            was_dropped: Mutex::default(),
        }
    }
}

impl<S: Store> HookedStore<S> {
    pub(crate) fn over(store: S) -> Self {
        Self(Arc::new(Inner::new(store)))
    }

    pub(crate) fn inner(&self) -> &S {
        &self.0.store
    }

    /// The number of calls of a method.
    pub(crate) fn calls(&self, call: StoreCall) -> usize {
        self.0.calls_by_kind.lock().unwrap().get(&call).copied().unwrap_or_default()
    }

    /// Records an event of the test between those of the store.
    pub(crate) fn record(&self, event: &'static str) {
        self.0.events.lock().unwrap().push(StoreEvent::Test(event));
    }

    /// Takes the events since the last call.
    pub(crate) fn events(&self) -> Vec<StoreEvent> {
        std::mem::take(&mut *self.0.events.lock().unwrap())
    }

    /// Waits until a further `put` has ended.
    pub(crate) async fn put_completed(&self) {
        let put = timeout(Duration::from_secs(20), self.0.completed_puts.acquire()).await;
        put.expect("no put completed within 20 s").unwrap().forget();
    }

    /// Injects a fault into all calls of these methods until [`recover`](Self::recover).
    pub(crate) fn set_fault(&self, calls: &[StoreCall], fault: StoreFault) {
        self.0.faults.lock().unwrap().extend(calls.iter().map(|call| (*call, fault)));
    }

    /// Ends all faults.
    pub(crate) fn recover(&self) {
        self.0.faults.lock().unwrap().clear();
    }

    /// Holds the next call at an event.
    pub(crate) fn hold_next(&self, event: StoreEvent) -> HoldPoint {
        let hold = HoldPoint::new();
        self.0.holds.lock().unwrap().push((event, hold.clone()));
        hold
    }

    /// Drops the future of the next call of a method after a number of polls. The call then fails.
    pub(crate) fn drop_next(&self, call: StoreCall, polls: usize) {
        *self.0.next_drop.lock().unwrap() = Some((call, polls));
    }

    /// Waits until the call of [`drop_next`](Self::drop_next) is over. Returns whether it was dropped
    /// before it completed.
    pub(crate) async fn was_dropped(&self) -> bool {
        wait_until("the call to drop is over", || self.0.was_dropped.lock().unwrap().is_some())
            .await;
        self.0.was_dropped.lock().unwrap().take().unwrap()
    }

    /// Removes all entries from the inner store, without hooks.
    pub(crate) async fn evict_all(&self) {
        let keys = std::mem::take(&mut *self.0.put_keys.lock().unwrap());
        for key in keys {
            self.0.store.remove(&key).await.unwrap();
        }
    }

    fn fault(&self, call: StoreCall) -> Option<StoreFault> {
        self.0.faults.lock().unwrap().get(&call).copied()
    }

    fn count(&self, call: StoreCall) {
        *self.0.calls_by_kind.lock().unwrap().entry(call).or_default() += 1;
    }

    /// Records an event and waits at its hold point, if the test set one.
    async fn reach(&self, event: StoreEvent) {
        self.0.events.lock().unwrap().push(event);
        if event == StoreEvent::Ends(StoreCall::Put) {
            self.0.completed_puts.add_permits(1);
        }
        let hold = {
            let mut holds = self.0.holds.lock().unwrap();
            let found = holds.iter().position(|(held, _)| *held == event);
            found.map(|index| holds.remove(index).1)
        };
        match hold {
            Some(hold) => hold.wait().await,
            None if self.0.is_slow => yield_now().await,
            None => {}
        }
    }

    async fn inject_fault(&self, call: StoreCall) -> Result<(), StoreError> {
        match self.fault(call) {
            None => Ok(()),
            Some(StoreFault::Error) => Err(injected_fault()),
            Some(StoreFault::Hangs) => pending().await,
            Some(StoreFault::Panics | StoreFault::PanicsAtOnce) => panic_silently(),
        }
    }

    /// Carries out a call of the inner store with all hooks.
    fn run<T: Send>(
        &self,
        call: StoreCall,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> impl Future<Output = Result<T, StoreError>> + Send {
        if self.fault(call) == Some(StoreFault::PanicsAtOnce) {
            panic_silently();
        }
        async move {
            self.count(call);
            let number = self.0.calls.count() - 1;
            self.reach(StoreEvent::Begins(call)).await;
            if self.0.hanging_call == Some(number) {
                pending::<()>().await;
            }
            self.inject_fault(call).await?;
            let result = self.drop_after_polls(call, work).await;
            self.reach(StoreEvent::Ends(call)).await;
            result
        }
    }

    async fn drop_after_polls<T>(
        &self,
        call: StoreCall,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let next_drop = self.0.next_drop.lock().unwrap().take_if(|(dropped, _)| *dropped == call);
        let Some((_, mut polls_left)) = next_drop else { return work.await };
        let output = {
            let mut work = pin!(work);
            poll_fn(|context| {
                if polls_left == 0 {
                    return Poll::Ready(None);
                }
                polls_left -= 1;
                work.as_mut().poll(context).map(Some)
            })
            .await
        };
        *self.0.was_dropped.lock().unwrap() = Some(output.is_none());
        output.unwrap_or_else(|| Err(StoreError::new("dropped by the test")))
    }
}

fn injected_fault() -> StoreError {
    StoreError::new("injected fault")
}

/// Panics without a message on standard error.
fn panic_silently() -> ! {
    resume_unwind(Box::new("injected fault"))
}

impl<S: Store> Store for HookedStore<S> {
    fn coordinator(&self) -> &Coordinator {
        self.0.store.coordinator()
    }

    fn lookup_now(
        &self,
        key: &CacheKey,
        selector: &Selector<'_>,
    ) -> Option<Result<Lookup, StoreError>> {
        self.count(StoreCall::LookupNow);
        match self.fault(StoreCall::LookupNow) {
            None if self.0.forwards_lookup_now => self.0.store.lookup_now(key, selector),
            None | Some(StoreFault::Hangs) => None,
            Some(StoreFault::Error) => Some(Err(injected_fault())),
            Some(StoreFault::Panics | StoreFault::PanicsAtOnce) => panic_silently(),
        }
    }

    fn lookup(
        &self,
        key: &CacheKey,
        selector: &Selector<'_>,
    ) -> impl Future<Output = Result<Lookup, StoreError>> + Send {
        self.run(StoreCall::Lookup, async { self.0.store.lookup(key, selector).await })
    }

    fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> impl Future<Output = Result<Put, StoreError>> + Send {
        self.run(StoreCall::Put, async {
            self.0.put_keys.lock().unwrap().push(key.clone());
            self.0.store.put(key, response, fill).await
        })
    }

    fn remove(&self, key: &CacheKey) -> impl Future<Output = Result<usize, StoreError>> + Send {
        self.run(StoreCall::Remove, async { self.0.store.remove(key).await })
    }

    fn remove_url(
        &self,
        url: UrlKey<'_>,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send {
        self.run(StoreCall::Remove, async move { self.0.store.remove_url(url).await })
    }

    fn invalidate(
        &self,
        invalidation: &Invalidation,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.run(StoreCall::Invalidate, async { self.0.store.invalidate(invalidation).await })
    }
}
