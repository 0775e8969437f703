//! A body on its way: one appends its chunks, any number read them, on any thread.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use slab::Slab;

use super::Reservation;

/// Chunks below this are put together, so that many small ones take little more than their bytes.
const SMALL: usize = 4096;

/// What has come of a body so far.
#[derive(Debug)]
pub(crate) struct SharedBody(Mutex<State>);

#[derive(Debug)]
struct State {
    chunks: Vec<Chunk>,
    length: usize,
    progress: Progress,
    /// One seat a reader; in it who is to be woken.
    readers: Slab<Option<Waker>>,
    /// The writer, where it waits for the last reader to leave.
    deserted: Option<Waker>,
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
    Whole,
    Broken,
}

impl SharedBody {
    /// Begins a body that takes no more bytes than are set aside for it.
    pub(crate) fn begin(reservation: Reservation) -> BodyWriter {
        BodyWriter(Arc::new(Self(Mutex::new(State {
            chunks: Vec::new(),
            length: 0,
            progress: Progress::Open,
            readers: Slab::new(),
            deserted: None,
            reservation: Some(reservation),
        }))))
    }

    /// Reads from the beginning; nobody can of what broke off.
    pub(crate) fn reader(self: &Arc<Self>) -> Option<BodyReader> {
        let mut state = self.lock();
        if state.progress == Progress::Broken {
            return None;
        }
        let seat = state.readers.insert(None);
        drop(state);
        Some(BodyReader { transfer: Arc::clone(self), seat, at: 0 })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and lets everybody look at it.
    fn tell(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let waiting: Vec<_> =
            state.readers.iter_mut().filter_map(|(_, waker)| waker.take()).collect();
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// The one who appends. What it leaves without having finished is broken.
#[derive(Debug)]
pub(crate) struct BodyWriter(Arc<SharedBody>);

impl BodyWriter {
    pub(crate) const fn transfer(&self) -> &Arc<SharedBody> {
        &self.0
    }

    pub(crate) fn length(&self) -> usize {
        self.0.lock().length
    }

    /// Sets more bytes aside; `false` if there are too many on their way already.
    pub(crate) fn grow(&self, more: usize) -> bool {
        let mut state = self.0.lock();
        state.reservation.as_mut().is_none_or(|reservation| reservation.grow(more))
    }

    pub(crate) fn push(&self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        self.0.tell(|state| {
            let mut chunk = Chunk { start: state.length, bytes: chunk };
            state.length += chunk.bytes.len();
            // As a binary counter carries: each byte is copied a few times at most.
            while chunk.bytes.len() < SMALL
                && let Some(before) =
                    state.chunks.pop_if(|before| before.bytes.len() <= chunk.bytes.len())
            {
                let mut both = BytesMut::with_capacity(before.bytes.len() + chunk.bytes.len());
                both.extend_from_slice(&before.bytes);
                both.extend_from_slice(&chunk.bytes);
                chunk = Chunk { start: before.start, bytes: both.freeze() };
            }
            state.chunks.push(chunk);
        });
    }

    /// All that has come, and what came last and nobody was shown yet, in one piece of its own.
    pub(crate) fn whole(&self, last: &[u8]) -> Bytes {
        let state = self.0.lock();
        let mut whole = Vec::with_capacity(state.length + last.len());
        state.chunks.iter().for_each(|chunk| whole.extend_from_slice(&chunk.bytes));
        whole.extend_from_slice(last);
        whole.into()
    }

    /// The body ended well. Whoever still reads it does so from `whole`, which others keep anyway.
    pub(crate) fn finish(self, whole: Bytes) {
        self.0.tell(|state| {
            state.length = whole.len();
            state.chunks = vec![Chunk { start: 0, bytes: whole }];
            state.progress = Progress::Whole;
            state.reservation = None;
        });
    }

    /// Breaks it off, if nobody reads; from then on nobody can begin to.
    pub(crate) fn give_up(&self) -> bool {
        let mut state = self.0.lock();
        let deserted = state.readers.is_empty();
        if deserted {
            state.progress = Progress::Broken;
        }
        deserted
    }

    /// Ready when nobody reads.
    pub(crate) fn poll_deserted(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.readers.is_empty() {
            return Poll::Ready(());
        }
        state.deserted = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        self.0.tell(|state| {
            if state.progress == Progress::Open {
                state.progress = Progress::Broken;
            }
        });
    }
}

/// One who reads, at its own pace.
#[derive(Debug)]
pub(crate) struct BodyReader {
    transfer: Arc<SharedBody>,
    seat: usize,
    /// Bytes that were read.
    at: usize,
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyStep {
    Chunk(Bytes),
    /// The body ended well.
    Whole,
    /// The body will never end.
    Broken,
}

impl BodyReader {
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<BodyStep> {
        let mut state = self.transfer.lock();
        let next = state.chunks.partition_point(|chunk| chunk.start + chunk.bytes.len() <= self.at);
        if let Some(chunk) = state.chunks.get(next) {
            let bytes = chunk.bytes.slice(self.at - chunk.start..);
            self.at += bytes.len();
            return Poll::Ready(BodyStep::Chunk(bytes));
        }
        match state.progress {
            Progress::Whole => Poll::Ready(BodyStep::Whole),
            Progress::Broken => Poll::Ready(BodyStep::Broken),
            Progress::Open => {
                if let Some(waker) = state.readers.get_mut(self.seat) {
                    *waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        let mut state = self.transfer.lock();
        state.readers.try_remove(self.seat);
        let deserted = if state.readers.is_empty() { state.deserted.take() } else { None };
        drop(state);
        if let Some(writer) = deserted {
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
    use crate::store::Coordinator;

    fn begin() -> (Coordinator, BodyWriter) {
        let coordinator = Coordinator::new();
        let reservation = coordinator.reserve_bytes(0).unwrap();
        (coordinator, SharedBody::begin(reservation))
    }

    async fn read(reader: &mut BodyReader) -> (Vec<u8>, BodyStep) {
        let mut all = Vec::new();
        loop {
            match poll_fn(|cx| reader.poll_next(cx)).await {
                BodyStep::Chunk(chunk) => all.extend_from_slice(&chunk),
                end @ (BodyStep::Whole | BodyStep::Broken) => return (all, end),
            }
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn everybody_reads_all_of_it_whenever_they_come_and_on_whatever_thread() {
        let (_, writer) = begin();
        let reader = || writer.transfer().reader().unwrap();
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
        let transfer = Arc::clone(writer.transfer());
        let whole = writer.whole(b"");
        writer.finish(whole.clone());
        assert_eq!(whole, (0..1000u32).flat_map(u32::to_be_bytes).collect::<Vec<_>>());
        let mut last = transfer.reader().unwrap();
        for (read, end) in join_all([read(&mut late.unwrap()), read(&mut last)]).await {
            assert!(read == whole && end == BodyStep::Whole);
        }
        for thread in threads {
            let (read, end) = thread.join().unwrap();
            assert!(read == whole && end == BodyStep::Whole);
        }
    }

    #[tokio::test]
    async fn what_is_left_unfinished_is_broken_for_all_and_nobody_else_begins_it() {
        let (_, writer) = begin();
        let mut reader = writer.transfer().reader().unwrap();
        writer.push(Bytes::from("one"));
        let transfer = Arc::clone(writer.transfer());
        drop(writer);
        assert_eq!(read(&mut reader).await, (b"one".to_vec(), BodyStep::Broken));
        assert!(transfer.reader().is_none());
    }

    #[test]
    fn each_who_waits_is_woken_once_and_those_who_do_not_are_not() {
        let (_, writer) = begin();
        let (idle, busy) = (Arc::<Woken>::default(), Arc::<Woken>::default());
        let mut waits = writer.transfer().reader().unwrap();
        drop(writer.transfer().reader());
        let waker = Waker::from(Arc::clone(&idle));
        for _ in 0..3 {
            assert!(waits.poll_next(&mut Context::from_waker(&waker)).is_pending());
        }
        writer.push(Bytes::new());
        assert_eq!(idle.0.load(Ordering::SeqCst), 0, "nothing came");
        writer.push(Bytes::from("one"));
        writer.push(Bytes::from("two"));
        assert_eq!(idle.0.load(Ordering::SeqCst), 1);

        let waker = Waker::from(Arc::clone(&busy));
        assert!(writer.poll_deserted(&mut Context::from_waker(&waker)).is_pending());
        let second = writer.transfer().reader().unwrap();
        drop(waits);
        assert_eq!(busy.0.load(Ordering::SeqCst), 0, "one reads still");
        drop(second);
        assert_eq!(busy.0.load(Ordering::SeqCst), 1);
        assert!(writer.poll_deserted(&mut Context::from_waker(&waker)).is_ready());
    }

    #[test]
    fn what_somebody_reads_is_not_given_up() {
        let (_, writer) = begin();
        let reader = writer.transfer().reader();
        assert!(!writer.give_up() && writer.transfer().reader().is_some());
        drop(reader);
        assert!(writer.give_up() && writer.transfer().reader().is_none());
    }

    #[test]
    fn the_budget_is_held_until_the_end_or_by_the_slowest_reader() {
        let (coordinator, writer) = begin();
        assert!(writer.grow(10));
        assert_eq!(coordinator.bytes_in_fills(), 10);
        let reader = writer.transfer().reader();
        writer.push(Bytes::from("0123456789"));
        let whole = writer.whole(b"");
        writer.finish(whole);
        assert_eq!(coordinator.bytes_in_fills(), 0, "what is whole is kept elsewhere anyway");
        drop(reader);

        let broken = SharedBody::begin(coordinator.reserve_bytes(10).unwrap());
        let reader = broken.transfer().reader();
        drop(broken);
        assert_eq!(coordinator.bytes_in_fills(), 10);
        drop(reader);
        assert_eq!(coordinator.bytes_in_fills(), 0);
    }

    #[test]
    fn small_chunks_are_put_together() {
        let (_, writer) = begin();
        for n in 0..100_000usize {
            writer.push(Bytes::from(vec![n.to_le_bytes()[0]]));
        }
        let chunks = writer.transfer().lock().chunks.len();
        assert!(chunks <= 100_000 / SMALL + 13, "{chunks}");
        let want: Vec<_> = (0..100_000usize).map(|n| n.to_le_bytes()[0]).collect();
        assert_eq!(writer.whole(b""), want);
    }

    proptest! {
        #[test]
        fn readers_find_what_was_written_however_it_was_cut(
            chunks in proptest::collection::vec((0usize..9000, 0usize..3), 0..40),
        ) {
            let (_, writer) = begin();
            let mut written = Vec::new();
            let mut readers = vec![(writer.transfer().reader().unwrap(), Vec::new())];
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
                readers.push((writer.transfer().reader().unwrap(), Vec::new()));
            }
            let whole = writer.whole(b"");
            prop_assert_eq!(&whole, &written);
            writer.finish(whole);
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
