//! The bound of the invalidation table: many invalidations of one tenant or of one tag do not purge
//! the pages of others, and purged pages do not come back.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use actix_web_cache::{
    PurgeTarget, RedisStore,
    store::{Store as _, remote::CircuitBreaker},
};

use crate::{
    redis::{own_namespace, shop, store_in, tiered_store},
    support::{
        FakeRedis, PageServer, RedisReply, RedisServer, block_until, command_name, wait_until,
    },
};

/// Adds invalidations to the table as another process would, and moves the epoch. The members begin
/// with `ARGV[1]`, and the texts of the numbers from `ARGV[2]` to `ARGV[3]` follow.
const ADD: &str = "
    local time = redis.call('TIME')
    local epoch = tonumber(redis.call('ZSCORE', KEYS[1], 'e'))
    local now = math.max(time[1] * 1000000 + time[2], epoch + 1)
    for n = ARGV[2], ARGV[3] do
        now = now + 1
        local member = ARGV[1] .. string.format('%0' .. ARGV[4] .. 'd', n)
        redis.call('ZADD', KEYS[1], string.format('%.0f', now), member)
    end
    redis.call('ZADD', KEYS[1], string.format('%.0f', now + 1), 'e')";

struct Table {
    redis: RedisServer,
    namespace: String,
    name: String,
}

impl Table {
    fn new() -> Self {
        let (redis, namespace) = (RedisServer::start(), own_namespace());
        let name = format!("{namespace}:5:{{invalidations}}");
        Self { redis, namespace, name }
    }

    fn process(&self) -> PageServer {
        shop(store_in(self.redis.url(), &self.namespace))
    }

    fn len(&self) -> usize {
        self.redis.command(&["ZCARD", &self.name]).parse().unwrap()
    }

    fn has(&self, member: &str) -> bool {
        !self.redis.command(&["ZSCORE", &self.name, member]).is_empty()
    }

    fn members(&self) -> Vec<Vec<u8>> {
        let reply = self.redis.wire().ask(&["ZRANGE", &self.name, "0", "-1"]).unwrap();
        let RedisReply::List(members) = reply else { panic!("not a table: {reply:?}") };
        members.into_iter().map(RedisReply::into_bytes).collect()
    }

    /// Returns the first bytes of the member that begins with these bytes.
    fn beginning(&self, start: &[u8], length: usize) -> Vec<u8> {
        let members = self.members();
        let member = members.iter().find(|member| member.starts_with(start));
        member.unwrap_or_else(|| panic!("no member {start:?}: {members:?}"))[..length].to_vec()
    }

    fn add(&self, beginning: &[u8], first: usize, last: usize, digits: usize) {
        let [first, last, digits] = [first, last, digits].map(|number| number.to_string());
        let command: [&[u8]; 8] = [
            b"EVAL",
            ADD.as_bytes(),
            b"1",
            self.name.as_bytes(),
            beginning,
            first.as_bytes(),
            last.as_bytes(),
            digits.as_bytes(),
        ];
        self.redis.wire().command(&command);
    }

    /// Adds purges of groups of the host `evil`: the kind of the tag and five bytes for the host,
    /// and ten more bytes.
    fn add_groups(&self, first: usize, last: usize) {
        self.add(&self.beginning(b"p\x02", 7), first, last, 10);
    }
}

async fn purge_group(site: &PageServer) {
    site.handle().purge(PurgeTarget::group("a").on_host("evil")).await.unwrap();
}

#[actix_web::test]
async fn pages_of_a_host_stay_purged_when_its_groups_are_replaced_twice() {
    let table = Table::new();
    let here = table.process();
    here.get_as_until_hit("/page", "good").await;
    purge_group(&here).await;
    for round in 0..2 {
        let old = here.get_as_until_hit("/old", "evil").await;
        table.add_groups(round * 100_000, round * 100_000 + 60_000);
        // A process that only reads.
        here.get_as("/other", "evil").await;
        wait_until("one member has replaced the others", || table.len() < 10_000).await;
        let late = table.process();
        let answer = late.get_as("/old", "evil").await;
        assert!(answer.run > old.run, "round {round}: the purged page");
        assert!(late.get_as("/page", "good").await.is_hit, "round {round}");
        let members = table.members();
        let purges_host = |member: &&Vec<u8>| member.starts_with(b"p\x05");
        assert_eq!(members.iter().filter(purges_host).count(), 1, "round {round}");
    }
}

#[actix_web::test]
async fn many_expiries_of_one_tag_purge_nothing_else() {
    const ROUND: usize = 3000;
    let table = Table::new();
    let here = table.process();
    here.get_as_until_hit("/page", "good").await;
    here.handle().expire_tag("often").await.unwrap();
    // The member of an expiry ends with the time, of which some bytes vary here.
    let beginning = table.beginning(b"s\x01", 17);
    for round in 0..22 {
        table.add(&beginning, round * ROUND, (round + 1) * ROUND - 1, 8);
        assert!(here.get_as("/page", "good").await.is_hit, "round {round}");
    }
    wait_until("few expiries are left", || table.len() < 100).await;
    here.handle().purge_tag("other").await.unwrap();
    assert!(!table.has("o"), "a purge of all older responses");
    for site in [here, table.process()] {
        assert!(site.get_as("/page", "good").await.is_hit);
    }
}

#[actix_web::test]
async fn replacement_that_redis_refuses_is_sent_again() {
    let table = Table::new();
    let (reader, other) = (table.process(), table.process());
    reader.get_as_until_hit("/page", "good").await;
    purge_group(&other).await;
    table.redis.command(&["ACL", "SETUSER", "default", "-zrem"]);
    table.add_groups(0, 60_000);
    assert!(reader.get_as("/page", "good").await.is_hit);
    wait_until("the script is refused", || table.has_host_member()).await;
    table.redis.command(&["ACL", "SETUSER", "default", "+zrem"]);
    assert!(table.len() > 50_000);
    let mut purges = 0;
    while table.len() > 10_000 {
        // The reader sends its replacements after it has read the table.
        table.add(b"p\x01", purges, purges, 15);
        purges += 1;
        reader.get_as("/page", "good").await;
        assert!(purges < 100_000);
    }
}

impl Table {
    fn has_host_member(&self) -> bool {
        self.members().iter().any(|member| member.starts_with(b"p\x05"))
    }
}

#[actix_web::test]
async fn slow_first_read_of_the_table_opens_no_circuit_breaker() {
    let table = Table::new();
    let here = table.process();
    let old = here.get_as_until_hit("/old", "good").await;
    here.get_as_until_hit("/page", "good").await;
    here.handle().purge_url("http://good/old").await.unwrap();
    for with_memory in [false, true] {
        let table_may_arrive = Arc::new(AtomicBool::new(false));
        let may_arrive = Arc::clone(&table_may_arrive);
        let slow = FakeRedis::in_front_of(&table.redis, move |command| {
            if command_name(command) == "ZRANGE" {
                block_until("the table may arrive", || may_arrive.load(Ordering::SeqCst));
            }
            None
        });
        // The time-outs are the default ones.
        let store = RedisStore::new(slow.url(), table.namespace.clone()).unwrap();
        let late = match with_memory {
            true => PageServer::over(tiered_store(store.clone())),
            false => PageServer::over(store.clone()),
        };
        let mut page = 0;
        while store.stats().timeouts <= u64::from(CircuitBreaker::DEFAULT_FAILURE_LIMIT) {
            late.get_as(&format!("/{page}"), "good").await;
            page += 1;
        }
        assert_eq!(store.coordinator().recorded_tags(), 0, "with memory: {with_memory}");
        table_may_arrive.store(true, Ordering::SeqCst);
        wait_until("the table is known", || store.coordinator().recorded_tags() > 0).await;
        assert_eq!(store.stats().circuit_openings, 0, "with memory: {with_memory}");
        assert_ne!(late.get_as("/old", "good").await.run, old.run);
        late.get_as_until_hit("/page", "good").await;
    }
}

#[actix_web::test]
async fn purge_of_all_responses_removes_earlier_invalidations() {
    let table = Table::new();
    let site = table.process();
    for tag in ["a", "b", "c"] {
        site.handle().purge_tag(tag).await.unwrap();
        site.handle().expire_tag(tag).await.unwrap();
    }
    site.get_as_until_hit("/page", "h").await;
    site.handle().purge_url("http://h/page").await.unwrap();
    site.get_as_until_hit("/page", "h").await;
    site.handle().purge_all().await.unwrap();
    let mut members = table.members();
    members.sort();
    assert_eq!(members, [b"e", b"f"]);
    let late = table.process();
    assert!(!late.get_as("/page", "h").await.is_hit);
    late.get_as_until_hit("/page", "h").await;
    site.get_as_until_hit("/page", "h").await;
    let store = store_in(table.redis.url(), &table.namespace);
    assert_eq!(store.coordinator().recorded_tags(), 0);
}
