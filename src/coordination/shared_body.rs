//! The body of a response that the cache is still receiving from the handler. One task appends
//! chunks to the body. Any number of readers, on any thread, read the chunks.
//!
//! The cache keeps all chunks of a body that it is going to store. It keeps the chunks of other
//! bodies only until all readers have read them. The [budget](super::budget) for such bodies counts
//! the chunks.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use slab::Slab;
use smallvec::SmallVec;

use super::budget::{Charge, CountedBody, FillBudget, Usage};
use crate::clock::{Clock, Timestamp};

/// Chunks shorter than this number of bytes are joined, so that many short chunks need little more
/// memory than their bytes.
const SHORT_CHUNK: usize = 4096;

/// The largest number of bytes that a reader gets at a time. A server copies what it gets into a
/// buffer of the connection, so that a long chunk would be in memory once for each connection.
const MAX_SLICE: usize = 64 * 1024;

/// The number of bytes of a body that the budget does not count while a client reads the body. A
/// body may always be this far ahead of its fastest reader.
const READ_AHEAD: usize = 32 * 1024;

/// The part of a body that has arrived so far, in chunks.
#[derive(Debug)]
pub(crate) struct SharedBody(Mutex<State>);

#[derive(Debug)]
struct State {
    chunks: Vec<Chunk>,
    /// The number of bytes that have arrived.
    length: usize,
    /// The declared length of the body; zero if the length is unknown.
    declared: usize,
    progress: Progress,
    readers: Slab<Position>,
    /// The waker of the task that writes the body. The task waits for room or for the last reader.
    writer: Option<Waker>,
    /// Whether the writer waits for room.
    is_paused: bool,
    /// The time at which the fastest reader last made progress, and its position at that time.
    progressed: (Timestamp, usize),
    charge: Charge,
}

#[derive(Debug)]
struct Chunk {
    start: usize,
    bytes: Bytes,
}

impl Chunk {
    fn end(&self) -> usize {
        self.start + self.bytes.len()
    }
}

/// The state of a reader.
#[derive(Debug, Default)]
struct Position {
    /// The number of bytes that the reader has read.
    read: usize,
    /// The waker of the reader while it waits for the next chunk.
    waker: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The body is going to be stored.
    Open,
    /// The body is not going to be stored, because its memory was needed for other bodies. Its
    /// writer has not yet noticed that.
    Revoked,
    Complete,
    Aborted,
}

impl State {
    /// Returns the number of bytes that are in memory.
    fn held(&self) -> usize {
        self.chunks.first().map_or(0, |first| self.length - first.start)
    }

    /// Returns the number of bytes that no reader has read yet, as the budget counts them.
    fn unread(&self) -> usize {
        let mut readers = self.readers.iter();
        match (self.progress, readers.next(), readers.next()) {
            (Progress::Open, Some((_, only)), None) => self.length - only.read,
            // The slowest reader may never read anything. The memory for the whole body is therefore
            // reserved from the time at which there is a second reader.
            (Progress::Open, Some(_), Some(_)) => self.length.max(self.declared),
            // Without readers, nobody has read the bytes. If the body is not going to be stored,
            // only bytes that a reader has not read are left.
            (Progress::Open | Progress::Revoked | Progress::Complete | Progress::Aborted, ..) => {
                self.held()
            }
        }
    }

    /// Returns the number of unread bytes that the budget does not count.
    fn uncounted(&self) -> usize {
        if self.readers.is_empty() { 0 } else { READ_AHEAD }
    }

    /// Counts the bytes of the body again after a change.
    fn recount(&mut self) {
        let (unread, uncounted) = (self.unread(), self.uncounted());
        let held = self.held().max(unread);
        self.charge.set(held.saturating_sub(uncounted), unread.saturating_sub(uncounted));
    }

    /// Drops the chunks that all readers have read, unless the body is going to be stored.
    fn trim(&mut self) {
        if self.progress == Progress::Open {
            return;
        }
        let read = self.readers.iter().map(|(_, reader)| reader.read).min();
        let read = read.unwrap_or(self.length);
        let kept = self.chunks.partition_point(|chunk| chunk.end() <= read);
        self.chunks.drain(..kept);
    }

    /// Returns whether the writer may append more bytes.
    fn has_room(&self) -> bool {
        let unread = self.unread();
        let reserved = self.readers.len() > 1 && self.declared > 0;
        reserved || unread < self.uncounted() || self.charge.budget.has_room_unread()
    }

    fn take_writer_if(&mut self, wanted: bool) -> Option<Waker> {
        if wanted { self.writer.take() } else { None }
    }
}

/// The reason why a body cannot be read from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotReadable {
    /// The body was aborted, or its first bytes have been dropped.
    Ended,
    /// The memory budget has no room for the bytes that a slow reader would leave in memory.
    NoRoom,
}

impl SharedBody {
    /// Begins a body with the declared length of the body, or with zero if the length is unknown.
    /// Returns `None` if the budget is full, and no other body can be dropped.
    pub(super) fn begin(budget: &FillBudget, declared: usize) -> Option<BodyWriter> {
        let body = Arc::new(Self(Mutex::new(State {
            chunks: Vec::new(),
            length: 0,
            declared,
            progress: Progress::Open,
            readers: Slab::new(),
            writer: None,
            is_paused: false,
            progressed: (Clock::system().now(), 0),
            charge: budget.charge(),
        })));
        if !budget.make_room(&*body) {
            return None;
        }
        let counted: Weak<Self> = Arc::downgrade(&body);
        let slot = budget.register(counted);
        Some(BodyWriter { body, budget: budget.clone(), slot })
    }

    /// Makes a reader that starts at the beginning of the body.
    pub(crate) fn reader(self: &Arc<Self>) -> Result<BodyReader, NotReadable> {
        let mut state = self.lock();
        if state.progress == Progress::Aborted || state.held() < state.length {
            return Err(NotReadable::Ended);
        }
        if state.progress == Progress::Revoked {
            return Err(NotReadable::NoRoom);
        }
        if state.progress == Progress::Open && state.readers.len() == 1 {
            let whole = state.length.max(state.declared).saturating_sub(READ_AHEAD);
            if !state.charge.may_grow_unread(whole) {
                return Err(NotReadable::NoRoom);
            }
        }
        let slot = state.readers.insert(Position::default());
        state.recount();
        drop(state);
        Ok(BodyReader { body: Arc::clone(self), slot, position: 0 })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state of the body, then wakes all waiting readers.
    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.trim();
        state.recount();
        let waiting: SmallVec<[_; 1]> =
            state.readers.iter_mut().filter_map(|(_, reader)| reader.waker.take()).collect();
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl CountedBody for SharedBody {
    fn abort_if_unread(&self) -> bool {
        let mut state = self.lock();
        let unread = state.readers.is_empty();
        if unread && matches!(state.progress, Progress::Open | Progress::Revoked) {
            state.progress = Progress::Aborted;
            state.trim();
            state.recount();
            let writer = state.writer.take();
            drop(state);
            writer.into_iter().for_each(Waker::wake);
        }
        unread
    }

    fn usage(&self) -> Usage {
        let state = self.lock();
        Usage { held: state.held(), progressed: state.progressed.0 }
    }

    fn revoke(&self) {
        let mut state = self.lock();
        if state.progress != Progress::Open {
            return;
        }
        state.progress = Progress::Revoked;
        state.trim();
        state.recount();
        let writer = state.writer.take();
        drop(state);
        writer.into_iter().for_each(Waker::wake);
    }
}

/// The writer of a body. Dropping the writer before [`finish`](Self::finish) aborts the body.
#[derive(Debug)]
pub(crate) struct BodyWriter {
    body: Arc<SharedBody>,
    budget: FillBudget,
    slot: usize,
}

/// The next step that the writer of a body may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriterState {
    /// The writer may append bytes. The task is woken when the last reader is dropped.
    Read,
    /// The writer may append bytes, and the body has no reader.
    Unread,
    /// The memory budget has no room for more bytes of this body. The task is woken when a reader
    /// has read some of the body, or when there is room again.
    Full,
    /// The body has no reader, and the memory budget has no room for it.
    UnreadAndFull,
    /// The body must not be stored, because its memory was needed for other bodies.
    Revoked,
}

impl BodyWriter {
    /// Returns the body, from which readers are made.
    pub(crate) const fn body(&self) -> &Arc<SharedBody> {
        &self.body
    }

    /// Returns the number of bytes of the body that have arrived.
    pub(crate) fn length(&self) -> usize {
        self.body.lock().length
    }

    /// Returns the next step that the writer may take.
    pub(crate) fn poll_state(&self, cx: &Context<'_>) -> WriterState {
        let mut state = self.body.lock();
        if !state.writer.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.writer = Some(cx.waker().clone());
        }
        let (is_unread, has_room) = (state.readers.is_empty(), state.has_room());
        match (state.progress, is_unread, has_room) {
            (Progress::Revoked, ..) => WriterState::Revoked,
            (Progress::Aborted | Progress::Complete, ..) => WriterState::UnreadAndFull,
            (Progress::Open, false, true) => WriterState::Read,
            (Progress::Open, true, true) => WriterState::Unread,
            (Progress::Open, true, false) => WriterState::UnreadAndFull,
            (Progress::Open, false, false) => {
                state.is_paused = true;
                drop(state);
                self.budget.wake_when_read(self.slot, cx.waker());
                WriterState::Full
            }
        }
    }

    /// Appends a chunk to the body. Returns whether the memory budget still has room, if need be
    /// after other bodies were dropped.
    pub(crate) fn push(&self, chunk: Bytes) -> bool {
        if !chunk.is_empty() {
            self.body.update(|state| state.append(chunk));
        }
        self.budget.has_room() || self.budget.make_room(&*self.body)
    }

    /// Drops the bodies of the budget that no client reads.
    pub(crate) fn drop_unread_bodies(&self) {
        self.budget.drop_unread();
    }

    /// Copies all chunks of the body and then `last` into one buffer. `last` is not appended to the
    /// body. Returns `None` if the body must not be stored any more: another thread may have taken
    /// its first chunks for other bodies at any time.
    pub(crate) fn concat(&self, last: &[u8]) -> Option<Bytes> {
        let state = self.body.lock();
        if state.progress != Progress::Open {
            return None;
        }
        let mut body = Vec::with_capacity(state.length + last.len());
        state.chunks.iter().for_each(|chunk| body.extend_from_slice(&chunk.bytes));
        body.extend_from_slice(last);
        Some(body.into())
    }

    /// Completes the body with its last chunk. The chunks stay in memory until all readers have
    /// read them. The store has its own copy of the body.
    pub(crate) fn finish(self, last: Bytes) {
        self.body.update(|state| {
            if !last.is_empty() {
                state.append(last);
            }
            state.progress = Progress::Complete;
        });
    }

    /// Completes the body as [`finish`](Self::finish) does. `stored` is the whole body, as it was stored:
    /// the readers of a short body read it from there, which saves the joining of its chunks.
    pub(crate) fn finish_stored(self, last: Bytes, stored: Bytes) {
        if stored.len() > READ_AHEAD {
            return self.finish(last);
        }
        self.body.update(|state| {
            state.length = stored.len();
            state.chunks.clear();
            state.chunks.push(Chunk { start: 0, bytes: stored });
            state.progress = Progress::Complete;
        });
    }

    /// Aborts the body if it has no reader, and returns whether the body was aborted. No reader of
    /// an aborted body can be made.
    pub(crate) fn abort_if_unread(&self) -> bool {
        self.body.abort_if_unread()
    }
}

impl State {
    fn append(&mut self, chunk: Bytes) {
        let mut chunk = Chunk { start: self.length, bytes: chunk };
        self.length += chunk.bytes.len();
        // A short chunk is joined with the chunk before it if that chunk is not longer. The joined
        // chunk is then joined in turn, like the carry of a binary counter. Each byte is therefore
        // copied only a few times.
        while chunk.bytes.len() < SHORT_CHUNK
            && let Some(previous) =
                self.chunks.pop_if(|previous| previous.bytes.len() <= chunk.bytes.len())
        {
            let mut joined = BytesMut::with_capacity(previous.bytes.len() + chunk.bytes.len());
            joined.extend_from_slice(&previous.bytes);
            joined.extend_from_slice(&chunk.bytes);
            chunk = Chunk { start: previous.start, bytes: joined.freeze() };
        }
        self.chunks.push(chunk);
    }

    /// Returns whether a reader at `position` finds a chunk, or the end of the body.
    fn has_step(&self, position: usize) -> bool {
        position < self.length || matches!(self.progress, Progress::Complete | Progress::Aborted)
    }

    /// Notes that a reader waits for the next step.
    fn register(&mut self, slot: usize, cx: &Context<'_>) {
        if let Some(reader) = self.readers.get_mut(slot) {
            reader.waker = Some(cx.waker().clone());
        }
    }

    /// Notes that a reader has read up to `position`. Returns the waker of the writer if the writer
    /// may have waited for that.
    fn read_to(&mut self, slot: usize, position: usize) -> Option<Waker> {
        if let Some(reader) = self.readers.get_mut(slot) {
            reader.read = position;
        }
        if position >= self.progressed.1 + READ_AHEAD {
            self.progressed = (Clock::system().now(), position);
        }
        self.trim();
        self.recount();
        let resumes = self.is_paused && self.has_room();
        self.is_paused &= !resumes;
        self.take_writer_if(resumes)
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        self.budget.unregister(self.slot);
        let progress = self.body.lock().progress;
        if matches!(progress, Progress::Open | Progress::Revoked) {
            self.body.update(|state| state.progress = Progress::Aborted);
        }
    }
}

/// A reader of a body. Each reader has its own position, so a slow reader does not delay other
/// readers.
#[derive(Debug)]
pub(crate) struct BodyReader {
    body: Arc<SharedBody>,
    slot: usize,
    /// The number of bytes that this reader has read.
    position: usize,
}

/// The result of one read from a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyStep {
    /// The next bytes of the body.
    Chunk(Bytes),
    /// The body is complete, and the reader has read all of it.
    Complete,
    /// The body was aborted: it will never be complete.
    Aborted,
}

impl BodyReader {
    /// Returns whether the next step is there.
    pub(crate) fn is_ready(&self) -> bool {
        self.body.lock().has_step(self.position)
    }

    /// Waits for the next step, and does not take it.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.body.lock();
        if state.has_step(self.position) {
            return Poll::Ready(());
        }
        state.register(self.slot, cx);
        Poll::Pending
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<BodyStep> {
        let mut state = self.body.lock();
        let next = state.chunks.partition_point(|chunk| chunk.end() <= self.position);
        if let Some(chunk) = state.chunks.get(next) {
            let from = self.position - chunk.start;
            let to = chunk.bytes.len().min(from + MAX_SLICE);
            let bytes = chunk.bytes.slice(from..to);
            self.position += bytes.len();
            let writer = state.read_to(self.slot, self.position);
            drop(state);
            writer.into_iter().for_each(Waker::wake);
            return Poll::Ready(BodyStep::Chunk(bytes));
        }
        match state.progress {
            Progress::Complete => Poll::Ready(BodyStep::Complete),
            Progress::Aborted => Poll::Ready(BodyStep::Aborted),
            Progress::Open | Progress::Revoked => {
                state.register(self.slot, cx);
                Poll::Pending
            }
        }
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        let mut state = self.body.lock();
        state.readers.try_remove(self.slot);
        state.trim();
        state.recount();
        let is_last = state.readers.is_empty();
        let writer = state.take_writer_if(is_last);
        drop(state);
        writer.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests;
