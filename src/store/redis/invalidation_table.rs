//! The invalidation table: the invalidations of all processes, in Redis, with a copy in each
//! process.
//!
//! The table consists of two sorted sets. Each member of the first set is an invalidation of one tag
//! or of all responses. Each member of the second set is a removal of one cache key or one URL in the
//! last minutes. The score of a member is the time of the invalidation or removal, in microseconds by
//! the clock of the server that has the table. Each new score is later than all earlier scores. One
//! more member of the first set is the **epoch**, whose score is the time of the latest invalidation
//! or removal. The cache reads the epoch before it calls a handler. A response is valid unless the
//! table has a later time for its cache key, its URL or one of its tags.
//!
//! Each lookup reads the epoch and the response in one round trip. If the epoch is not the one that
//! this process knows, the process reads the newer members of the table before it uses the
//! response. So a lookup that begins after an invalidation was confirmed respects this
//! invalidation, in every process, even if the announcement of the invalidation got lost.
//!
//! Redis may lose the table, or a part of it: by eviction, by a flush, or by a failover to a
//! replica that lags behind. A process notices the loss by the epoch, which is then missing, or
//! earlier than the epoch that the process knows. The process begins a new table with an
//! invalidation of all responses, whose time is later than all earlier times. So a loss of the
//! table makes all stored responses invalid, and no purged response becomes valid again.
//!
//! A removal deletes the stored responses of a cache key or a URL, so the table needs it only for
//! fills that are in progress meanwhile. A process that stores a response reads the table again
//! after the write, and deletes the response if a removal applies to it. If Redis loses the removals
//! alone, no fill that began before the latest removal stores its response.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use deadpool_redis::redis::{Cmd, Value, cmd, pipe};

use super::{
    connection::Connection,
    failure::{Failure, is_wrong_type, nil_if_wrong_type},
    keys::Keys,
};
use crate::{
    clock::{Timestamp, monotonic_now},
    coordination::{
        coordinator::Coordinator,
        removals::{MAX_REMOVALS, REMOVAL_LIFETIME, Removal},
        replacements::ReplacedInvalidations,
    },
    entry::{invalidation::Invalidation, stamp::Stamp, tag::TagId},
};

/// The time that the table keeps an invalidation. This time is longer than [`MAX_RETENTION`], so
/// that an invalidation outlives all responses that it applies to.
const INVALIDATION_RETENTION: Duration = Duration::from_secs(8 * 24 * 60 * 60);

/// The longest time that a response is kept in Redis.
pub(super) const MAX_RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The maximum age of a fill (one call of a handler) whose response may still be stored. This age
/// and [`MAX_UNCONFIRMED`] are together less than [`REMOVAL_LIFETIME`], the time that the table
/// keeps a removal. So the table still has each removal that applies to such a fill, until its
/// response is confirmed or has expired.
pub(super) const MAX_FILL_AGE: Duration = Duration::from_secs(100);

/// The time after which Redis deletes a response whose write was not confirmed, because the process
/// that wrote it has ended or has lost the connection.
pub(super) const MAX_UNCONFIRMED: Duration = Duration::from_secs(60);

/// The maximum number of members in the table. If there are more, a single invalidation of all
/// older responses replaces the older half of the members.
const MAX_MEMBERS: usize = 65_536;

const INVALIDATE: &str = include_str!("invalidate.lua");
const REPLACE: &str = include_str!("replace.lua");

/// The largest number of members that one call of the script replaces, so that no call blocks Redis
/// for long.
const REPLACE_BATCH: usize = 512;

/// The latest time that a score can have and still grow by a microsecond: scores are doubles.
const LATEST_TIME: u64 = (1 << 53) - 1;

/// The name of the epoch, the member whose score is the time of the latest invalidation.
const EPOCH: &[u8] = b"e";

/// The name of the member that invalidates all responses.
const ALL: &[u8] = b"f";

/// The name of the member that invalidates all responses because there were too many invalidations.
const TOO_MANY: &[u8] = b"o";

/// The name of the member whose score is the time of the latest removal.
const LATEST_REMOVAL: &[u8] = b"r";

/// The state of this process's copy of the invalidation table. The [`Coordinator`] holds the copy
/// itself.
#[derive(Debug, Default)]
pub(super) struct InvalidationTable {
    /// The latest epoch up to which this process knows all invalidations. The value is 0 before the
    /// first read.
    known_epoch: AtomicU64,
    /// The time at which this process sent the latest read, of the table or of the epoch, that
    /// Redis has answered. The value is one more than the microseconds of the monotonic clock,
    /// because 0 means that there was no read yet.
    current_at: AtomicU64,
}

/// The result of comparing the known epoch with the epoch in Redis.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EpochCheck {
    /// This process knows all invalidations, up to the time in the value.
    Unchanged(Stamp),
    /// This process has to read the invalidation table.
    Changed,
}

/// The result of reading the table. The value is the time up to which this process knows all
/// invalidations.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TableRead {
    /// Redis still has the table that this process knows.
    Continued(Stamp),
    /// Redis had no table yet. A new table begins.
    Created(Stamp),
    /// Redis had lost the table, or another program had changed it. A new table begins, and all
    /// stored responses are invalid.
    Recreated(Stamp),
}

impl InvalidationTable {
    /// Returns whether this process has read the table.
    pub(super) fn is_known(&self) -> bool {
        self.known_epoch.load(Ordering::Acquire) != 0
    }

    /// Returns whether this process knows all invalidations that were made more than `max_age` ago.
    pub(super) fn is_current(&self, max_age: Duration) -> bool {
        let current_at = self.current_at.load(Ordering::Relaxed);
        let age = Duration::from_micros(monotonic_micros().saturating_sub(current_at));
        current_at != 0 && age <= max_age
    }

    /// Records that the table or its epoch was read. `sent` is the time at which the read was sent,
    /// by [`monotonic_micros`].
    pub(super) fn set_current_at(&self, sent: u64) {
        self.current_at.fetch_max(sent.saturating_add(1), Ordering::Relaxed);
    }

    /// Returns the command that reads only the epoch.
    pub(super) fn epoch_command(&self, keys: &Keys) -> Cmd {
        const NAME: &str = "ZSCORE";
        let mut command = Cmd::with_capacity(3, NAME.len() + keys.table.len() + EPOCH.len());
        command.arg(NAME).arg(&keys.table).arg(EPOCH);
        command
    }

    /// Compares the reply to [`epoch_command`](Self::epoch_command) with the known epoch.
    pub(super) fn check_epoch(&self, reply: Value) -> Result<EpochCheck, Failure> {
        let reply = match reply {
            Value::ServerError(error) => nil_if_wrong_type(error.into())?,
            reply => reply,
        };
        let known = self.known_epoch.load(Ordering::Acquire);
        Ok(if known != 0 && parse_number(&reply) == Some(known) {
            EpochCheck::Unchanged(Stamp::new(known))
        } else {
            EpochCheck::Changed
        })
    }

    /// Returns the commands that read the invalidations and the removals since the known epoch, and
    /// the known epoch.
    fn read_commands(&self, keys: &Keys) -> ([Cmd; 2], u64) {
        let since = self.known_epoch.load(Ordering::Acquire);
        let read = |name: &str| {
            let mut command = cmd("ZRANGE");
            command.arg(name).arg(since).arg("+inf").arg("BYSCORE").arg("WITHSCORES");
            command
        };
        // The removals are read last, so that they are complete up to the epoch in the first reply.
        ([read(&keys.table), read(&keys.removals)], since)
    }

    /// Copies the invalidations and removals in the replies to
    /// [`read_commands`](Self::read_commands) to the coordinator. Returns the epoch in the replies,
    /// or `None` if the table is missing or older than the known epoch.
    pub(super) fn learn(&self, replies: [&Value; 2], coordinator: &Coordinator) -> Option<Stamp> {
        let [table, removals] = replies;
        let (mut epoch, mut latest_removal) = (None, None);
        let mut invalidations = Vec::new();
        for (member, time) in parse_members(table) {
            match member {
                EPOCH => epoch = Some(time),
                LATEST_REMOVAL => latest_removal = Some(time),
                TOO_MANY => {
                    // At the first read, the invalidations may have been too many long ago.
                    if self.is_known() {
                        log::warn!(
                            "more than {MAX_MEMBERS} invalidations of tags were in Redis: all \
                             responses from before the older half count as purged. Purge fewer \
                             different tags, and do not let clients choose them"
                        );
                    }
                    invalidations.push((Stamp::new(time), Invalidation::PurgeAll));
                }
                _ => invalidations.push((Stamp::new(time), decode_member(member))),
            }
        }
        // No process writes an epoch of 0, which stands for a table that was never read.
        let until = Stamp::new(epoch.filter(|epoch| *epoch != 0)?);
        let mut removals: Vec<_> = parse_members(removals)
            .into_iter()
            .map(|(member, time)| (Stamp::new(time), decode_removal(member)))
            .collect();
        if let Some(latest) = latest_removal.map(Stamp::new)
            && !removals.iter().any(|(at, _)| *at >= latest)
        {
            // Redis lost the removals.
            removals.push((latest, Removal::Dropped));
        }
        coordinator.record_remote_removals(&invalidations, &removals, until);
        self.known_epoch.fetch_max(until.get(), Ordering::AcqRel);
        Some(until)
    }

    /// Reads the new invalidations. Begins a new table if Redis lost the known table.
    pub(super) async fn read(
        &self,
        connection: &mut Connection,
        keys: &Keys,
        coordinator: &Coordinator,
    ) -> Result<TableRead, Failure> {
        let sent = monotonic_micros();
        let ([table, removals], _) = self.read_commands(keys);
        let mut pipeline = pipe();
        pipeline.add_command(table).add_command(removals);
        // If another program replaced the table by another type, the table is lost.
        let lost = || (Value::Nil, Value::Nil);
        let was_known = self.is_known();
        let (table, removals) = match pipeline.query_async(connection).await {
            Err(error) if is_wrong_type(&error) => lost(),
            result => result?,
        };
        let read = match self.learn([&table, &removals], coordinator) {
            Some(until) => TableRead::Continued(until),
            None => match self.add(connection, keys, coordinator, &[]).await {
                Ok(until) if !was_known && is_empty(&table) => TableRead::Created(until),
                Ok(until) => TableRead::Recreated(until),
                Err(Failure::Redis(error)) => return Err(Failure::NoTable(error)),
                Err(failure) => return Err(failure),
            },
        };
        self.set_current_at(sent);
        Ok(read)
    }

    /// Adds members to the table: those of [`encode_members`] or [`encode_removal`]. Begins a new
    /// table if Redis lost the table, even if `members` is empty. The members also apply in this
    /// process when the call returns.
    pub(super) async fn add(
        &self,
        connection: &mut Connection,
        keys: &Keys,
        coordinator: &Coordinator,
        members: &[Vec<u8>],
    ) -> Result<Stamp, Failure> {
        let ([read_table, read_removals], since) = self.read_commands(keys);
        let mut script = cmd("EVAL");
        script.arg(INVALIDATE).arg(2).arg(&keys.table).arg(&keys.removals);
        script.arg(since).arg(INVALIDATION_RETENTION.as_micros() as u64).arg(REMOVAL_LIFETIME);
        script.arg(MAX_MEMBERS).arg(MAX_REMOVALS).arg(members);
        let mut pipeline = pipe();
        pipeline.add_command(script).ignore();
        pipeline.add_command(read_table).add_command(read_removals);
        let (table, removals): (Value, Value) = pipeline.query_async(connection).await?;
        // The table is missing only if Redis lost it again after the script. The next call notices
        // the loss.
        self.learn([&table, &removals], coordinator).ok_or(Failure::TimedOut)
    }
}

/// Returns the commands that replace many invalidations in the table by one, as this process has
/// done in its copy of the table. Other processes apply the same rules to their copies.
pub(super) fn replace_commands(keys: &Keys, replaced: &ReplacedInvalidations) -> Vec<Cmd> {
    let members: Vec<_> = replaced.replaced.iter().flat_map(encode_members).collect();
    let replacement = encode_members(&replaced.replacement);
    let command = |members: &[Vec<u8>]| {
        let mut script = cmd("EVAL");
        script.arg(REPLACE).arg(1).arg(&keys.table);
        script.arg(replaced.at.get()).arg(&replacement).arg(members);
        script
    };
    members.chunks(REPLACE_BATCH).map(command).collect()
}

/// Returns the time of the process's monotonic clock in microseconds.
pub(super) fn monotonic_micros() -> u64 {
    u64::try_from(monotonic_now().as_micros()).unwrap_or(u64::MAX)
}

/// Parses members of the table and their scores. A RESP3 reply is a list of pairs, and a RESP2
/// reply is a flat list.
pub(super) fn parse_members(reply: &Value) -> Vec<(&[u8], u64)> {
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
        if let Some(parsed) = bytes(member).zip(parse_number(score)) {
            members.push(parsed);
        }
    }
}

fn is_empty(reply: &Value) -> bool {
    matches!(reply, Value::Array(members) if members.is_empty())
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

fn parse_number(value: &Value) -> Option<u64> {
    let float = |number: f64| (number.is_finite() && number >= 0.0).then_some(number as u64);
    let number = match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::Double(number) => float(*number),
        _ => {
            let text = str::from_utf8(bytes(value)?).ok()?;
            text.parse().ok().or_else(|| float(text.parse().ok()?))
        }
    };
    number.filter(|number| *number <= LATEST_TIME)
}

/// Decodes a member of the table. A later version of this crate may write members of an unknown
/// form, or with a tag of an unknown kind. Such a member may apply to any response, so it is decoded
/// as an invalidation of all responses.
pub(super) fn decode_member(member: &[u8]) -> Invalidation {
    let decoded = || {
        let (kind, rest) = member.split_first()?;
        Some(match (kind, rest) {
            (b'p', tag) => {
                Invalidation::PurgeTags(vec![TagId::try_from_bytes(tag.try_into().ok()?)?])
            }
            (b's', rest) => {
                let (tag, since) = rest.split_first_chunk()?;
                let tags = vec![TagId::try_from_bytes(*tag)?];
                Invalidation::ExpireTags { tags, since: decode_time(since)? }
            }
            (b'g', since) => Invalidation::ExpireAll { since: decode_time(since)? },
            _ => return None,
        })
    };
    decoded().unwrap_or(Invalidation::PurgeAll)
}

/// Decodes a member of the removals. A member of another form, such as `d`, or with a tag of an
/// unknown kind, stands for removals that were dropped because there were too many.
pub(super) fn decode_removal(member: &[u8]) -> Removal {
    let tag = member.try_into().ok().and_then(TagId::try_from_bytes);
    tag.map_or(Removal::Dropped, Removal::Tag)
}

/// Decodes a wall-clock time. The table has no monotonic times, because they have no meaning in
/// another process.
fn decode_time(bytes: &[u8]) -> Option<Timestamp> {
    let millis = u64::from_be_bytes(bytes.try_into().ok()?);
    Some(Timestamp::new(Duration::from_millis(millis), Duration::ZERO))
}

/// Encodes an invalidation as members of the table, one for each tag.
pub(super) fn encode_members(invalidation: &Invalidation) -> Vec<Vec<u8>> {
    let time = |since: &Timestamp| {
        let millis = u64::try_from(since.wall().as_millis()).unwrap_or(u64::MAX);
        millis.to_be_bytes()
    };
    match invalidation {
        Invalidation::PurgeAll => vec![ALL.to_vec()],
        Invalidation::PurgeTags(tags) => {
            tags.iter().map(|tag| [&b"p"[..], &tag.to_bytes()].concat()).collect()
        }
        Invalidation::ExpireAll { since } => vec![[&b"g"[..], &time(since)].concat()],
        Invalidation::ExpireTags { tags, since } => {
            let member = |tag: &TagId| [&b"s"[..], &tag.to_bytes(), &time(since)].concat();
            tags.iter().map(member).collect()
        }
    }
}

/// Encodes the removal of the cache key or the URL with this tag.
pub(super) fn encode_removal(tag: TagId) -> Vec<u8> {
    [&b"k"[..], &tag.to_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{
        fixtures::{at, stored},
        key::CacheKey,
        response::StoredResponse,
    };

    #[test]
    fn table_is_current_for_as_long_as_its_latest_read_is_recent() {
        let table = InvalidationTable::default();
        assert!(!table.is_current(Duration::MAX), "the table was never read");
        table.set_current_at(monotonic_micros());
        assert!(table.is_current(Duration::from_secs(60)));
        table.set_current_at(0);
        assert!(table.is_current(Duration::from_secs(60)), "an earlier read changes nothing");
    }

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
    fn invalidation_survives_encoding_and_truncated_member_purges_everything() {
        let key = TagId::key(&CacheKey::new("", "http", "h", "/", None));
        let since = Timestamp::new(Duration::from_millis(1_700_000_000_123), Duration::ZERO);
        for invalidation in [
            Invalidation::PurgeAll,
            Invalidation::PurgeTags(vec![tag("a")]),
            Invalidation::PurgeTags(vec![key]),
            Invalidation::ExpireAll { since },
            Invalidation::ExpireTags { tags: vec![tag("a")], since },
        ] {
            let members = encode_members(&invalidation);
            let [member] = members.as_slice() else { panic!("{invalidation:?}: {members:?}") };
            assert_eq!(decode_member(member), invalidation);
            for end in 0..member.len() {
                let decoded = decode_member(&member[..end]);
                assert_eq!(decoded, Invalidation::PurgeAll, "{invalidation:?} cut at {end}");
            }
        }
        let tags = vec![tag("a"), tag("b")];
        assert_eq!(encode_members(&Invalidation::PurgeTags(tags)).len(), 2);
        assert_eq!(decode_member(b"z of a later version"), Invalidation::PurgeAll);
    }

    #[test]
    fn member_with_a_tag_of_an_unknown_kind_applies_to_all_responses() {
        let mut unknown = tag("a").to_bytes();
        unknown[0] = 200;
        let unknown = TagId::from_bytes(unknown);
        for invalidation in [
            Invalidation::PurgeTags(vec![unknown]),
            Invalidation::ExpireTags { tags: vec![unknown], since: at(1) },
        ] {
            let members = encode_members(&invalidation);
            assert_eq!(decode_member(&members[0]), Invalidation::PurgeAll);
        }
        assert_eq!(decode_removal(&encode_removal(unknown)[1..]), Removal::Dropped);
        assert_eq!(decode_removal(&encode_removal(tag("a"))[1..]), Removal::Tag(tag("a")));
    }

    #[test]
    fn replies_of_both_protocols_are_parsed_and_malformed_ones_are_ignored() {
        let paired = Value::Array(vec![
            Value::Array(vec![bulk(b"a"), Value::Double(7.0)]),
            Value::Array(vec![bulk(b"only")]),
            Value::Array(vec![bulk(b"e"), Value::Double(1_700_000_000_000_001.0)]),
        ]);
        let want: Vec<(&[u8], u64)> = vec![(b"a", 7), (b"e", 1_700_000_000_000_001)];
        assert_eq!(parse_members(&paired), want);
        assert_eq!(parse_members(&flat(&[(b"a", "7"), (b"e", "1.700000000000001e+15")])), want);
        for malformed in [
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
            assert_eq!(parse_members(&malformed), vec![], "{malformed:?}");
            assert_eq!(
                InvalidationTable::default().learn([&malformed; 2], &Coordinator::new()),
                None
            );
        }
    }

    #[test]
    fn epoch_of_zero_counts_as_a_lost_table() {
        let (table, coordinator) = (InvalidationTable::default(), Coordinator::new());
        assert_eq!(table.check_epoch(bulk(b"0")).unwrap(), EpochCheck::Changed);
        for epoch in ["0", "0.5", "1e-300"] {
            assert_eq!(table.learn([&flat(&[(b"e", epoch)]), &Value::Nil], &coordinator), None);
            assert!(!table.is_known(), "{epoch}");
        }
    }

    #[test]
    fn invalidations_of_other_processes_hold_once_they_are_learned() {
        let (table, coordinator) = (InvalidationTable::default(), Coordinator::new());
        let key = CacheKey::new("", "http", "h", "/", None);
        let response = |stamp, name| StoredResponse {
            stamp: Stamp::new(stamp),
            tags: Box::new([tag(name)]),
            ..stored(0, &[])
        };
        let (old, new) = (response(10, "a"), response(31, "a"));
        assert_eq!(
            table.learn([&flat(&[(b"e", "10")]), &Value::Nil], &coordinator),
            Some(Stamp::new(10))
        );
        assert!(table.is_known() && coordinator.is_valid(&key, &old));
        let member = encode_members(&Invalidation::PurgeTags(vec![tag("a")])).remove(0);
        let reply = flat(&[(b"e", "31"), (&member, "30")]);
        assert_eq!(table.learn([&reply, &Value::Nil], &coordinator), Some(Stamp::new(31)));
        assert!(!coordinator.is_valid(&key, &old) && coordinator.is_valid(&key, &new));
        assert!(coordinator.is_valid(&key, &response(10, "b")));
        assert_eq!(table.check_epoch(bulk(b"31")).unwrap(), EpochCheck::Unchanged(Stamp::new(31)));
        for reply in [bulk(b"32"), bulk(b"30"), Value::Nil, Value::Okay] {
            assert_eq!(table.check_epoch(reply).unwrap(), EpochCheck::Changed);
        }
        // A late reply with an older epoch changes nothing.
        assert_eq!(
            table.learn([&flat(&[(b"e", "10")]), &Value::Nil], &coordinator),
            Some(Stamp::new(10))
        );
        assert_eq!(coordinator.stamp(), Stamp::new(31));
        let expire_all = encode_members(&Invalidation::ExpireAll { since: at(5) }).remove(0);
        let reply = flat(&[(&expire_all, "40"), (b"e", "41")]);
        assert_eq!(table.learn([&reply, &Value::Nil], &coordinator), Some(Stamp::new(41)));
        assert!(
            coordinator
                .validity(&key, &new)
                .expired_since()
                .is_some_and(|since| since.wall() == at(5).wall())
        );
    }
}
