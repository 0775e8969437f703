//! Caches with different policies over one store: each applies its own policy to the entries that
//! the other stored.

use actix_web_cache::{Cache, ManualClock, Policy, Rule};

use crate::support::{Client, Counter, Protocol, Reply, START, Server, secs, serve_replies, store};

type Fields<'a> = &'a [(&'a str, &'a str)];

/// The host name of requests to both servers.
const HOST: (&str, &str) = ("host", "shop.example");

/// Two applications over one store and namespace, with a policy each.
struct Pair {
    writer: (Client, Counter),
    reader: (Client, Counter),
    clock: ManualClock,
    _servers: [Server; 2],
}

impl Pair {
    fn new(
        writer: (Policy, &[Rule]),
        reader: (Policy, &[Rule]),
        reply: Fields<'_>,
        status: u16,
    ) -> Self {
        let (store, clock) = (store(), ManualClock::at(START));
        let serve = |(policy, rules): (Policy, &[Rule])| {
            let cache = Cache::builder(store.clone()).clock(clock.clock());
            let cache = cache.policy(policy).rules(rules.iter().cloned()).build().unwrap();
            let (server, runs) = serve_replies(1, &cache, &[Reply::new(status, reply)]);
            let client = Client::new(server.addr, Protocol::Http1);
            (server, (client, runs))
        };
        let ((first, writer), (second, reader)) = (serve(writer), serve(reader));
        Self { writer, reader, clock, _servers: [first, second] }
    }

    /// Returns whether the reader answers, some seconds later, with the entry of the writer.
    async fn shares(&self, filling: Fields<'_>, seconds: u64, reading: Fields<'_>) -> bool {
        let first = self.writer.0.get_with("/0", &[&[HOST], filling].concat()).await;
        assert!(first.is_stored(), "{}", first.cache_status());
        self.clock.advance(secs(seconds));
        let second = self.reader.0.get_with("/0", &[&[HOST], reading].concat()).await;
        assert_eq!(self.reader.1.get(), usize::from(!second.is_hit()));
        second.is_hit()
    }
}

#[actix_web::test]
async fn caches_over_one_store_apply_own_credential_rules() {
    let ignoring = || Policy::new().ignore_cookies(["sid"]);
    let strict = || Policy::new().credentials(["x-session"]);
    let keyed = || Policy::new().key_header("authorization");
    let alice: Fields<'_> = &[("cookie", "sid=alice")];
    let token: Fields<'_> = &[("authorization", "Bearer alice")];
    let session: Fields<'_> = &[("x-session", "alice")];
    for (case, writer, filling, reader, reading, want) in [
        ("equal policies", Policy::new(), &[][..], Policy::new(), &[][..], true),
        (
            "writer has a longer lifetime",
            Policy::new().default_ttl(secs(600)),
            &[],
            Policy::new(),
            &[],
            true,
        ),
        ("writer ignores the cookie", ignoring(), alice, Policy::new(), &[], false),
        ("reader ignores the cookie", Policy::new(), &[], ignoring(), alice, false),
        (
            "reader ignores another cookie",
            ignoring(),
            alice,
            Policy::new().ignore_cookies(["a"]),
            &[],
            false,
        ),
        ("both ignore the cookie", ignoring(), alice, ignoring(), &[], true),
        (
            "only the reader counts the field as a credential",
            Policy::new(),
            session,
            strict(),
            &[],
            false,
        ),
        ("writer keys by the token", keyed(), token, Policy::new(), &[], false),
        ("reader keys by the token", Policy::new(), &[], keyed(), &[], false),
        ("both key by the token", keyed(), token, keyed(), token, true),
        ("both key by the token, reader sends none", keyed(), token, keyed(), &[], false),
    ] {
        let pair = Pair::new((writer, &[]), (reader, &[]), &[], 200);
        assert_eq!(pair.shares(filling, 1, reading).await, want, "{case}");
    }
}

#[actix_web::test]
async fn caches_over_one_store_apply_own_lifetimes_and_statuses() {
    let plain = || (Policy::new(), &[][..]);
    let long = [Rule::any().with(|policy| policy.override_ttl(secs(3600)))];
    let short = [Rule::any().with(|policy| policy.override_ttl(secs(5)))];
    let never = [Rule::any().with(|policy| policy.never_store_status([404]))];
    let final_status = || (Policy::rfc9111(), &[][..]);
    let cc = |value| [("cache-control", value)];
    let (five, zero, minute) = (cc("max-age=5"), cc("max-age=0"), cc("max-age=60"));
    let shared = cc("s-maxage=5, max-age=60");
    for (case, writer, reader, reply, status, seconds, want) in [
        ("explicit lifetime", plain(), plain(), &five[..], 200, 4, true),
        (
            "writer overrides, explicit lifetime remains",
            (Policy::new(), &long[..]),
            plain(),
            &five,
            200,
            4,
            true,
        ),
        (
            "writer overrides, explicit lifetime is over",
            (Policy::new(), &long),
            plain(),
            &five,
            200,
            5,
            false,
        ),
        (
            "writer overrides, s-maxage is over",
            (Policy::new(), &long),
            plain(),
            &shared,
            200,
            5,
            false,
        ),
        ("writer overrides, max-age=0", (Policy::new(), &long), plain(), &zero, 200, 0, false),
        (
            "reader overrides, lifetime remains",
            plain(),
            (Policy::new(), &short),
            &minute,
            200,
            4,
            true,
        ),
        (
            "reader overrides, lifetime is over",
            plain(),
            (Policy::new(), &short),
            &minute,
            200,
            5,
            false,
        ),
        (
            "writer overrides, reader's default remains",
            (Policy::new(), &long),
            plain(),
            &[],
            200,
            59,
            true,
        ),
        (
            "writer overrides, reader's default is over",
            (Policy::new(), &long),
            plain(),
            &[],
            200,
            60,
            false,
        ),
        ("reader does not store the status", final_status(), plain(), &minute, 503, 1, false),
        ("both store the status", final_status(), final_status(), &minute, 503, 1, true),
        (
            "a rule of the reader bypasses the status",
            plain(),
            (Policy::new(), &never),
            &minute,
            404,
            1,
            false,
        ),
        (
            "a rule of the reader bypasses another status",
            plain(),
            (Policy::new(), &never),
            &minute,
            410,
            1,
            true,
        ),
        (
            "reader requires an explicit lifetime",
            plain(),
            (Policy::new().explicit_only(), &[]),
            &[],
            200,
            1,
            false,
        ),
    ] {
        let pair = Pair::new(writer, reader, reply, status);
        assert_eq!(pair.shares(&[], seconds, &[]).await, want, "{case}");
    }
}

#[actix_web::test]
async fn rule_lifetime_applies_only_to_matching_requests() {
    let (store, clock) = (store(), ManualClock::at(START));
    let robots = Rule::any().when(|request| request.headers().contains_key("x-robot"));
    let cache = Cache::builder(store)
        .clock(clock.clock())
        .rule(robots.with(|policy| policy.override_ttl(secs(3600))));
    let reply = Reply::new(200, &[("cache-control", "max-age=0")]);
    let (server, _) = serve_replies(1, &cache.build().unwrap(), &[reply]);
    let client = Client::new(server.addr, Protocol::Http1);
    let robot: Fields<'_> = &[("x-robot", "1")];
    assert!(client.get_with("/0", robot).await.is_stored());
    assert!(client.get_with("/0", robot).await.is_hit());
    assert!(
        !client.get("/0").await.is_hit(),
        "the entry is stale for requests outside of the rule"
    );
}
