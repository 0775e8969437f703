//! All invalidations of all processes: one table in Redis, of which each process has a copy.
//!
//! A member of the table is what was invalidated, its score when: the time of the one server that
//! the table is on, in microseconds, made larger than every time before it. One member, the epoch,
//! has the time of the last invalidation of all. A fill begins with the epoch; a response is valid
//! unless something that it has is marked with a later time.
//!
//! Each look-up asks for the epoch in the same round trip, and where it is not the one that this process
//! knows, for what was marked since. So whoever looks up after an invalidation has ended
//! knows of it, in whatever process, and whatever became of messages.
//!
//! The table may be lost: evicted, flushed, or set back by a failover. All of it is then, for it is
//! one key, and that is seen, for the epoch is missing or older than what was known. A new table
//! begins with a mark at everything, later than every time that was handed out: what was invalidated
//! before is not back, at the cost of all that is stored.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use deadpool_redis::redis::{Cmd, RedisError, Value, cmd, pipe};

use super::{connection::Wire, failure::Failure, keys::Keys};
use crate::{
    clock::Timestamp, coordination::coordinator::Coordinator,
    coordination::invalidation_log::KEY_RECORD_LIFETIME, entry::invalidation::Invalidation,
    entry::stamp::Stamp, entry::tag::TagId,
};

/// How long a mark counts: longer than what it may be about is kept.
const WINDOW: Duration = Duration::from_secs(8 * 24 * 60 * 60);

/// Responses are kept for no longer than this.
pub(super) const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Fills that took longer are not stored: marks at single keys are forgotten soon after.
pub(super) const FILL_LIMIT: Duration = Duration::from_secs(100);

/// InvalidationLog in the table; beyond, the older half becomes one mark at everything that is older.
const MOST: usize = 65_536;

const INVALIDATE: &str = include_str!("invalidate.lua");

/// The names of the table's members that are no tags.
const EPOCH: &[u8] = b"e";
const ALL: &[u8] = b"f";

/// This process's copy of the table is in [`Coordinator`]; this is how far it reaches.
#[derive(Debug, Default)]
pub(super) struct Table {
    known: AtomicU64,
}

/// Whether there is something that is not known yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Everything is known, up to this time.
    None(Stamp),
    Some,
}

/// How the table was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pulled {
    AsExpected(Stamp),
    /// It was not there, or not what it had been: it begins anew, and all is invalid.
    Anew(Stamp),
}

impl Table {
    /// Whether it was ever read.
    pub(super) fn is_known(&self) -> bool {
        self.known.load(Ordering::Acquire) != 0
    }

    /// Asks for the epoch alone.
    pub(super) fn ask_epoch(&self, keys: &Keys) -> Cmd {
        let mut ask = cmd("ZSCORE");
        ask.arg(&keys.table).arg(EPOCH);
        ask
    }

    /// Whether the reply to [`ask_epoch`](Self::ask_epoch) is not the epoch that is known.
    pub(super) fn is_news(&self, reply: Value) -> Result<News, Failure> {
        if let Value::ServerError(error) = reply {
            return Err(RedisError::from(error).into());
        }
        let known = self.known.load(Ordering::Acquire);
        let same = number(&reply) == Some(known);
        Ok(if same { News::None(Stamp::new(known)) } else { News::Some })
    }

    /// Asks for what is new.
    fn ask(&self, keys: &Keys) -> (Cmd, u64) {
        let since = self.known.load(Ordering::Acquire);
        let mut ask = cmd("ZRANGE");
        ask.arg(&keys.table).arg(since).arg("+inf").arg("BYSCORE").arg("WITHSCORES");
        (ask, since)
    }

    /// Takes over what the reply to [`ask`](Self::ask) says, and tells up to which time the table is
    /// known then; nothing if it is not what it was.
    fn learn(&self, reply: &Value, coordinator: &Coordinator) -> Option<Stamp> {
        let members = members(reply);
        let mut epoch = None;
        let mut news = Vec::new();
        for (member, at) in members {
            if member == EPOCH {
                epoch = Some(at);
            } else {
                news.push((Stamp::new(at), read(member)));
            }
        }
        let until = Stamp::new(epoch?);
        coordinator.record_remote(&news, until);
        self.known.fetch_max(until.get(), Ordering::AcqRel);
        Some(until)
    }

    /// Reads the table, and begins a new one if it was lost.
    pub(super) async fn pull(
        &self,
        wire: &mut Wire,
        keys: &Keys,
        coordinator: &Coordinator,
    ) -> Result<Pulled, Failure> {
        let (ask, _) = self.ask(keys);
        let reply: Value = ask.query_async(wire).await?;
        match self.learn(&reply, coordinator) {
            Some(until) => Ok(Pulled::AsExpected(until)),
            None => self.write(wire, keys, coordinator, &[]).await.map(Pulled::Anew),
        }
    }

    /// Invalidates, and knows of it.
    pub(super) async fn invalidate(
        &self,
        wire: &mut Wire,
        keys: &Keys,
        coordinator: &Coordinator,
        what: &Invalidation,
    ) -> Result<Stamp, Failure> {
        self.write(wire, keys, coordinator, &written(what)).await
    }

    async fn write(
        &self,
        wire: &mut Wire,
        keys: &Keys,
        coordinator: &Coordinator,
        members: &[Vec<u8>],
    ) -> Result<Stamp, Failure> {
        let (ask, since) = self.ask(keys);
        let mut script = cmd("EVAL");
        script.arg(INVALIDATE).arg(2).arg(&keys.table).arg(&keys.recent);
        script
            .arg(since)
            .arg(WINDOW.as_micros() as u64)
            .arg(KEY_RECORD_LIFETIME)
            .arg(MOST)
            .arg(members);
        let mut both = pipe();
        both.add_command(script).add_command(ask);
        let replies: Vec<Value> = both.query_async(wire).await?;
        let reply = replies.get(1).unwrap_or(&Value::Nil);
        // Lost once more in between: whoever asks next sees that, too.
        self.learn(reply, coordinator).ok_or(Failure::Late)
    }
}

/// The members of a reply with their scores: in pairs where the protocol has them, else in turns.
fn members(reply: &Value) -> Vec<(&[u8], u64)> {
    let Value::Array(items) = reply else { return Vec::new() };
    let mut members = Vec::new();
    let mut rest = items.as_slice();
    loop {
        let (member, score) = match rest {
            [Value::Array(pair), tail @ ..] => {
                rest = tail;
                let [member, score] = pair.as_slice() else { continue };
                (member, score)
            }
            [member, score, tail @ ..] => {
                rest = tail;
                (member, score)
            }
            [] | [_] => return members,
        };
        if let Some(found) = bytes(member).zip(number(score)) {
            members.push(found);
        }
    }
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    let float = |number: f64| (number.is_finite() && number >= 0.0).then_some(number as u64);
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::Double(number) => float(*number),
        _ => {
            let text = str::from_utf8(bytes(value)?).ok()?;
            text.parse().ok().or_else(|| float(text.parse().ok()?))
        }
    }
}

/// What a member says. What a later version may say is not known, so it may be about anything.
fn read(member: &[u8]) -> Invalidation {
    let known = || {
        let (kind, rest) = member.split_first()?;
        Some(match (kind, rest) {
            (b'p' | b'k', tag) => {
                Invalidation::PurgeTags(vec![TagId::from_bytes(tag.try_into().ok()?)])
            }
            (b's', rest) => {
                let (tag, since) = rest.split_first_chunk()?;
                let tags = vec![TagId::from_bytes(*tag)];
                Invalidation::ExpireTags { tags, since: read_time(since)? }
            }
            (b'g', since) => Invalidation::ExpireAll { since: read_time(since)? },
            _ => return None,
        })
    };
    known().unwrap_or(Invalidation::PurgeAll)
}

/// Known by the wall clock alone: another process's other clock says nothing here.
fn read_time(bytes: &[u8]) -> Option<Timestamp> {
    let millis = u64::from_be_bytes(bytes.try_into().ok()?);
    Some(Timestamp::new(Duration::from_millis(millis), Duration::ZERO))
}

fn written(what: &Invalidation) -> Vec<Vec<u8>> {
    let time = |since: &Timestamp| {
        let millis = u64::try_from(since.wall().as_millis()).unwrap_or(u64::MAX);
        millis.to_be_bytes()
    };
    match what {
        Invalidation::PurgeAll => vec![ALL.to_vec()],
        Invalidation::PurgeTags(tags) => {
            let mark = |tag: &TagId| {
                let kind: &[u8] = if tag.is_key() { b"k" } else { b"p" };
                [kind, &tag.to_bytes()].concat()
            };
            tags.iter().map(mark).collect()
        }
        Invalidation::ExpireAll { since } => vec![[&b"g"[..], &time(since)].concat()],
        Invalidation::ExpireTags { tags, since } => {
            let mark = |tag: &TagId| [&b"s"[..], &tag.to_bytes(), &time(since)].concat();
            tags.iter().map(mark).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::fixtures::{at, stored},
        entry::response::StoredResponse,
    };

    fn tag(name: &str) -> TagId {
        TagId::tag("t", name)
    }

    fn bulk(bytes: &[u8]) -> Value {
        Value::BulkString(bytes.to_vec())
    }

    fn flat(members: &[(&[u8], &str)]) -> Value {
        let items = members.iter().flat_map(|(member, at)| [bulk(member), bulk(at.as_bytes())]);
        Value::Array(items.collect())
    }

    #[test]
    fn what_is_written_of_an_invalidation_is_read_again() {
        let key = TagId::key(&crate::entry::key::CacheKey::new("", "http", "h", "/", None));
        let since = Timestamp::new(Duration::from_millis(1_700_000_000_123), Duration::ZERO);
        for what in [
            Invalidation::PurgeAll,
            Invalidation::PurgeTags(vec![tag("a")]),
            Invalidation::PurgeTags(vec![key]),
            Invalidation::ExpireAll { since },
            Invalidation::ExpireTags { tags: vec![tag("a")], since },
        ] {
            let members = written(&what);
            let [member] = members.as_slice() else { panic!("{what:?}: {members:?}") };
            assert_eq!(read(member), what);
            for end in 0..member.len() {
                assert_eq!(read(&member[..end]), Invalidation::PurgeAll, "{what:?} cut at {end}");
            }
        }
        let tags = vec![tag("a"), tag("b")];
        assert_eq!(written(&Invalidation::PurgeTags(tags)).len(), 2);
        assert_eq!(read(b"zwhat a later version may say"), Invalidation::PurgeAll);
    }

    #[test]
    fn replies_of_both_protocols_are_understood_and_others_are_not() {
        let paired = Value::Array(vec![
            Value::Array(vec![bulk(b"a"), Value::Double(7.0)]),
            Value::Array(vec![bulk(b"only")]),
            Value::Array(vec![bulk(b"e"), Value::Double(1_700_000_000_000_001.0)]),
        ]);
        let want: Vec<(&[u8], u64)> = vec![(b"a", 7), (b"e", 1_700_000_000_000_001)];
        assert_eq!(members(&paired), want);
        assert_eq!(members(&flat(&[(b"a", "7"), (b"e", "1.700000000000001e+15")])), want);
        for odd in [
            Value::Nil,
            Value::Okay,
            Value::Int(1),
            Value::Array(vec![]),
            Value::Array(vec![bulk(b"e")]),
            flat(&[(b"e", "x")]),
            flat(&[(b"e", "-1")]),
            flat(&[(b"e", "nan")]),
            flat(&[(b"e", "inf")]),
            Value::Array(vec![Value::Int(1), Value::Int(2)]),
        ] {
            assert_eq!(members(&odd), vec![], "{odd:?}");
            assert_eq!(Table::default().learn(&odd, &Coordinator::new()), None);
        }
    }

    #[test]
    fn what_others_invalidated_counts_here_from_the_reply_on() {
        let (table, coordinator) = (Table::default(), Coordinator::new());
        let key = crate::entry::key::CacheKey::new("", "http", "h", "/", None);
        let response = |stamp, name| StoredResponse {
            stamp: Stamp::new(stamp),
            tags: Box::new([tag(name)]),
            ..stored(0, &[])
        };
        let (old, new) = (response(10, "a"), response(31, "a"));
        assert_eq!(table.learn(&flat(&[(b"e", "10")]), &coordinator), Some(Stamp::new(10)));
        assert!(table.is_known() && coordinator.is_valid(&key, &old));
        let mark = written(&Invalidation::PurgeTags(vec![tag("a")])).remove(0);
        let reply = flat(&[(b"e", "31"), (&mark, "30")]);
        assert_eq!(table.learn(&reply, &coordinator), Some(Stamp::new(31)));
        assert!(!coordinator.is_valid(&key, &old) && coordinator.is_valid(&key, &new));
        assert!(coordinator.is_valid(&key, &response(10, "b")));
        assert_eq!(table.is_news(bulk(b"31")).unwrap(), News::None(Stamp::new(31)));
        for news in [bulk(b"32"), bulk(b"30"), Value::Nil, Value::Okay] {
            assert_eq!(table.is_news(news).unwrap(), News::Some);
        }
        // Late, and of what is known.
        assert_eq!(table.learn(&flat(&[(b"e", "10")]), &coordinator), Some(Stamp::new(10)));
        assert_eq!(coordinator.stamp(), Stamp::new(31));
        let stale = written(&Invalidation::ExpireAll { since: at(5) }).remove(0);
        let reply = flat(&[(&stale, "40"), (b"e", "41")]);
        assert_eq!(table.learn(&reply, &coordinator), Some(Stamp::new(41)));
        assert!(
            coordinator
                .validity(&key, &new)
                .expired_since()
                .is_some_and(|since| since.wall() == at(5).wall())
        );
    }
}
