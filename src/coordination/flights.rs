//! Who asks a handler for something, and who waits for what it answers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use super::shared_body::SharedBody;
use crate::{entry::key::CacheKey, entry::response::StoredResponse};

/// How asking ended, for those who waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlightEnd {
    /// The answer is stored.
    Stored,
    /// There is an answer, and it is not: each has to ask for itself.
    NotStored,
    /// There is none, for the handler failed or its body broke off.
    Failed,
    /// Nobody asks any more, and there is no answer.
    Abandoned,
    /// It takes too long to wait for it.
    Overdue,
}

/// What those who wait learn.
#[derive(Debug, Clone)]
pub(crate) enum FlightEvent {
    /// The answer's head is here, and its body on its way.
    ResponseInProgress(Arc<ResponseInProgress>),
    Ended(FlightEnd),
}

/// An answer that is going to be stored when its body has come.
#[derive(Debug)]
pub(crate) struct ResponseInProgress {
    /// Still without its body.
    pub(crate) response: Arc<StoredResponse>,
    /// How long that is to become.
    pub(crate) length: u64,
    pub(crate) body: Arc<SharedBody>,
}

/// One's part in asking for something.
#[derive(Debug)]
pub(crate) enum Join {
    /// Nobody else asks: one's own turn.
    Lead(FlightLeader),
    /// Another asks already.
    Follow(FlightFollower),
}

type Signal = watch::Sender<Option<FlightEvent>>;

/// All that is asked for now, over all worker threads. Bounded by the requests in flight.
#[derive(Debug, Default)]
pub(super) struct Flights {
    /// How many answers came to be stored.
    stored: AtomicU64,
    open: Mutex<HashMap<Arc<[u8]>, Vec<Flight>>>,
}

#[derive(Debug)]
struct Flight {
    /// What tells requests for one key apart.
    rest: Box<[u8]>,
    signal: Arc<Signal>,
}

impl Flights {
    pub(super) fn join(self: &Arc<Self>, key: &CacheKey, rest: &[u8]) -> Join {
        let mut open = self.lock();
        let key = match open.get_key_value(key.as_bytes()) {
            Some((key, _)) => Arc::clone(key),
            None => key.to_shared(),
        };
        let flights = open.entry(Arc::clone(&key)).or_default();
        if let Some(flight) = flights.iter().find(|flight| *flight.rest == *rest) {
            return Join::Follow(FlightFollower(flight.signal.subscribe()));
        }
        let signal = Arc::new(watch::Sender::new(None));
        flights.push(Flight { rest: Box::from(rest), signal: Arc::clone(&signal) });
        drop(open);
        Join::Lead(FlightLeader {
            key,
            signal,
            otherwise: FlightEnd::Abandoned,
            flights: Arc::clone(self),
        })
    }

    /// Who comes from now on does not wait for what was asked before.
    pub(super) fn overtake(&self, key: &CacheKey) {
        self.lock().remove(key.as_bytes());
    }

    /// Changes whenever an answer was stored, before its place is free again: who finds a place free
    /// although this has changed since it looked into the store has to look again.
    pub(super) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Acquire)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    /// Frees a place, unless another has it already.
    fn leave(&self, key: &Arc<[u8]>, signal: &Arc<Signal>) {
        let mut open = self.lock();
        if let Some(flights) = open.get_mut(key) {
            flights.retain(|flight| !Arc::ptr_eq(&flight.signal, signal));
            if flights.is_empty() {
                open.remove(key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<[u8]>, Vec<Flight>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one who asks. Dropping it tells those who wait.
#[derive(Debug)]
pub(crate) struct FlightLeader {
    key: Arc<[u8]>,
    signal: Arc<Signal>,
    /// What dropping it means.
    otherwise: FlightEnd,
    flights: Arc<Flights>,
}

impl FlightLeader {
    /// Unless the answer comes to be stored, this is how it ends.
    pub(crate) const fn set_end_on_drop(&mut self, end: FlightEnd) {
        self.otherwise = end;
    }

    /// The answer's head is here: who waits, or comes now, can have it.
    pub(crate) fn publish_head(&self, coming: ResponseInProgress) {
        self.signal.send_replace(Some(FlightEvent::ResponseInProgress(Arc::new(coming))));
    }

    /// Nobody waits for this any longer, and who comes now asks anew.
    pub(crate) fn release_followers(&self) {
        self.flights.leave(&self.key, &self.signal);
        self.signal.send_replace(Some(FlightEvent::Ended(FlightEnd::Overdue)));
    }

    /// Whether anybody waits for how it ends.
    pub(crate) fn has_followers(&self) -> bool {
        self.signal.receiver_count() > 0
    }

    /// The answer is stored.
    pub(crate) fn stored(mut self) {
        self.otherwise = FlightEnd::Stored;
    }
}

impl Drop for FlightLeader {
    fn drop(&mut self) {
        if self.otherwise == FlightEnd::Stored {
            self.flights.stored.fetch_add(1, Ordering::AcqRel);
        }
        self.flights.leave(&self.key, &self.signal);
        // After that: who is told and comes again finds the place free.
        self.signal.send_replace(Some(FlightEvent::Ended(self.otherwise)));
    }
}

/// One who waits.
#[derive(Debug)]
pub(crate) struct FlightFollower(watch::Receiver<Option<FlightEvent>>);

impl FlightFollower {
    /// The first there is to know.
    pub(crate) async fn next_event(&mut self) -> FlightEvent {
        let news = self.0.wait_for(Option::is_some).await;
        news.ok().and_then(|news| news.clone()).unwrap_or(FlightEvent::Ended(FlightEnd::Abandoned))
    }

    pub(crate) async fn end(&mut self) -> FlightEnd {
        let end = self.0.wait_for(|news| matches!(news, Some(FlightEvent::Ended(_)))).await;
        match end.as_deref() {
            Ok(Some(FlightEvent::Ended(end))) => *end,
            Ok(Some(FlightEvent::ResponseInProgress(_)) | None) | Err(_) => FlightEnd::Abandoned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{entry::response::tests::stored, store::Coordinator};

    fn key(path: &str) -> CacheKey {
        CacheKey::new("t", "http", "h", path, None)
    }

    fn lead(join: Join) -> FlightLeader {
        match join {
            Join::Lead(lead) => lead,
            Join::Follow(_) => panic!("somebody else leads"),
        }
    }

    fn follow(join: Join) -> FlightFollower {
        match join {
            Join::Follow(follow) => follow,
            Join::Lead(_) => panic!("nobody leads"),
        }
    }

    #[tokio::test]
    async fn one_leads_and_the_others_learn_how_it_ended() {
        let flights = Arc::new(Flights::default());
        let ends: [(fn(FlightLeader), FlightEnd); 5] = [
            (FlightLeader::stored, FlightEnd::Stored),
            (|mut lead| lead.set_end_on_drop(FlightEnd::NotStored), FlightEnd::NotStored),
            (|mut lead| lead.set_end_on_drop(FlightEnd::Failed), FlightEnd::Failed),
            (drop, FlightEnd::Abandoned),
            (|lead| lead.release_followers(), FlightEnd::Abandoned),
        ];
        for (finish, want) in ends {
            let leader = lead(flights.join(&key("/a"), b""));
            let followers: Vec<_> = (0..3).map(|_| follow(flights.join(&key("/a"), b""))).collect();
            assert_eq!(flights.len(), 1);
            finish(leader);
            for mut follower in followers {
                assert_eq!(follower.end().await, want);
            }
            assert_eq!(flights.len(), 0, "{want:?} leaves nothing behind");
        }
        assert_eq!(flights.stored(), 1);
    }

    #[tokio::test]
    async fn what_differs_is_asked_for_on_its_own() {
        let flights = Arc::new(Flights::default());
        let leads = [
            lead(flights.join(&key("/a"), b"")),
            lead(flights.join(&key("/a"), b"de")),
            lead(flights.join(&key("/b"), b"")),
        ];
        let mut follower = follow(flights.join(&key("/a"), b"de"));
        assert_eq!(flights.len(), 3);
        let [plain, german, other] = leads;
        plain.stored();
        assert!(matches!(flights.join(&key("/a"), b"de"), Join::Follow(_)));
        german.stored();
        assert_eq!(follower.end().await, FlightEnd::Stored);
        drop(other);
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn who_comes_after_a_purge_does_not_wait_for_what_began_before_it() {
        let flights = Arc::new(Flights::default());
        let before = lead(flights.join(&key("/a"), b""));
        let mut waits = follow(flights.join(&key("/a"), b""));
        flights.overtake(&key("/a"));
        let after = lead(flights.join(&key("/a"), b""));
        let mut joins = follow(flights.join(&key("/a"), b""));
        drop(before);
        assert_eq!(waits.end().await, FlightEnd::Abandoned);
        assert_eq!(flights.len(), 1, "the end of the one before does not end the one after");
        after.stored();
        assert_eq!(joins.end().await, FlightEnd::Stored);
    }

    #[tokio::test]
    async fn who_waits_for_the_head_has_it_first_and_who_comes_later_too() {
        let flights = Arc::new(Flights::default());
        let leader = lead(flights.join(&key("/a"), b""));
        assert!(!leader.has_followers());
        let mut early = follow(flights.join(&key("/a"), b""));
        assert!(leader.has_followers());
        let reservation = Coordinator::new().reserve_bytes(0).unwrap();
        let writer = SharedBody::begin(reservation);
        leader.publish_head(ResponseInProgress {
            response: Arc::new(stored(0, &[])),
            length: 3,
            body: Arc::clone(writer.transfer()),
        });
        let mut late = follow(flights.join(&key("/a"), b""));
        for follower in [&mut early, &mut late] {
            let FlightEvent::ResponseInProgress(coming) = follower.next_event().await else {
                panic!("the head is here")
            };
            assert_eq!(coming.length, 3);
        }
        leader.stored();
        assert!(matches!(early.next_event().await, FlightEvent::Ended(FlightEnd::Stored)));
        assert_eq!(late.end().await, FlightEnd::Stored);
    }

    #[tokio::test]
    async fn what_takes_too_long_is_asked_for_anew() {
        let flights = Arc::new(Flights::default());
        let slow = lead(flights.join(&key("/a"), b""));
        let mut waits = follow(flights.join(&key("/a"), b""));
        slow.release_followers();
        assert_eq!(waits.end().await, FlightEnd::Overdue);
        let anew = lead(flights.join(&key("/a"), b""));
        slow.stored();
        assert_eq!(flights.len(), 1, "the end of the slow one does not end the next");
        drop(anew);
        assert_eq!(flights.len(), 0);
    }
}
