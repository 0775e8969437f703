//! Requests with forwarded fields: they do not displace the pages of other clients, and the policy
//! can name the proxies that may send them.

use actix_web_cache::{Cache, MemoryStore, Policy, RedisStore, TieredStore, store::Store};
use hyper::Method;

use crate::support::{
    RedisServer, TestApp, fills_ended, requested_response, resources, secs, test_app,
};

/// More values than a key has variants.
const VALUES: usize = 200;

/// The most lookups until one of them counts as a use.
const MAX_LOOKUPS: usize = 2000;

fn app(store: impl Store, policy: Policy) -> TestApp {
    let builder = Cache::builder(store).lookup_timeout(secs(5)).store_timeout(secs(5));
    test_app(&builder.policy(policy.default_ttl(secs(600))).build().unwrap(), requested_response)
}

/// A store that waits for Redis longer than a busy machine takes.
fn patient_store(redis: &RedisServer, namespace: &str) -> RedisStore {
    let builder = RedisStore::builder(redis.url(), namespace);
    builder.lookup_timeout(secs(5)).write_timeout(secs(5)).build().unwrap()
}

async fn stored_page<S: Store + Clone>(store: &S, fields: &[(&str, &str)]) -> TestApp {
    let app = app(store.clone(), Policy::new());
    assert!(app.client.get_with("/page", fields).await.is_stored());
    fills_ended(store.coordinator()).await;
    app
}

/// Other requests for the page while forged ones arrive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    None,
    /// One after every fifth forged request.
    Some,
}

async fn forged_hosts_do_not_displace_a_page<S: Store + Clone>(store: S, others: Others) {
    let page = [("host", "good")];
    let app = stored_page(&store, &page).await;
    for n in 0..VALUES {
        let forged = format!("evil-{n}");
        let fields = [page[0], ("x-forwarded-host", &*forged)];
        assert!(app.client.get_with("/page", &fields).await.is_stored(), "{n}");
        fills_ended(store.coordinator()).await;
        if others == Others::Some && n % 5 == 0 {
            let answer = app.client.get_with("/page", &page).await;
            assert_eq!((answer.is_hit(), answer.text()), (true, "run 1"), "{n}");
        }
    }
    let answer = app.client.get_with("/page", &page).await;
    assert_eq!((answer.is_hit(), answer.text()), (true, "run 1"));
}

#[actix_web::test]
async fn forged_hosts_do_not_displace_a_page_in_memory() {
    forged_hosts_do_not_displace_a_page(MemoryStore::new(64 * 1024 * 1024), Others::None).await;
    // Here, the forged responses fill the store. A page that is requested now and then stays.
    forged_hosts_do_not_displace_a_page(MemoryStore::new(64 * 1024), Others::Some).await;
}

#[actix_web::test]
async fn forged_hosts_do_not_displace_a_page_in_redis() {
    let redis = RedisServer::start();
    forged_hosts_do_not_displace_a_page(patient_store(&redis, "one"), Others::None).await;
    let far = patient_store(&redis, "two");
    forged_hosts_do_not_displace_a_page(TieredStore::new(far), Others::None).await;
}

/// Fills `/page` with variants by `Accept` that are requested once each.
async fn add_unpopular_variants<S: Store>(app: &TestApp, store: &S) {
    for n in 0..VALUES {
        let accept = format!("x/{n}");
        let fields = [("host", "good"), ("accept", &*accept), ("answer", "vary: accept")];
        assert!(app.client.get_with("/page", &fields).await.is_stored(), "{n}");
        fills_ended(store.coordinator()).await;
    }
}

const POPULAR: [(&str, &str); 3] =
    [("host", "good"), ("accept", "popular"), ("answer", "vary: accept")];

#[actix_web::test]
async fn used_variant_stays_in_memory() {
    let store = MemoryStore::new(64 * 1024 * 1024);
    let app = stored_page(&store, &POPULAR).await;
    assert!(app.client.get_with("/page", &POPULAR).await.is_hit());
    add_unpopular_variants(&app, &store).await;
    assert_eq!(app.client.get_with("/page", &POPULAR).await.text(), "run 1");
}

/// Returns the counted uses of the variants of the only stored page, the newest variant first.
fn uses(redis: &RedisServer) -> Vec<u8> {
    let name = resources(redis).pop().unwrap();
    let mut fields = redis.wire().hash(&name).into_iter();
    let (_, index) = fields.find(|(name, _)| name.len() == 17 && name[0] == b'm').unwrap();
    let variants = index.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    index[variants..].chunks_exact(50).map(|variant| variant[49] - b'0').collect()
}

#[actix_web::test]
async fn used_variant_stays_in_redis() {
    let redis = RedisServer::start();
    let store = patient_store(&redis, "shop");
    let app = stored_page(&store, &POPULAR).await;
    let other = [POPULAR[0], ("accept", "other"), POPULAR[2]];
    assert!(app.client.get_with("/page", &other).await.is_stored());
    fills_ended(store.coordinator()).await;
    assert_eq!(uses(&redis), [0, 0]);
    // Some of the lookups count as uses, in the background.
    let mut lookups = 0;
    while uses(&redis)[1] == 0 {
        assert!(lookups < MAX_LOOKUPS, "no lookup of {lookups} counts as a use");
        assert!(app.client.get_with("/page", &POPULAR).await.is_hit());
        lookups += 1;
    }
    add_unpopular_variants(&app, &store).await;
    assert_eq!(app.client.get_with("/page", &POPULAR).await.text(), "run 1");
    assert!(!app.client.get_with("/page", &other).await.is_hit());
}

#[actix_web::test]
async fn forwarded_fields_of_untrusted_peers_bypass_the_cache() {
    for (proxies, is_trusted) in [("127.0.0.0/8", true), ("192.0.2.0/24", false)] {
        let policy = Policy::new().trusted_proxies([proxies]);
        let app = app(MemoryStore::new(1024 * 1024), policy);
        for field in [
            ("x-forwarded-host", "a"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=1.2.3.4;host=a"),
        ] {
            let path = format!("/{}", field.0);
            let first = app.client.get_with(&path, &[field]).await;
            let again = app.client.get_with(&path, &[field]).await;
            assert_eq!(again.is_hit(), is_trusted, "{field:?} {proxies}");
            if !is_trusted {
                assert_eq!(first.cache_status(), "fwd=bypass; detail=untrusted-proxy");
            }
            assert!(app.client.get(&path).await.is_stored(), "the page without the field");
            assert!(app.client.get(&path).await.is_hit());
        }
        let for_client = [("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1.2.3.4")];
        assert!(app.client.get_with("/forwarded", &for_client).await.is_hit(), "{proxies}");
    }
}

#[actix_web::test]
async fn unsafe_request_of_an_untrusted_peer_still_purges_its_url() {
    let policy = Policy::new().trusted_proxies(["192.0.2.1"]);
    let app = app(MemoryStore::new(1024 * 1024), policy);
    app.client.get("/page").await;
    let fields = [("x-forwarded-host", "evil")];
    app.client.send(Method::POST, "/page", &fields).await;
    assert!(!app.client.get("/page").await.is_hit());
}
