//! One tenant of an application, with a host of its own, cannot purge the pages of other tenants,
//! however many groups its responses invalidate.

use actix_web_cache::{
    Cache, MemoryStore, Policy, RedisStore,
    store::{Coordinator, Store},
};
use hyper::Method;

use crate::support::{
    RedisServer, TestApp, fills_ended, requested_response, secs, test_app, wait_until,
};

const VICTIM: [(&str, &str); 2] = [("host", "good"), ("answer", "cache-groups: \"a\"")];

fn app(store: impl Store) -> TestApp {
    let builder = Cache::builder(store).lookup_timeout(secs(5)).store_timeout(secs(5));
    let policy = Policy::new().default_ttl(secs(600));
    test_app(&builder.policy(policy).build().unwrap(), requested_response)
}

async fn is_stored(app: &TestApp, coordinator: &Coordinator, fields: &[(&str, &str)]) {
    assert!(app.client.get_with("/page", fields).await.is_stored());
    fills_ended(coordinator).await;
}

/// Invalidates more groups of the host `evil` than the store keeps records.
async fn flood(app: &TestApp) {
    const GROUPS_OF_RESPONSE: usize = 400;
    for response in 0..170 {
        let groups: Vec<_> =
            (0..GROUPS_OF_RESPONSE).map(|n| format!("\"{response}-{n}\"")).collect();
        let answer = format!("cache-group-invalidation: {}", groups.join(", "));
        let fields = [("host", "evil"), ("answer", &*answer)];
        assert_eq!(app.client.send(Method::POST, "/other", &fields).await.status, 200);
    }
}

#[actix_web::test]
async fn groups_of_one_tenant_do_not_purge_pages_of_others_in_memory() {
    let store = MemoryStore::new(1024 * 1024);
    let app = app(store.clone());
    let own = [("host", "evil")];
    is_stored(&app, store.coordinator(), &VICTIM).await;
    is_stored(&app, store.coordinator(), &own).await;
    flood(&app).await;
    assert!(app.client.get_with("/page", &VICTIM).await.is_hit());
    assert!(!app.client.get_with("/page", &own).await.is_hit(), "its own pages are purged");
    let purge = [VICTIM[0], ("answer", "cache-group-invalidation: \"a\"")];
    app.client.send(Method::POST, "/other", &purge).await;
    assert!(!app.client.get_with("/page", &VICTIM).await.is_hit());
}

#[actix_web::test]
async fn groups_of_one_tenant_do_not_purge_pages_of_others_in_redis() {
    let redis = RedisServer::start();
    // The first lookup of a process reads the whole table of invalidations.
    let store = || {
        let builder = RedisStore::builder(redis.url(), "shop");
        builder.lookup_timeout(secs(5)).write_timeout(secs(5)).build().unwrap()
    };
    let (here, elsewhere) = (store(), store());
    let (app_here, app_elsewhere) = (app(here.clone()), app(elsewhere));
    is_stored(&app_here, here.coordinator(), &VICTIM).await;
    flood(&app_here).await;
    let members = || redis.command(&["ZCARD", "shop:5:{invalidations}"]).parse::<usize>().unwrap();
    wait_until("Redis has one record for the host", || members() < 20_000).await;
    let late = app(store());
    for (case, app) in [("here", &app_here), ("elsewhere", &app_elsewhere), ("late", &late)] {
        assert!(app.client.get_with("/page", &VICTIM).await.is_hit(), "{case}");
    }
    // Later purges apply in each of the processes.
    let purge = [VICTIM[0], ("answer", "cache-group-invalidation: \"a\"")];
    late.client.send(Method::POST, "/other", &purge).await;
    for (case, app) in [("here", &app_here), ("elsewhere", &app_elsewhere)] {
        let answer = app.client.get_with("/page", &VICTIM).await;
        assert!(!answer.is_hit() || answer.text() != "run 1", "{case}: the purged page");
    }
}
