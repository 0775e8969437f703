//! The body of a response that the cache is still receiving from the handler. One task appends
//! chunks to the body. Any number of readers, on any thread, read the chunks.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use slab::Slab;

use super::budget::Reservation;

/// Chunks shorter than this number of bytes are joined, so that many short chunks need little more
/// memory than their bytes.
const SHORT_CHUNK: usize = 4096;

/// The part of a body that has arrived so far, in chunks.
#[derive(Debug)]
pub(crate) struct SharedBody(Mutex<State>);

#[derive(Debug)]
struct State {
    chunks: Vec<Chunk>,
    length: usize,
    progress: Progress,
    /// One slot for each reader. The slot has a waker while the reader waits for the next chunk.
    readers: Slab<Option<Waker>>,
    /// The waker of the task that writes the body, while this task waits until the body has no
    /// reader.
    unread: Option<Waker>,
    reservation: Option<Reservation>,
}

#[derive(Debug)]
struct Chunk {
    start: usize,
    bytes: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Open,
    Complete,
    Aborted,
}

impl SharedBody {
    /// Begins a body, with a reservation of memory for its bytes. The body keeps the reservation
    /// until it is complete. If the body is aborted, the reservation lasts until the last reader
    /// has been dropped.
    pub(crate) fn begin(reservation: Reservation) -> BodyWriter {
        BodyWriter(Arc::new(Self(Mutex::new(State {
            chunks: Vec::new(),
            length: 0,
            progress: Progress::Open,
            readers: Slab::new(),
            unread: None,
            reservation: Some(reservation),
        }))))
    }

    /// Makes a reader that starts at the beginning of the body. Returns `None` if the body was
    /// aborted.
    pub(crate) fn reader(self: &Arc<Self>) -> Option<BodyReader> {
        let mut state = self.lock();
        if state.progress == Progress::Aborted {
            return None;
        }
        let slot = state.readers.insert(None);
        drop(state);
        Some(BodyReader { body: Arc::clone(self), slot, position: 0 })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state of the body, then wakes all waiting readers.
    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let waiting: Vec<_> =
            state.readers.iter_mut().filter_map(|(_, waker)| waker.take()).collect();
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// The writer of a body. Dropping the writer before [`finish`](Self::finish) aborts the body.
#[derive(Debug)]
pub(crate) struct BodyWriter(Arc<SharedBody>);

impl BodyWriter {
    /// Returns the body, from which readers are made.
    pub(crate) const fn body(&self) -> &Arc<SharedBody> {
        &self.0
    }

    /// Returns the number of bytes of the body that have arrived.
    pub(crate) fn length(&self) -> usize {
        self.0.lock().length
    }

    /// Reserves more bytes of the fill budget (the memory for the response bodies of all fills).
    /// Returns `false` if the budget has too few bytes left.
    pub(crate) fn reserve(&self, more: usize) -> bool {
        let mut state = self.0.lock();
        state.reservation.as_mut().is_none_or(|reservation| reservation.grow(more))
    }

    /// Appends a chunk to the body.
    pub(crate) fn push(&self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        self.0.update(|state| {
            let mut chunk = Chunk { start: state.length, bytes: chunk };
            state.length += chunk.bytes.len();
            // A short chunk is joined with the chunk before it if that chunk is not longer. The
            // joined chunk is then joined in turn, like the carry of a binary counter. Each byte is
            // therefore copied only a few times.
            while chunk.bytes.len() < SHORT_CHUNK
                && let Some(previous) =
                    state.chunks.pop_if(|previous| previous.bytes.len() <= chunk.bytes.len())
            {
                let mut joined = BytesMut::with_capacity(previous.bytes.len() + chunk.bytes.len());
                joined.extend_from_slice(&previous.bytes);
                joined.extend_from_slice(&chunk.bytes);
                chunk = Chunk { start: previous.start, bytes: joined.freeze() };
            }
            state.chunks.push(chunk);
        });
    }

    /// Copies all chunks of the body and then `last` into one buffer. `last` is not appended to the
    /// body.
    pub(crate) fn concat(&self, last: &[u8]) -> Bytes {
        let state = self.0.lock();
        let mut body = Vec::with_capacity(state.length + last.len());
        state.chunks.iter().for_each(|chunk| body.extend_from_slice(&chunk.bytes));
        body.extend_from_slice(last);
        body.into()
    }

    /// Completes the body. `complete` is a copy of the whole body, which the store keeps, too.
    /// Readers read the rest from `complete`, so that the memory of the chunks can be freed.
    pub(crate) fn finish(self, complete: Bytes) {
        self.0.update(|state| {
            state.length = complete.len();
            state.chunks = vec![Chunk { start: 0, bytes: complete }];
            state.progress = Progress::Complete;
            state.reservation = None;
        });
    }

    /// Aborts the body if it has no reader, and returns whether the body was aborted. No reader of
    /// an aborted body can be made.
    pub(crate) fn abort_if_unread(&self) -> bool {
        let mut state = self.0.lock();
        let unread = state.readers.is_empty();
        if unread {
            state.progress = Progress::Aborted;
        }
        unread
    }

    /// Returns `Ready` if the body has no reader. Otherwise, the current task is woken when the
    /// last reader is dropped.
    pub(crate) fn poll_unread(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.readers.is_empty() {
            return Poll::Ready(());
        }
        state.unread = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        self.0.update(|state| {
            if state.progress == Progress::Open {
                state.progress = Progress::Aborted;
            }
        });
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
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<BodyStep> {
        let mut state = self.body.lock();
        let next =
            state.chunks.partition_point(|chunk| chunk.start + chunk.bytes.len() <= self.position);
        if let Some(chunk) = state.chunks.get(next) {
            let bytes = chunk.bytes.slice(self.position - chunk.start..);
            self.position += bytes.len();
            return Poll::Ready(BodyStep::Chunk(bytes));
        }
        match state.progress {
            Progress::Complete => Poll::Ready(BodyStep::Complete),
            Progress::Aborted => Poll::Ready(BodyStep::Aborted),
            Progress::Open => {
                if let Some(waker) = state.readers.get_mut(self.slot) {
                    *waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        let mut state = self.body.lock();
        state.readers.try_remove(self.slot);
        let writer = if state.readers.is_empty() { state.unread.take() } else { None };
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
        thread,
    };

    use futures_util::future::join_all;
    use proptest::prelude::*;
    use tokio::runtime::Builder;

    use super::*;
    use crate::coordination::budget::FillBudget;

    fn begin() -> (FillBudget, BodyWriter) {
        let budget = FillBudget::default();
        let reservation = budget.reserve(0).unwrap();
        (budget, SharedBody::begin(reservation))
    }

    async fn read(reader: &mut BodyReader) -> (Vec<u8>, BodyStep) {
        let mut all = Vec::new();
        loop {
            match poll_fn(|cx| reader.poll_next(cx)).await {
                BodyStep::Chunk(chunk) => all.extend_from_slice(&chunk),
                end @ (BodyStep::Complete | BodyStep::Aborted) => return (all, end),
            }
        }
    }

    #[derive(Default)]
    struct WakeCount(AtomicUsize);

    impl Wake for WakeCount {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn readers_read_all_of_a_body_whenever_they_begin_and_on_any_thread() {
        let (_, writer) = begin();
        let reader = || writer.body().reader().unwrap();
        let readers: Vec<_> = (0..4).map(|_| reader()).collect();
        let threads: Vec<_> = readers
            .into_iter()
            .map(|mut reader| {
                let runtime = Builder::new_current_thread().build().unwrap();
                thread::spawn(move || runtime.block_on(read(&mut reader)))
            })
            .collect();
        let mut late = None;
        for n in 0..1000u32 {
            writer.push(Bytes::copy_from_slice(&n.to_be_bytes()));
            if n == 500 {
                late = Some(reader());
            }
        }
        let body = Arc::clone(writer.body());
        let complete = writer.concat(b"");
        writer.finish(complete.clone());
        assert_eq!(complete, (0..1000u32).flat_map(u32::to_be_bytes).collect::<Vec<_>>());
        let mut last = body.reader().unwrap();
        for (read, end) in join_all([read(&mut late.unwrap()), read(&mut last)]).await {
            assert!(read == complete && end == BodyStep::Complete);
        }
        for thread in threads {
            let (read, end) = thread.join().unwrap();
            assert!(read == complete && end == BodyStep::Complete);
        }
    }

    #[tokio::test]
    async fn body_is_aborted_for_all_readers_when_its_writer_is_dropped() {
        let (_, writer) = begin();
        let mut reader = writer.body().reader().unwrap();
        writer.push(Bytes::from("one"));
        let body = Arc::clone(writer.body());
        drop(writer);
        assert_eq!(read(&mut reader).await, (b"one".to_vec(), BodyStep::Aborted));
        assert!(body.reader().is_none());
    }

    #[test]
    fn only_waiting_tasks_are_woken_and_each_once() {
        let (_, writer) = begin();
        let (idle, busy) = (Arc::<WakeCount>::default(), Arc::<WakeCount>::default());
        let mut reader = writer.body().reader().unwrap();
        drop(writer.body().reader());
        let waker = Waker::from(Arc::clone(&idle));
        for _ in 0..3 {
            assert!(reader.poll_next(&mut Context::from_waker(&waker)).is_pending());
        }
        writer.push(Bytes::new());
        assert_eq!(idle.0.load(Ordering::SeqCst), 0, "an empty chunk is no progress");
        writer.push(Bytes::from("one"));
        writer.push(Bytes::from("two"));
        assert_eq!(idle.0.load(Ordering::SeqCst), 1);

        let waker = Waker::from(Arc::clone(&busy));
        assert!(writer.poll_unread(&mut Context::from_waker(&waker)).is_pending());
        let second = writer.body().reader().unwrap();
        drop(reader);
        assert_eq!(busy.0.load(Ordering::SeqCst), 0, "one reader is left");
        drop(second);
        assert_eq!(busy.0.load(Ordering::SeqCst), 1);
        assert!(writer.poll_unread(&mut Context::from_waker(&waker)).is_ready());
    }

    #[test]
    fn body_with_a_reader_is_not_aborted() {
        let (_, writer) = begin();
        let reader = writer.body().reader();
        assert!(!writer.abort_if_unread() && writer.body().reader().is_some());
        drop(reader);
        assert!(writer.abort_if_unread() && writer.body().reader().is_none());
    }

    #[test]
    fn bytes_are_reserved_until_the_body_is_complete_or_its_last_reader_leaves() {
        let (budget, writer) = begin();
        assert!(writer.reserve(10));
        assert_eq!(budget.reserved(), 10);
        let reader = writer.body().reader();
        writer.push(Bytes::from("0123456789"));
        let complete = writer.concat(b"");
        writer.finish(complete);
        assert_eq!(budget.reserved(), 0, "the store counts a complete body");
        drop(reader);

        let aborted = SharedBody::begin(budget.reserve(10).unwrap());
        let reader = aborted.body().reader();
        drop(aborted);
        assert_eq!(budget.reserved(), 10);
        drop(reader);
        assert_eq!(budget.reserved(), 0);
    }

    #[test]
    fn short_chunks_are_joined() {
        let (_, writer) = begin();
        for n in 0..100_000usize {
            writer.push(Bytes::from(vec![n.to_le_bytes()[0]]));
        }
        let chunks = writer.body().lock().chunks.len();
        assert!(chunks <= 100_000 / SHORT_CHUNK + 13, "{chunks}");
        let want: Vec<_> = (0..100_000usize).map(|n| n.to_le_bytes()[0]).collect();
        assert_eq!(writer.concat(b""), want);
    }

    proptest! {
        #[test]
        fn readers_read_the_written_bytes_however_they_are_chunked(
            chunks in proptest::collection::vec((0usize..9000, 0usize..3), 0..40),
        ) {
            let (_, writer) = begin();
            let mut written = Vec::new();
            let mut readers = vec![(writer.body().reader().unwrap(), Vec::new())];
            for (n, (length, reads)) in chunks.into_iter().enumerate() {
                let chunk: Vec<_> = (0..length).map(|at| (at + n).to_le_bytes()[0]).collect();
                written.extend_from_slice(&chunk);
                writer.push(chunk.into());
                for (reader, read) in readers.iter_mut().skip(n % 3).take(reads) {
                    let mut cx = Context::from_waker(Waker::noop());
                    if let Poll::Ready(BodyStep::Chunk(chunk)) = reader.poll_next(&mut cx) {
                        read.extend_from_slice(&chunk);
                    }
                }
                readers.push((writer.body().reader().unwrap(), Vec::new()));
            }
            let complete = writer.concat(b"");
            prop_assert_eq!(&complete, &written);
            writer.finish(complete);
            for (mut reader, mut read) in readers {
                let mut cx = Context::from_waker(Waker::noop());
                while let Poll::Ready(BodyStep::Chunk(chunk)) = reader.poll_next(&mut cx) {
                    read.extend_from_slice(&chunk);
                }
                prop_assert_eq!(&read, &written);
            }
        }
    }
}
