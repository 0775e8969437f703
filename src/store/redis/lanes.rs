//! One connection for each worker thread and kind of work, held for as long as it works.
//!
//! Each thread has its own, for a connection is served by the runtime that made it: shared, one
//! thread's slow handler would keep the requests of all others waiting. And what is small has its
//! own, so that no look-up waits until a large response has been written.

use std::{cell::RefCell, time::Duration};

use thread_local::ThreadLocal;
use tokio::{runtime::Handle, sync::watch, time::timeout};

use super::{connection::Wire, failure::Failure};

/// How long connecting may take, if nobody needs to wait for it.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Look-ups, invalidations, leases.
    Ask,
    /// Responses on their way to Redis.
    Store,
}

/// The connections of all threads.
#[derive(Default)]
pub(super) struct Lanes(ThreadLocal<RefCell<[Slot; 2]>>);

#[derive(Default)]
enum Slot {
    #[default]
    Empty,
    Connecting(watch::Receiver<Connected>),
    Held {
        wire: Wire,
        /// What the breaker's count was.
        opened: u64,
    },
}

type Connected = Option<Result<Wire, Failure>>;

impl Lanes {
    /// This thread's connection. `connect` makes one where there is none, or none from after the
    /// last outage; it goes on if whoever waits for it does not.
    pub(super) async fn wire<F>(
        &self,
        lane: Lane,
        opened: u64,
        connect: impl FnOnce() -> F,
    ) -> Result<Wire, Failure>
    where
        F: Future<Output = Result<Wire, Failure>> + Send + 'static,
    {
        let mut connecting = {
            let mut slots = self.0.get_or_default().borrow_mut();
            let slot = slot(&mut slots, lane);
            match slot {
                Slot::Held { wire, opened: then } if *then == opened => return Ok(wire.clone()),
                // Whoever dropped it without a word was ended with its runtime.
                Slot::Connecting(receiver) if receiver.has_changed().is_ok() => receiver.clone(),
                Slot::Empty | Slot::Held { .. } | Slot::Connecting(_) => {
                    let runtime = Handle::try_current().map_err(|_| Failure::NoRuntime)?;
                    let (sender, receiver) = watch::channel(None);
                    let work = timeout(CONNECT_LIMIT, connect());
                    runtime.spawn(async move {
                        let connected = work.await.unwrap_or(Err(Failure::Late));
                        sender.send_replace(Some(connected));
                        // Not before everybody who waits has heard.
                        sender.closed().await;
                    });
                    *slot = Slot::Connecting(receiver.clone());
                    receiver
                }
            }
        };
        let connected = match connecting.wait_for(Option::is_some).await {
            Ok(connected) => connected.clone().unwrap_or(Err(Failure::Late)),
            Err(_) => Err(Failure::Late),
        };
        let mut slots = self.0.get_or_default().borrow_mut();
        let slot = slot(&mut slots, lane);
        if matches!(slot, Slot::Connecting(receiver) if receiver.same_channel(&connecting)) {
            *slot = match &connected {
                Ok(wire) => Slot::Held { wire: wire.clone(), opened },
                Err(_) => Slot::Empty,
            };
        }
        connected
    }

    /// Lets this thread's connection go; who uses it now goes on to.
    pub(super) fn leave(&self, lane: Lane) {
        let mut slots = self.0.get_or_default().borrow_mut();
        let slot = slot(&mut slots, lane);
        if matches!(slot, Slot::Held { .. }) {
            *slot = Slot::Empty;
        }
    }
}

fn slot(slots: &mut [Slot; 2], lane: Lane) -> &mut Slot {
    let [ask, store] = slots;
    match lane {
        Lane::Ask => ask,
        Lane::Store => store,
    }
}
