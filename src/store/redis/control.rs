//! What is done without a request: asking a Redis that failed whether it is back, telling it what it
//! could not be told, and, for stores that keep copies, hearing of others' invalidations.
//!
//! On a thread of its own, so that no handler keeps it waiting and no worker takes it along when it
//! ends. It begins with the first call and ends with the store.

use std::{
    future::{Future, pending},
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock, Weak},
    thread,
    time::Duration,
};

use deadpool_redis::redis::aio::PubSubStream;
use futures_util::{FutureExt as _, StreamExt as _};
use rand::Rng as _;
use tokio::{
    runtime::Builder,
    select,
    sync::Notify,
    time::{sleep, timeout},
};

use super::{connection::Wire, failure::Failure, link::Link};

/// The time between the first two probes; it doubles from one to the next.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest time between two probes.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a probe may take, a connection included.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// How long one pull of the table may take.
const PULL_LIMIT: Duration = Duration::from_millis(500);

/// Starts the thread, once.
#[derive(Debug, Default)]
pub(super) struct Control(OnceLock<()>);

impl Control {
    pub(super) fn start(&self, link: &Arc<Link>) {
        self.0.get_or_init(|| {
            let work = Work { link: Arc::downgrade(link), wake: Arc::clone(&link.wake) };
            let thread = thread::Builder::new().name("cache-redis".to_owned());
            if let Err(error) = thread.spawn(move || work.run()) {
                log::warn!(
                    "no thread to watch over Redis, which is not asked again if it fails: {error}"
                );
            }
        });
    }
}

struct Work {
    link: Weak<Link>,
    wake: Arc<Notify>,
}

/// What is held while all is well.
#[derive(Default)]
struct Held {
    wire: Option<Wire>,
    heard: Option<PubSubStream>,
}

impl Work {
    fn run(self) {
        let runtime = Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.work()),
            Err(error) => log::warn!("no runtime to watch over Redis: {error}"),
        }
    }

    async fn work(self) {
        let mut held = Held::default();
        let mut pause = FIRST_PAUSE;
        while let Some(link) = self.link.upgrade() {
            if link.is_open() {
                held = Held::default();
                match guarded(PROBE_LIMIT, probe(&link)).await {
                    Ok(()) if link.close() => {
                        log::info!("Redis answers again");
                        pause = FIRST_PAUSE;
                        continue;
                    }
                    // Something more to be told came meanwhile.
                    Ok(()) => continue,
                    Err(failure) => log::debug!("{failure}"),
                }
                drop(link);
                sleep(pause.mul_f64(rand::rng().random_range(0.5..=1.0))).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
            let Some(heartbeat) = link.heartbeat() else {
                drop(link);
                self.wake.notified().await;
                continue;
            };
            if let Err(failure) = guarded(PROBE_LIMIT, keep_current(&link, &mut held)).await {
                held = Held::default();
                // Before a request finds out.
                link.trip(&failure);
            }
            drop(link);
            self.rest(&mut held, heartbeat).await;
        }
    }

    /// Until it is time, or there is something to do.
    async fn rest(&self, held: &mut Held, heartbeat: Duration) {
        let Held { heard, .. } = held;
        let announced = async {
            match heard {
                Some(announced) => announced.next().await,
                None => pending().await,
            }
        };
        select! {
            () = sleep(heartbeat) => {}
            () = self.wake.notified() => {}
            message = announced => {
                if message.is_none() {
                    log::debug!("announcements of invalidations are no longer heard");
                    held.heard = None;
                }
            }
        }
    }
}

/// In time, and so that this thread survives: there is no other that finds out that Redis is back.
async fn guarded<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match AssertUnwindSafe(timeout(limit, work)).catch_unwind().await {
        Ok(in_time) => in_time.unwrap_or(Err(Failure::Late)),
        Err(_) => Err(Failure::Panicked),
    }
}

/// Whether Redis is back: it is once it has been told everything.
async fn probe(link: &Arc<Link>) -> Result<(), Failure> {
    let mut wire = link.connector.connect().await?;
    while let Some(what) = link.postponed() {
        link.table.invalidate(&mut wire, &link.keys, &link.coordinator, &what).await?;
        link.delivered(&what);
    }
    link.pull(&mut wire).await?;
    Ok(())
}

/// Reads the table; listens first, so that what comes after is heard.
async fn keep_current(link: &Arc<Link>, held: &mut Held) -> Result<(), Failure> {
    if held.heard.is_none() {
        let heard = timeout(PULL_LIMIT, link.connector.listen(&link.keys.table)).await;
        match heard.unwrap_or(Err(Failure::Late)) {
            Ok(heard) => held.heard = heard.map(|heard| heard.into_on_message()),
            Err(failure) => log::debug!("announcements of invalidations are not heard: {failure}"),
        }
    }
    let wire = match &mut held.wire {
        Some(wire) => wire,
        None => {
            let wire = timeout(PULL_LIMIT, link.connector.connect()).await;
            held.wire.insert(wire.unwrap_or(Err(Failure::Late))?)
        }
    };
    timeout(PULL_LIMIT, link.pull(wire)).await.unwrap_or(Err(Failure::Late))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn what_never_ends_and_what_panics_are_failures() {
        let done = guarded(PROBE_LIMIT, async { Ok(1) }).await;
        assert_eq!(done.ok(), Some(1));
        let never = guarded::<()>(Duration::from_millis(1), pending()).await;
        assert!(matches!(never, Err(Failure::Late)));
        let panics = guarded::<()>(PROBE_LIMIT, async { panic!("as meant") }).await;
        assert!(matches!(panics, Err(Failure::Panicked)));
    }
}
