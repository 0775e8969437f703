//! Flights: handler calls whose response several requests may share (request collapsing).
//!
//! The first request of a flight is its leader, which calls the handler. The other requests are its
//! followers, which wait for the response of the leader.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use actix_web::http::header::HeaderName;
use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::shared_body::SharedBody;
use crate::entry::{
    key::{CacheKey, UrlKey},
    response::StoredResponse,
    url_table::UrlTable,
};

/// The result of a flight, as the flight reports it to its followers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlightEnd {
    /// The response of the leader is stored.
    Stored,
    /// The response of the leader is not stored. Each follower calls the handler itself.
    NotStored,
    /// The handler returned an error, or the body of its response ended early.
    Failed,
    /// The leader was dropped before the handler responded, for example because its client
    /// disconnected.
    Abandoned,
    /// The response takes longer than followers may wait.
    Overdue,
}

/// An event that a flight reports to its followers.
#[derive(Debug, Clone)]
pub(crate) enum FlightEvent {
    /// The handler sent the status line and the header fields, and the cache is reading the body.
    ResponseInProgress(Arc<ResponseInProgress>),
    /// The flight has ended. If the response is stored, the event has its body. The followers can
    /// share this body, even if responses hold too many other bodies.
    Ended(
        FlightEnd,
        #[expect(dead_code, reason = "the event keeps the body in memory")] Option<Bytes>,
    ),
}

/// A response whose body the cache is still reading. The cache stores the response once the body is
/// complete.
#[derive(Debug)]
pub(crate) struct ResponseInProgress {
    /// The head of the response: all of the response except its body.
    pub(crate) response: Arc<StoredResponse>,
    /// The declared length of the body.
    pub(crate) length: u64,
    pub(crate) body: Arc<SharedBody>,
}

/// The role of a request in a flight.
#[derive(Debug)]
pub(crate) enum FlightRole {
    /// The request is the first one of the flight and calls the handler.
    Leader(FlightLeader),
    /// The request waits for the response of the leader.
    Follower(FlightFollower),
}

/// The values of a request that decide, together with the cache key, which flight the request
/// joins. Two requests may share a response in progress only if their cache keys and their collapse
/// keys are equal.
#[derive(Debug, Clone, Default)]
pub(crate) struct CollapseKey {
    /// The encoded values.
    text: CollapseText,
    /// The names of the request fields whose values are in `text`.
    fields: Box<[HeaderName]>,
}

/// The encoded values in a collapse key. Most of them need no heap allocation.
pub(crate) type CollapseText = SmallVec<[u8; 40]>;

impl CollapseKey {
    pub(crate) const fn new(text: CollapseText, fields: Box<[HeaderName]>) -> Self {
        Self { text, fields }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.text
    }
}

/// A flight: its collapse key, and its events, from its leader to its followers. Most flights have no
/// follower, so the memory and the time for a flight without followers are small.
#[derive(Debug)]
struct Flight {
    key: CacheKey,
    collapse_key: CollapseKey,
    latest: Mutex<Option<FlightEvent>>,
    /// Notified after each event.
    sent: Notify,
    followers: AtomicUsize,
}

impl Flight {
    fn new(key: CacheKey, collapse_key: CollapseKey) -> Self {
        let (latest, sent, followers) = (Mutex::default(), Notify::new(), AtomicUsize::default());
        Self { key, collapse_key, latest, sent, followers }
    }

    fn send(&self, event: FlightEvent) {
        let previous = self.latest().replace(event);
        self.sent.notify_waiters();
        drop(previous);
    }

    /// Waits until the latest event is one for which `read` returns a value.
    async fn wait_for<T>(&self, read: impl Fn(&FlightEvent) -> Option<T>) -> T {
        loop {
            // Made before the check, so that an event between the check and the wait is noticed.
            let sent = self.sent.notified();
            if let Some(value) = self.latest().as_ref().and_then(&read) {
                return value;
            }
            sent.await;
        }
    }

    fn latest(&self) -> MutexGuard<'_, Option<FlightEvent>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The open flights of one store, on all worker threads. Each flight has a leader, so there are at
/// most as many flights as requests in progress.
#[derive(Debug, Default)]
pub(super) struct Flights {
    /// The number of flights that ended with a stored response.
    stored: AtomicU64,
    open: Mutex<OpenFlights>,
}

/// The open flights of each cache key. Most keys have one flight.
type OpenFlights = UrlTable<SmallVec<[Arc<Flight>; 1]>>;

impl Flights {
    pub(super) fn join(self: &Arc<Self>, key: &CacheKey, collapse_key: CollapseKey) -> FlightRole {
        let mut open = self.lock();
        let flights = open.get_or_add(key.url().digest(), key.shared(), SmallVec::new);
        let joined = flights.iter().find(|flight| flight.collapse_key.text == collapse_key.text);
        if let Some(flight) = joined {
            return FlightRole::Follower(FlightFollower::new(Arc::clone(flight)));
        }
        let flight = Arc::new(Flight::new(key.clone(), collapse_key));
        flights.push(Arc::clone(&flight));
        drop(open);
        FlightRole::Leader(FlightLeader {
            flight,
            end_on_drop: FlightEnd::Abandoned,
            stored_body: None,
            flights: Arc::clone(self),
        })
    }

    /// Closes the flights of a key to later requests. Followers that joined before still receive
    /// the response.
    pub(super) fn close(&self, key: &CacheKey) {
        self.lock().remove(key.url().digest(), key.as_bytes());
    }

    /// Closes the flights of all keys of a URL, except `kept`, to later requests.
    pub(super) fn close_url(&self, url: UrlKey<'_>, kept: Option<&CacheKey>) {
        self.lock().remove_url(url, kept);
    }

    /// Returns the number of flights that ended with a stored response.
    ///
    /// The number grows before the flight is removed. A request may become a leader just after a
    /// flight of its key has ended. If the number has grown since the lookup of that request, the
    /// response of the ended flight may be stored by now, and the request must look up the store
    /// again.
    pub(super) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Acquire)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().values().map(SmallVec::len).sum()
    }

    /// Removes a flight from the open flights. A newer flight of the key stays open.
    fn remove(&self, flight: &Arc<Flight>) {
        let key = &flight.key;
        self.lock().remove_if(key.url().digest(), key.as_bytes(), |flights| {
            flights.retain(|other| !Arc::ptr_eq(other, flight));
            flights.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, OpenFlights> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The leader of a flight: the request that calls the handler. Dropping the leader ends the flight.
#[derive(Debug)]
pub(crate) struct FlightLeader {
    flight: Arc<Flight>,
    end_on_drop: FlightEnd,
    stored_body: Option<Bytes>,
    flights: Arc<Flights>,
}

impl FlightLeader {
    pub(crate) fn collapse_key(&self) -> &[u8] {
        self.flight.collapse_key.as_bytes()
    }

    /// Returns the names of the request fields whose values are part of the collapse key.
    pub(crate) fn compared_fields(&self) -> &[HeaderName] {
        &self.flight.collapse_key.fields
    }

    /// Sets the result of the flight for the case that the leader is dropped before the response is
    /// stored.
    pub(crate) const fn set_end_on_drop(&mut self, end: FlightEnd) {
        self.end_on_drop = end;
    }

    /// Sends the head of the response to all followers, including those that join later.
    pub(crate) fn publish_head(&self, response: ResponseInProgress) {
        self.flight.send(FlightEvent::ResponseInProgress(Arc::new(response)));
    }

    /// Ends the flight for its followers, while the leader continues. A later request begins a new
    /// flight.
    pub(crate) fn release_followers(&self) {
        self.flights.remove(&self.flight);
        self.flight.send(FlightEvent::Ended(FlightEnd::Overdue, None));
    }

    /// Returns whether any request waits for the response of this flight.
    pub(crate) fn has_followers(&self) -> bool {
        self.flight.followers.load(Ordering::Relaxed) > 0
    }

    /// Ends the flight with [`FlightEnd::Stored`]. `body` is the body of the stored response, if this
    /// flight has stored it.
    pub(crate) fn stored(mut self, body: Option<Bytes>) {
        self.end_on_drop = FlightEnd::Stored;
        self.stored_body = body;
    }
}

impl Drop for FlightLeader {
    fn drop(&mut self) {
        if self.end_on_drop == FlightEnd::Stored {
            self.flights.stored.fetch_add(1, Ordering::AcqRel);
        }
        // The flight is removed before its followers are notified, so that a follower that joins
        // again can become a leader.
        self.flights.remove(&self.flight);
        // No request can join the removed flight.
        if self.has_followers() {
            self.flight.send(FlightEvent::Ended(self.end_on_drop, self.stored_body.take()));
        }
    }
}

/// A follower of a flight: a request that waits for the response of the leader.
#[derive(Debug)]
pub(crate) struct FlightFollower(Arc<Flight>);

impl FlightFollower {
    fn new(flight: Arc<Flight>) -> Self {
        flight.followers.fetch_add(1, Ordering::Relaxed);
        Self(flight)
    }

    /// Waits for the head of the response or for the end of the flight, and returns the latest
    /// event.
    pub(crate) async fn next_event(&mut self) -> FlightEvent {
        self.0.wait_for(|event| Some(event.clone())).await
    }

    /// Waits for the end of the flight.
    pub(crate) async fn end(&mut self) -> FlightEnd {
        let end = |event: &FlightEvent| match event {
            FlightEvent::Ended(end, _) => Some(*end),
            FlightEvent::ResponseInProgress(_) => None,
        };
        self.0.wait_for(end).await
    }
}

impl Drop for FlightFollower {
    fn drop(&mut self) {
        self.0.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{coordination::budget::FillBudget, entry::fixtures::stored};

    fn key(path: &str) -> CacheKey {
        CacheKey::new("t", "http", "h", path, None)
    }

    fn join(flights: &Arc<Flights>, path: &str, collapse_key: &str) -> FlightRole {
        let text = CollapseText::from_slice(collapse_key.as_bytes());
        flights.join(&key(path), CollapseKey::new(text, Box::default()))
    }

    fn leader(role: FlightRole) -> FlightLeader {
        match role {
            FlightRole::Leader(leader) => leader,
            FlightRole::Follower(_) => panic!("another request leads"),
        }
    }

    fn follower(role: FlightRole) -> FlightFollower {
        match role {
            FlightRole::Follower(follower) => follower,
            FlightRole::Leader(_) => panic!("no request leads"),
        }
    }

    #[tokio::test]
    async fn followers_get_the_end_of_the_flight() {
        let flights = Arc::new(Flights::default());
        let ends: [(fn(FlightLeader), FlightEnd); 5] = [
            (|leader| leader.stored(None), FlightEnd::Stored),
            (|mut leader| leader.set_end_on_drop(FlightEnd::NotStored), FlightEnd::NotStored),
            (|mut leader| leader.set_end_on_drop(FlightEnd::Failed), FlightEnd::Failed),
            (drop, FlightEnd::Abandoned),
            (|leader| leader.release_followers(), FlightEnd::Abandoned),
        ];
        for (finish, want) in ends {
            let leading = leader(join(&flights, "/a", ""));
            let following: Vec<_> = (0..3).map(|_| follower(join(&flights, "/a", ""))).collect();
            assert_eq!(flights.len(), 1);
            finish(leading);
            for mut follower in following {
                assert_eq!(follower.end().await, want);
            }
            assert_eq!(flights.len(), 0, "a flight is left after {want:?}");
        }
        assert_eq!(flights.stored(), 1);
    }

    #[tokio::test]
    async fn requests_that_differ_have_flights_of_their_own() {
        let flights = Arc::new(Flights::default());
        let leaders = [
            leader(join(&flights, "/a", "")),
            leader(join(&flights, "/a", "de")),
            leader(join(&flights, "/b", "")),
        ];
        let mut german_follower = follower(join(&flights, "/a", "de"));
        assert_eq!(flights.len(), 3);
        let [plain, german, other] = leaders;
        plain.stored(None);
        assert!(matches!(join(&flights, "/a", "de"), FlightRole::Follower(_)));
        german.stored(None);
        assert_eq!(german_follower.end().await, FlightEnd::Stored);
        drop(other);
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn request_after_an_invalidation_joins_no_flight_from_before_it() {
        let flights = Arc::new(Flights::default());
        let before = leader(join(&flights, "/a", ""));
        let mut waits = follower(join(&flights, "/a", ""));
        flights.close_url(key("/b").url(), None);
        flights.close_url(key("/a").url(), Some(&key("/a")));
        assert_eq!(flights.len(), 1, "the flight is of another URL, or kept");
        flights.close_url(key("/a").url(), None);
        let after = leader(join(&flights, "/a", ""));
        let mut joins = follower(join(&flights, "/a", ""));
        drop(before);
        assert_eq!(waits.end().await, FlightEnd::Abandoned);
        assert_eq!(flights.len(), 1, "the earlier flight does not end the later one");
        after.stored(None);
        assert_eq!(joins.end().await, FlightEnd::Stored);
    }

    #[tokio::test]
    async fn early_and_late_followers_get_the_head() {
        let flights = Arc::new(Flights::default());
        let leading = leader(join(&flights, "/a", ""));
        assert!(!leading.has_followers());
        let mut early = follower(join(&flights, "/a", ""));
        assert!(leading.has_followers());
        let writer = SharedBody::begin(&FillBudget::default(), 3).unwrap();
        leading.publish_head(ResponseInProgress {
            response: Arc::new(stored(0, &[])),
            length: 3,
            body: Arc::clone(writer.body()),
        });
        let mut late = follower(join(&flights, "/a", ""));
        for follower in [&mut early, &mut late] {
            let FlightEvent::ResponseInProgress(response) = follower.next_event().await else {
                panic!("no head")
            };
            assert_eq!(response.length, 3);
        }
        leading.stored(None);
        assert!(matches!(early.next_event().await, FlightEvent::Ended(FlightEnd::Stored, _)));
        assert_eq!(late.end().await, FlightEnd::Stored);
    }

    #[tokio::test]
    async fn followers_of_an_overdue_flight_begin_another() {
        let flights = Arc::new(Flights::default());
        let slow = leader(join(&flights, "/a", ""));
        let mut waits = follower(join(&flights, "/a", ""));
        slow.release_followers();
        assert_eq!(waits.end().await, FlightEnd::Overdue);
        let next = leader(join(&flights, "/a", ""));
        slow.stored(None);
        assert_eq!(flights.len(), 1, "the overdue flight does not end the next one");
        drop(next);
        assert_eq!(flights.len(), 0);
    }
}
