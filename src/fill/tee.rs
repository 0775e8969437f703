//! Reading a handler's body on our own account: into what its clients read from, each at its own
//! pace, and at the end into the store.
//!
//! A body of a known length is read to its end, whoever is there to read it: at most
//! [`Policy::max_body_size`](crate::Policy::max_body_size) bytes. One of unknown length is read for
//! as long as anybody reads it or waits for its end; where it grows beyond what is stored, its client
//! gets the body itself and reads on as if nobody else had.

use std::{
    cell::RefCell,
    error::Error,
    future::{Future as _, poll_fn},
    mem,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    body::MessageBody,
    rt::{
        spawn,
        time::{Sleep, sleep},
    },
};
use bytes::Bytes;
use tokio::task::yield_now;

use crate::{
    coordination::flights::{FlightEnd, ResponseInProgress},
    coordination::shared_body::{BodyWriter, SharedBody},
    fill::write::Write,
    response::body::CacheBody,
};

/// How long a body is read on that nobody reads.
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// Bytes after which others on the same thread have their turn.
const TURN: usize = 128 * 1024;

/// What a chunk counts beside its bytes.
const CHUNK: usize = 1024;

/// Where the client's end finds what is left when the list ends too early.
pub(crate) type BodyRest<B> = Rc<RefCell<Option<BodyRemainder<B>>>>;

/// What is left of a body that is not stored.
pub(crate) enum BodyRemainder<B> {
    /// The body itself, to be read on.
    Body(Pin<Box<B>>),
    /// The handler's error.
    Error(Box<dyn Error>),
    /// Nothing: the body ended before its time.
    Nothing,
}

/// Begins to read a body; gives it back if too many bytes are on their way already.
pub(crate) fn begin<B: MessageBody + 'static>(
    body: B,
    write: Write,
    declared: Option<u64>,
) -> Result<CacheBody<B>, B> {
    // What is known to come is set aside before it does.
    let expected = declared.and_then(|length| usize::try_from(length).ok());
    let reservation = write.shared.store.coordinator().reserve_bytes(expected.unwrap_or(0));
    let Some(reservation) = reservation else { return Err(body) };
    let writer = SharedBody::begin(reservation);
    let Some(reader) = writer.body().reader() else { return Err(body) };
    let rest = BodyRest::default();
    let client = CacheBody::led(reader, Rc::clone(&rest), body.size());
    let patience = write.shared.checked.wait_limit();
    let overdue = write.leading.is_some().then(|| Box::pin(sleep(patience)));
    let mut pump = Tee {
        body: Box::pin(body),
        writer,
        write,
        expected,
        rest,
        deserted: None,
        overdue,
        patience,
        moved: false,
    };
    pump.announce();
    spawn(pump.run());
    Ok(client)
}

struct Tee<B> {
    body: Pin<Box<B>>,
    writer: BodyWriter,
    write: Write,
    /// The declared length.
    expected: Option<usize>,
    rest: BodyRest<B>,
    /// Ends a body that nobody reads.
    deserted: Option<Pin<Box<Sleep>>>,
    /// Ends the waiting of others.
    overdue: Option<Pin<Box<Sleep>>>,
    patience: Duration,
    /// Whether something came since that was begun.
    moved: bool,
}

/// What the body does next.
enum Next {
    Chunk(Bytes),
    End,
    Error(Box<dyn Error>),
}

enum Event {
    Body(Next),
    /// Nobody wants the body any more.
    Deserted,
    /// Others wait too long.
    Overdue,
}

impl<B: MessageBody> Tee<B> {
    /// Where the length is known, others can read along.
    fn announce(&mut self) {
        let Some(leading) = &mut self.write.leading else { return };
        leading.set_end_on_drop(FlightEnd::Abandoned);
        if let Some(length) = self.expected {
            leading.publish_head(ResponseInProgress {
                response: Arc::new(self.write.draft.clone()),
                length: length as u64,
                body: Arc::clone(self.writer.body()),
            });
        }
    }

    async fn run(mut self) {
        let mut turn = 0;
        loop {
            match poll_fn(|cx| self.poll_event(cx)).await {
                Event::Body(Next::Chunk(chunk)) => {
                    turn += chunk.len() + CHUNK;
                    if self.is_last(&chunk) {
                        let beyond = poll_fn(|cx| Poll::Ready(self.poll_body(cx))).await;
                        let Poll::Ready(next) = beyond else {
                            self.writer.push(chunk);
                            continue;
                        };
                        // What is stored before the last chunk leaves is there when its client asks
                        // again; servers do not ask for more than was declared.
                        return self.ended(chunk, next).await;
                    }
                    if !self.takes(&chunk) {
                        self.writer.push(chunk);
                        return self.hand_back();
                    }
                    self.writer.push(chunk);
                }
                Event::Overdue => self.overdue(),
                // Somebody may have come in this very moment.
                Event::Deserted if !self.writer.abort_if_unread() => {}
                Event::Deserted => {
                    log::trace!("not stored: nobody waits for the body's end");
                    return;
                }
                Event::Body(next) => return self.ended(Bytes::new(), next).await,
            }
            if turn >= TURN {
                turn = 0;
                yield_now().await;
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(next) = self.poll_body(cx) {
            return Poll::Ready(Event::Body(next));
        }
        if self.poll_deserted(cx).is_ready() {
            return Poll::Ready(Event::Deserted);
        }
        while let Some(timer) = &mut self.overdue {
            if timer.as_mut().poll(cx).is_pending() {
                break;
            }
            self.overdue = mem::take(&mut self.moved).then(|| Box::pin(sleep(self.patience)));
            if self.overdue.is_none() {
                return Poll::Ready(Event::Overdue);
            }
        }
        Poll::Pending
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        self.body.as_mut().poll_next(cx).map(|next| match next {
            Some(Ok(chunk)) => Next::Chunk(chunk),
            Some(Err(error)) => Next::Error(error.into()),
            None => Next::End,
        })
    }

    fn poll_deserted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.writer.poll_unread(cx).is_pending() {
            self.deserted = None;
            return Poll::Pending;
        }
        let awaited = self.write.leading.as_ref().is_some_and(|leading| leading.has_followers());
        if self.expected.is_none() && !awaited {
            return Poll::Ready(());
        }
        let timer = self.deserted.get_or_insert_with(|| Box::pin(sleep(DRAIN_LIMIT)));
        timer.as_mut().poll(cx)
    }

    /// Whether a chunk reaches the declared end.
    fn is_last(&self, chunk: &Bytes) -> bool {
        self.expected == Some(self.writer.length() + chunk.len())
    }

    /// Whether a chunk is within what is to be stored.
    fn takes(&mut self, chunk: &Bytes) -> bool {
        let length = self.writer.length() + chunk.len();
        if let Some(expected) = self.expected {
            self.moved = true;
            return length <= expected;
        }
        if length > self.write.shared.checked.max_body_size() {
            log::trace!("not stored: the body is too large");
            self.mark_hit_for_miss();
            return false;
        }
        let room = self.writer.reserve(chunk.len());
        if !room {
            log::trace!("not stored: too many bodies are on their way");
        }
        room
    }

    /// Who waits goes on alone; a body whose end is nowhere in sight is not waited for again.
    fn overdue(&mut self) {
        if self.expected.is_none() {
            self.mark_hit_for_miss();
        }
        if let Some(leading) = &self.write.leading {
            leading.release_followers();
        }
    }

    fn mark_hit_for_miss(&mut self) {
        let Write { shared, key, leading, .. } = &mut self.write;
        if let Some(leading) = leading {
            let now = shared.settings.clock.now();
            leading.mark_hit_for_miss(shared.store.coordinator(), key, now);
        }
    }

    /// The body is its client's alone from now on.
    fn hand_back(mut self) {
        self.means(FlightEnd::NotStored);
        self.rest.replace(Some(BodyRemainder::Body(self.body)));
    }

    /// The end, behind a last chunk that nobody has yet: it is stored if that is where it should
    /// be.
    async fn ended(mut self, last: Bytes, next: Next) {
        let length = self.writer.length() + last.len();
        if matches!(next, Next::End) && self.expected.is_none_or(|expected| expected == length) {
            return self.store(&last).await;
        }
        self.writer.push(last);
        match next {
            Next::End => {
                log::trace!("not stored: the body ended early");
                self.means(FlightEnd::Failed);
                self.rest.replace(Some(BodyRemainder::Nothing));
            }
            Next::Error(error) => {
                log::trace!("not stored: the body broke off");
                self.means(FlightEnd::Failed);
                self.rest.replace(Some(BodyRemainder::Error(error)));
            }
            // It goes on beyond what it declared: servers cut it there, and so might the next.
            Next::Chunk(more) => {
                self.writer.push(more);
                self.hand_back();
            }
        }
    }

    async fn store(self, last: &[u8]) {
        let whole = self.writer.concat(last);
        let mut write = Some(self.write.of(whole.clone()));
        poll_fn(|cx| {
            if let Some(write) = write.take() {
                write.start(cx);
            }
            Poll::Ready(())
        })
        .await;
        self.writer.finish(whole);
    }

    fn means(&mut self, end: FlightEnd) {
        if let Some(leading) = &mut self.write.leading {
            leading.set_end_on_drop(end);
        }
    }
}
