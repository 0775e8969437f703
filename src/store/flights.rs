//! Who asks a handler for something, and who waits for what it answers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use crate::key::Key;

/// How asking ended, for those who waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The answer is stored.
    Stored,
    /// There is an answer, and it is not: each has to ask for itself.
    NotStored,
    /// Nobody asks any more, and there is no answer.
    Abandoned,
}

/// One's part in asking for something.
#[derive(Debug)]
pub(crate) enum Join {
    /// Nobody else asks: one's own turn.
    Lead(Lead),
    /// Another asks already.
    Follow(Follow),
}

type Signal = watch::Receiver<Option<End>>;

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
    end: Signal,
}

impl Flights {
    pub(super) fn join(self: &Arc<Self>, key: &Key, rest: &[u8]) -> Join {
        let mut open = self.lock();
        let key = match open.get_key_value(key.as_bytes()) {
            Some((key, _)) => Arc::clone(key),
            None => key.to_shared(),
        };
        let flights = open.entry(Arc::clone(&key)).or_default();
        if let Some(flight) = flights.iter().find(|flight| *flight.rest == *rest) {
            return Join::Follow(Follow(flight.end.clone()));
        }
        let (signal, end) = watch::channel(None);
        flights.push(Flight { rest: Box::from(rest), end });
        drop(open);
        Join::Lead(Lead { key, signal, otherwise: End::Abandoned, flights: Arc::clone(self) })
    }

    /// Who comes from now on does not wait for what was asked before.
    pub(super) fn overtake(&self, key: &Key) {
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

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<[u8]>, Vec<Flight>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one who asks. Dropping it tells those who wait.
#[derive(Debug)]
pub(crate) struct Lead {
    key: Arc<[u8]>,
    signal: watch::Sender<Option<End>>,
    /// What dropping it means.
    otherwise: End,
    flights: Arc<Flights>,
}

impl Lead {
    /// There is an answer; unless it comes to be stored, it is not.
    pub(crate) const fn answered(&mut self) {
        self.otherwise = End::NotStored;
    }

    /// The answer is stored.
    pub(crate) fn stored(mut self) {
        self.otherwise = End::Stored;
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if self.otherwise == End::Stored {
            self.flights.stored.fetch_add(1, Ordering::AcqRel);
        }
        let mut open = self.flights.lock();
        if let Some(flights) = open.get_mut(&self.key) {
            flights.retain(|flight| !flight.end.same_channel(&self.signal.subscribe()));
            if flights.is_empty() {
                open.remove(&self.key);
            }
        }
        drop(open);
        // After that: who is told and comes again finds the place free.
        self.signal.send_replace(Some(self.otherwise));
    }
}

/// One who waits.
#[derive(Debug)]
pub(crate) struct Follow(Signal);

impl Follow {
    pub(crate) async fn end(mut self) -> End {
        let end = self.0.wait_for(Option::is_some).await;
        end.ok().and_then(|end| *end).unwrap_or(End::Abandoned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> Key {
        Key::new("t", "http", "h", path, None)
    }

    fn lead(join: Join) -> Lead {
        match join {
            Join::Lead(lead) => lead,
            Join::Follow(_) => panic!("somebody else leads"),
        }
    }

    fn follow(join: Join) -> Follow {
        match join {
            Join::Follow(follow) => follow,
            Join::Lead(_) => panic!("nobody leads"),
        }
    }

    #[tokio::test]
    async fn one_leads_and_the_others_learn_how_it_ended() {
        let flights = Arc::new(Flights::default());
        let ends: [(fn(Lead), End); 3] = [
            (Lead::stored, End::Stored),
            (
                |mut lead| {
                    lead.answered();
                },
                End::NotStored,
            ),
            (drop, End::Abandoned),
        ];
        for (finish, want) in ends {
            let leader = lead(flights.join(&key("/a"), b""));
            let followers: Vec<_> = (0..3).map(|_| follow(flights.join(&key("/a"), b""))).collect();
            assert_eq!(flights.len(), 1);
            finish(leader);
            for follower in followers {
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
        let follower = follow(flights.join(&key("/a"), b"de"));
        assert_eq!(flights.len(), 3);
        let [plain, german, other] = leads;
        plain.stored();
        assert!(matches!(flights.join(&key("/a"), b"de"), Join::Follow(_)));
        german.stored();
        assert_eq!(follower.end().await, End::Stored);
        drop(other);
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn who_comes_after_a_purge_does_not_wait_for_what_began_before_it() {
        let flights = Arc::new(Flights::default());
        let before = lead(flights.join(&key("/a"), b""));
        let waits = follow(flights.join(&key("/a"), b""));
        flights.overtake(&key("/a"));
        let after = lead(flights.join(&key("/a"), b""));
        let joins = follow(flights.join(&key("/a"), b""));
        drop(before);
        assert_eq!(waits.end().await, End::Abandoned);
        assert_eq!(flights.len(), 1, "the end of the one before does not end the one after");
        after.stored();
        assert_eq!(joins.end().await, End::Stored);
    }
}
