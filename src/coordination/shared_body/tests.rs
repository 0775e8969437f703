use std::{
    future::poll_fn,
    sync::atomic::{AtomicUsize, Ordering},
    task::Wake,
    thread,
    time::Duration,
};

use futures_util::future::join_all;
use proptest::prelude::*;
use tokio::runtime::Builder;

use super::*;
use crate::coordination::budget::{FILL_BUDGET, UNREAD_BUDGET};

fn begin() -> (FillBudget, BodyWriter) {
    let budget = FillBudget::default();
    let writer = SharedBody::begin(&budget, 0).unwrap();
    (budget, writer)
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

#[test]
fn reader_that_waits_for_the_next_step_is_woken_and_takes_nothing() {
    let (_, writer) = begin();
    let mut reader = writer.body().reader().unwrap();
    let woken = Arc::new(WakeCount::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    for chunk in ["a", "b"] {
        assert!(!reader.is_ready() && reader.poll_ready(&mut cx).is_pending());
        writer.push(Bytes::from_static(chunk.as_bytes()));
        assert!(reader.is_ready() && reader.poll_ready(&mut cx).is_ready());
        let step = BodyStep::Chunk(Bytes::from_static(chunk.as_bytes()));
        assert_eq!(reader.poll_next(&mut cx), Poll::Ready(step));
    }
    assert_eq!(woken.0.load(Ordering::SeqCst), 2);
    assert!(reader.poll_ready(&mut cx).is_pending());
    writer.finish(Bytes::new());
    assert!(reader.is_ready() && reader.poll_ready(&mut cx).is_ready());
    assert_eq!(woken.0.load(Ordering::SeqCst), 3);
    assert_eq!(reader.poll_next(&mut cx), Poll::Ready(BodyStep::Complete));
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
    let complete = writer.concat(b"").unwrap();
    writer.finish(Bytes::new());
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
async fn readers_get_the_rest_of_a_body_that_is_stored() {
    for chunk in [1_000, READ_AHEAD] {
        let (_, writer) = begin();
        let mut early = writer.body().reader().unwrap();
        let last = Bytes::from(vec![b'b'; chunk]);
        writer.push(Bytes::from(vec![b'a'; chunk]));
        assert_eq!(read_once(&mut early), chunk);
        let (body, stored) = (Arc::clone(writer.body()), writer.concat(&last).unwrap());
        let mut late = body.reader().unwrap();
        writer.finish_stored(last.clone(), stored.clone());
        assert_eq!(read(&mut early).await, (last.to_vec(), BodyStep::Complete));
        assert_eq!(read(&mut late).await, (stored.to_vec(), BodyStep::Complete));
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
    assert_eq!(body.reader().err(), Some(NotReadable::Ended));
}

fn poll_state(writer: &BodyWriter) -> WriterState {
    writer.poll_state(&Context::from_waker(Waker::noop()))
}

/// Reads once, and returns the number of bytes.
fn read_once(reader: &mut BodyReader) -> usize {
    match reader.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(BodyStep::Chunk(chunk)) => chunk.len(),
        Poll::Ready(BodyStep::Complete | BodyStep::Aborted) | Poll::Pending => 0,
    }
}

/// Reads exactly this number of bytes.
fn read_bytes(reader: &mut BodyReader, length: usize) {
    let mut read = 0;
    while read < length {
        let slice = read_once(reader);
        assert!((1..=MAX_SLICE).contains(&slice), "{read} of {length} bytes");
        read += slice;
    }
    assert_eq!(read, length);
}

fn zeros(length: usize) -> Bytes {
    Bytes::from(vec![0; length])
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
    let poll = || writer.poll_state(&Context::from_waker(&waker));
    assert_eq!(poll(), WriterState::Read);
    let second = writer.body().reader().unwrap();
    assert_eq!(read_once(&mut reader), 6);
    drop(reader);
    assert_eq!(busy.0.load(Ordering::SeqCst), 0, "one reader is left");
    drop(second);
    assert_eq!(busy.0.load(Ordering::SeqCst), 1);
    assert_eq!(poll(), WriterState::Unread);
}

#[test]
fn body_with_a_reader_is_not_aborted() {
    let (_, writer) = begin();
    let reader = writer.body().reader();
    assert!(!writer.abort_if_unread() && writer.body().reader().is_ok());
    drop(reader);
    assert!(writer.abort_if_unread());
    assert_eq!(writer.body().reader().err(), Some(NotReadable::Ended));
}

#[test]
fn bytes_count_until_all_readers_have_read_them() {
    let (budget, writer) = begin();
    let (mut one, mut two) = (writer.body().reader().unwrap(), writer.body().reader().unwrap());
    writer.push(zeros(READ_AHEAD));
    assert_eq!(budget.held(), 0, "the read-ahead of a body that is read does not count");
    for _ in 0..2 {
        writer.push(zeros(READ_AHEAD));
    }
    assert_eq!(budget.held(), 2 * READ_AHEAD);
    read_bytes(&mut one, 3 * READ_AHEAD);
    assert_eq!(budget.held(), 2 * READ_AHEAD, "the body is going to be stored");
    writer.finish(Bytes::new());
    assert_eq!(budget.held(), 2 * READ_AHEAD, "the slow reader has read nothing yet");
    read_bytes(&mut two, READ_AHEAD);
    assert_eq!(budget.held(), READ_AHEAD);
    assert_eq!(two.body.reader().err(), Some(NotReadable::Ended), "the first bytes are gone");
    drop(two);
    assert_eq!(budget.held(), 0);
}

#[test]
fn bytes_of_a_body_without_readers_count_from_the_first_one() {
    let (budget, writer) = begin();
    writer.push(zeros(10));
    assert_eq!(budget.held(), 10);
    drop(writer);
    assert_eq!(budget.held(), 0);
}

#[test]
fn full_budget_slows_a_body_to_its_fastest_reader() {
    let budget = FillBudget::default();
    let mut idle = budget.charge();
    idle.set(UNREAD_BUDGET, UNREAD_BUDGET);
    let writer = SharedBody::begin(&budget, 10 * READ_AHEAD).unwrap();
    let mut reader = writer.body().reader().unwrap();
    let woken = Arc::<WakeCount>::default();
    let waker = Waker::from(Arc::clone(&woken));
    let poll = || writer.poll_state(&Context::from_waker(&waker));
    assert_eq!(poll(), WriterState::Read);
    assert!(writer.push(zeros(READ_AHEAD)));
    assert_eq!(poll(), WriterState::Full);
    let second = writer.body().reader();
    assert_eq!(second.err(), Some(NotReadable::NoRoom), "it may leave the body in memory");
    read_bytes(&mut reader, READ_AHEAD);
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    assert_eq!(poll(), WriterState::Read);
    // All but the last bytes are read, so the body takes memory of the other half.
    for _ in 0..8 {
        assert!(writer.push(zeros(READ_AHEAD)));
        read_bytes(&mut reader, READ_AHEAD);
    }
    assert_eq!(budget.held(), UNREAD_BUDGET + 8 * READ_AHEAD);
    drop(idle);
    let _second = writer.body().reader().unwrap();
    assert_eq!(budget.held(), 9 * READ_AHEAD, "all of the body, for the slower reader");
}

#[test]
fn paused_body_continues_when_other_bodies_are_read() {
    let budget = FillBudget::default();
    let mut idle = budget.charge();
    idle.set(UNREAD_BUDGET, UNREAD_BUDGET);
    let writer = SharedBody::begin(&budget, 0).unwrap();
    let _reader = writer.body().reader().unwrap();
    writer.push(zeros(READ_AHEAD));
    let woken = Arc::<WakeCount>::default();
    let waker = Waker::from(Arc::clone(&woken));
    let poll = || writer.poll_state(&Context::from_waker(&waker));
    assert_eq!((poll(), poll()), (WriterState::Full, WriterState::Full));
    idle.set(UNREAD_BUDGET, UNREAD_BUDGET / 2);
    assert_eq!(woken.0.load(Ordering::SeqCst), 0, "tasks are not woken for each chunk");
    idle.set(UNREAD_BUDGET, UNREAD_BUDGET / 2 - 1);
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    assert_eq!(poll(), WriterState::Read);
}

#[test]
fn unread_bodies_are_dropped_before_read_ones() {
    let budget = FillBudget::default();
    let begin = || SharedBody::begin(&budget, 0).unwrap();
    let (unread, read, asking) = (begin(), begin(), begin());
    let _readers = [read.body().reader(), asking.body().reader()];
    let half = zeros(FILL_BUDGET / 2);
    assert!(read.push(half.clone()) && unread.push(half.slice(1..)));
    assert!(asking.push(zeros(2 * READ_AHEAD + 2)));
    assert_eq!(unread.body().reader().err(), Some(NotReadable::Ended));
    assert_eq!(poll_state(&unread), WriterState::UnreadAndFull);
    assert_eq!(poll_state(&read), WriterState::Full, "it is kept");
}

/// Sets the time of the last progress of a body, in seconds after `now`.
fn set_progress(writer: &BodyWriter, now: Timestamp, after: u64) {
    writer.body().lock().progressed.0 = seconds_after(now, after);
}

fn seconds_after(now: Timestamp, after: u64) -> Timestamp {
    Timestamp::new(now.wall(), now.monotonic() + Duration::from_secs(after))
}

/// Appends this number of bytes in chunks, so that a part of them can be dropped.
fn push_chunks(writer: &BodyWriter, length: usize) -> bool {
    let chunk = zeros(READ_AHEAD);
    (0..length / READ_AHEAD).map(|_| writer.push(chunk.clone())).fold(true, |_, room| room)
}

#[test]
fn stalled_bodies_make_room_for_others() {
    let budget = FillBudget::default();
    let begin = || SharedBody::begin(&budget, 0).unwrap();
    let (stalled, longer_stalled, asking) = (begin(), begin(), begin());
    let mut readers =
        [&stalled, &longer_stalled, &asking].map(|writer| writer.body().reader().unwrap());
    for (writer, reader) in [&stalled, &longer_stalled].into_iter().zip(&mut readers) {
        assert!(push_chunks(writer, FILL_BUDGET / 4));
        read_bytes(reader, 4 * READ_AHEAD);
    }
    let now = Clock::system().now();
    set_progress(&stalled, now, 1001);
    set_progress(&longer_stalled, now, 1000);
    let has_room = push_chunks(&asking, FILL_BUDGET / 2 + 3 * READ_AHEAD);
    assert!(!has_room, "no other body is larger, and none has stalled");
    assert!(budget.make_room_at(&**asking.body(), seconds_after(now, 1002)));
    assert_eq!(poll_state(&longer_stalled), WriterState::Revoked);
    assert_eq!(longer_stalled.body().reader().err(), Some(NotReadable::Ended));
    assert_eq!(poll_state(&stalled), WriterState::Full, "one body was enough");
    let read: usize = std::iter::repeat_with(|| read_once(&mut readers[1])).take(1000).sum();
    assert_eq!(read, FILL_BUDGET / 4 - 4 * READ_AHEAD, "its reader still gets the rest");
}

/// Another thread takes the memory of a body between its last chunk and its end.
#[test]
fn body_whose_chunks_were_dropped_is_not_stored() {
    let budget = FillBudget::default();
    let body = || {
        let writer = SharedBody::begin(&budget, 0).unwrap();
        let mut reader = writer.body().reader().unwrap();
        push_chunks(&writer, 3 * READ_AHEAD);
        read_bytes(&mut reader, READ_AHEAD);
        (writer, reader)
    };
    let (revoked, mut reader) = body();
    revoked.body().revoke();
    assert!(revoked.concat(b"last").is_none());
    revoked.finish(Bytes::from("last"));
    read_bytes(&mut reader, 2 * READ_AHEAD + 4);
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(reader.poll_next(&mut cx), Poll::Ready(BodyStep::Complete));

    let (unread, reader) = body();
    assert!(unread.concat(b"").is_some_and(|body| body.len() == 3 * READ_AHEAD));
    drop(reader);
    budget.drop_unread();
    assert!(unread.concat(b"").is_none());
}

#[test]
fn largest_body_makes_room_for_smaller_ones() {
    let budget = FillBudget::default();
    let begin = || SharedBody::begin(&budget, 0).unwrap();
    let (large, largest, asking) = (begin(), begin(), begin());
    let mut readers = [&large, &largest, &asking].map(|writer| writer.body().reader().unwrap());
    assert!(push_chunks(&large, FILL_BUDGET / 4) && push_chunks(&largest, FILL_BUDGET / 2));
    for reader in &mut readers {
        while read_once(reader) > 0 {}
    }
    let now = Clock::system().now();
    set_progress(&large, now, 1000);
    set_progress(&largest, now, 1000);
    assert!(push_chunks(&asking, FILL_BUDGET / 4));
    assert_eq!(poll_state(&asking), WriterState::Read, "the budget is almost full");
    assert!(push_chunks(&asking, 4 * READ_AHEAD));
    assert_eq!(poll_state(&largest), WriterState::Revoked);
    assert_eq!(poll_state(&large), WriterState::Read);
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
    assert_eq!(writer.concat(b"").unwrap(), want);
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
        let complete = writer.concat(b"").unwrap();
        prop_assert_eq!(&complete, &written);
        writer.finish(Bytes::new());
        for (mut reader, mut read) in readers {
            let mut cx = Context::from_waker(Waker::noop());
            while let Poll::Ready(BodyStep::Chunk(chunk)) = reader.poll_next(&mut cx) {
                read.extend_from_slice(&chunk);
            }
            prop_assert_eq!(&read, &written);
        }
    }
}
