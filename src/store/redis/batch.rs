//! Look-ups that go to Redis together: those that requests of one thread make in one turn of its
//! runtime are sent as one, with one question for what is new in the table of invalidations.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use deadpool_redis::redis::{Cmd, Value, pipe};
use futures_util::future::{join, join_all};
use thread_local::ThreadLocal;
use tokio::{runtime::Handle, sync::oneshot};

use super::{
    connection::Wire,
    failure::Failure,
    lanes::Lane,
    link::{ASK_LIMIT, Link},
    resource::without_foreign,
    table::News,
};
use crate::entry::stamp::Stamp;

/// Look-ups sent as one at most: the last waits for the answers of all.
const MOST: usize = 16;

/// The look-ups that each thread is gathering.
#[derive(Default)]
pub(super) struct Batches(ThreadLocal<RefCell<Arc<Batch>>>);

/// Some look-ups, until they are sent.
#[derive(Default)]
struct Batch(Mutex<Option<Vec<Question>>>);

struct Question {
    ask: Cmd,
    answer: oneshot::Sender<Result<(Value, Stamp), Failure>>,
}

impl Batch {
    fn of(question: Question) -> Self {
        Self(Mutex::new(Some(vec![question])))
    }

    /// Takes a question along, unless it is too late.
    fn add(&self, question: Question) -> Result<(), Question> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(questions) if questions.len() < MOST => questions.push(question),
            Some(_) | None => return Err(question),
        }
        Ok(())
    }

    fn close(&self) -> Vec<Question> {
        let questions = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        questions.unwrap_or_default()
    }
}

impl Link {
    /// The reply to a question about one key, and the time up to which all that was invalidated before
    /// the question came is known.
    pub(super) async fn ask(self: &Arc<Self>, ask: Cmd) -> Result<(Value, Stamp), Failure> {
        if self.is_open() {
            return Err(Failure::Open);
        }
        let (answer, answered) = oneshot::channel();
        self.gather(Question { ask, answer })?;
        // It is dropped only with its runtime.
        answered.await.unwrap_or(Err(Failure::NoRuntime))
    }

    fn gather(self: &Arc<Self>, question: Question) -> Result<(), Failure> {
        let mut gathering = self.batches.0.get_or_default().borrow_mut();
        // One that nobody else holds will not be sent: its runtime has ended.
        let question = if Arc::strong_count(&gathering) > 1 {
            match gathering.add(question) {
                Ok(()) => return Ok(()),
                Err(question) => question,
            }
        } else {
            question
        };
        let runtime = Handle::try_current().map_err(|_| Failure::NoRuntime)?;
        let batch = Arc::new(Batch::of(question));
        *gathering = Arc::clone(&batch);
        let link = Arc::clone(self);
        // Its turn comes after that of whoever is to be polled already.
        runtime.spawn(async move { link.send_all(batch.close()).await });
        Ok(())
    }

    async fn send_all(self: &Arc<Self>, questions: Vec<Question>) {
        let (asks, answers): (Vec<_>, Vec<_>) =
            questions.into_iter().map(|question| (question.ask, question.answer)).unzip();
        let asked = self.now();
        let replies = self
            .call(Lane::Ask, ASK_LIMIT, |mut wire| async move {
                self.counters.lookups.fetch_add(asks.len() as u64, Ordering::Relaxed);
                self.reply(&mut wire, asks).await
            })
            .await;
        match replies {
            Ok((replies, stamp)) => {
                self.is_current_since(asked);
                for (answer, reply) in answers.into_iter().zip(replies) {
                    // Whoever has gone does not need it.
                    let _ = answer.send(Ok((reply, stamp)));
                }
            }
            Err(failure) => {
                for answer in answers {
                    let _ = answer.send(Err(failure.clone()));
                }
            }
        }
    }

    /// What is found, and only then what is new: it is known of all that was found.
    async fn reply(&self, wire: &mut Wire, asks: Vec<Cmd>) -> Result<(Vec<Value>, Stamp), Failure> {
        let epoch = self.table.ask_epoch(&self.keys);
        let (replies, epoch) = if wire.is_one_server() {
            let mut all = pipe();
            for ask in asks {
                all.add_command(ask);
            }
            all.add_command(epoch).ignore_errors();
            let mut replies: Vec<Value> = all.query_async(wire).await?;
            let epoch = replies.pop().unwrap_or(Value::Nil);
            (replies, epoch)
        } else {
            // They may be on several servers, which are asked at the same time.
            let mut other = wire.clone();
            let replies = asks.iter().map(|ask| {
                let mut wire = wire.clone();
                async move { ask.query_async(&mut wire).await.or_else(without_foreign) }
            });
            let (replies, epoch) = join(join_all(replies), epoch.query_async(&mut other)).await;
            (replies.into_iter().collect::<Result<_, _>>()?, epoch?)
        };
        let stamp = match self.table.is_news(epoch)? {
            News::None(stamp) => stamp,
            News::Some => self.pull(wire).await?,
        };
        Ok((replies, stamp))
    }
}
