//! The function that receives purges: `CacheBuilder::on_purge`.

use std::sync::{Arc, Mutex};

use actix_web_cache::{
    Cache, CacheBuilder, Policy, PurgeAction, PurgeCause, PurgeError, PurgeEvent, PurgeScope,
    PurgeState, PurgeTarget, RedisStore,
};
use hyper::Method;

use super::app::SHOP;
use crate::support::{
    HookedStore, RedisServer, StoreCall, StoreFault, builder, refusing_addr, requested_response,
    secs, test_app,
};

/// The events of a cache, in short form.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

impl Events {
    fn of(&self, builder: CacheBuilder) -> Cache {
        let events = self.clone();
        let builder = builder.lookup_timeout(secs(20)).store_timeout(secs(20));
        builder.on_purge(move |event| events.0.lock().unwrap().push(short(event))).build().unwrap()
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn short(event: &PurgeEvent) -> String {
    let action = match event.action {
        PurgeAction::Purge => "purge",
        _ => "expire",
    };
    let cause = if event.cause == PurgeCause::Handle { "handle" } else { "request" };
    let state = if event.state == PurgeState::Confirmed { "" } else { " queued" };
    let host = |host: &Option<String>| host.clone().unwrap_or_else(|| "*".to_owned());
    let scope = match &event.scope {
        PurgeScope::All => "all".to_owned(),
        PurgeScope::Url { host: name, path_and_query, .. } => {
            format!("url {}{path_and_query}", host(name))
        }
        PurgeScope::Variant { host: name, path_and_query, fields, .. } => {
            format!("variant {}{path_and_query} {fields:?}", host(name))
        }
        PurgeScope::Path { host: name, path, .. } => format!("path {}{path}", host(name)),
        PurgeScope::Prefix { host: name, path, .. } => format!("prefix {}{path}", host(name)),
        PurgeScope::Tags(tags) => format!("tags {tags:?}"),
        PurgeScope::Group { host, group, .. } => format!("group {host} {group}"),
        other => format!("{other:?}"),
    };
    format!("{} {cause}: {action} {scope}{state}", event.namespace)
}

#[actix_web::test]
async fn each_purge_by_a_handle_is_one_event() {
    let events = Events::default();
    let cache = events.of(builder().0.namespace("shop"));
    let handle = cache.handle();
    for (target, want) in [
        (PurgeTarget::all(), "all"),
        (PurgeTarget::url("https://h/a?b"), "url h/a?b"),
        (PurgeTarget::url("/a").on_any_host(), "url */a"),
        (PurgeTarget::url("/a").on_host("h:1"), "url h:1/a"),
        (PurgeTarget::url("http://h/a").variant([("x", "y")]), "variant h/a [(\"x\", \"y\")]"),
        (PurgeTarget::path("http://h/a"), "path h/a"),
        (PurgeTarget::prefix("http://h/a"), "prefix h/a"),
        (PurgeTarget::prefix("/a").on_any_host(), "prefix */a"),
        (PurgeTarget::tags(["a", "b c"]), "tags [\"a\", \"b c\"]"),
        (PurgeTarget::group("g").on_host("h"), "group h g"),
    ] {
        handle.purge(target.clone()).await.unwrap();
        assert_eq!(events.take(), [format!("shop handle: purge {want}")]);
        handle.expire(target).await.unwrap();
        assert_eq!(events.take(), [format!("shop handle: expire {want}")]);
    }
    handle.purge_tags([""; 0]).await.unwrap();
    for invalid in [PurgeTarget::url("h/a"), PurgeTarget::url("/a"), PurgeTarget::group("g")] {
        handle.purge(invalid).await.unwrap_err();
    }
    assert!(events.take().is_empty(), "nothing was purged");
}

#[actix_web::test]
async fn each_url_and_group_that_a_request_purges_is_one_event() {
    let events = Events::default();
    let app = test_app(&events.of(builder().0), requested_response);
    let (url, group) = ("default request: purge url shop.example", "default request: purge group");
    for (method, fields, want) in [
        ("POST", &[SHOP][..], vec![format!("{url}/a?b")]),
        ("POST", &[SHOP, ("answer-status", "404")], vec![]),
        ("GET", &[SHOP], vec![]),
        (
            "PUT",
            &[SHOP, ("answer", "location: /c"), ("answer", "cache-group-invalidation: \"g\"")],
            vec![format!("{url}/a?b"), format!("{url}/c"), format!("{group} shop.example g")],
        ),
    ] {
        app.client.send(method.parse().unwrap(), "/a?b", fields).await;
        assert_eq!(events.take(), want, "{method} {fields:?}");
    }
}

#[actix_web::test]
async fn request_that_purges_its_path_is_one_event() {
    let events = Events::default();
    let cache = events.of(builder().0.policy(Policy::new().purge_paths_by_requests()));
    let app = test_app(&cache, requested_response);
    app.client.send(Method::POST, "/a?b", &[SHOP]).await;
    assert_eq!(events.take(), ["default request: purge path shop.example/a"]);
}

/// The application repeats a purge that was lost, and not one that is queued.
#[actix_web::test]
async fn lost_purge_is_no_event_and_a_queued_one_is() {
    let events = Events::default();
    let store = HookedStore::new();
    let app = test_app(&events.of(Cache::builder(store.clone())), requested_response);
    store.set_fault(&[StoreCall::Remove, StoreCall::Invalidate], StoreFault::Error);
    let cache = events.of(Cache::builder(store));
    let error = cache.handle().purge_tag("a").await.unwrap_err();
    assert!(matches!(error, PurgeError::Store(_)), "{error}");
    app.client.send(Method::POST, "/", &[SHOP]).await;
    assert!(events.take().is_empty());

    let redis = RedisStore::new(format!("redis://{}", refusing_addr()), "t").unwrap();
    let cache = events.of(Cache::builder(redis));
    let error = cache.handle().purge_tag("a").await.unwrap_err();
    assert!(matches!(error, PurgeError::Queued(_)), "{error}");
    assert_eq!(events.take(), ["default handle: purge tags [\"a\"] queued"]);
}

/// Only the process that purges tells its CDN.
#[actix_web::test]
async fn purge_is_no_event_in_other_processes() {
    let redis = RedisServer::start();
    let (own, other) = (Events::default(), Events::default());
    let store = || RedisStore::new(redis.url(), "t").unwrap();
    let cache = own.of(Cache::builder(store()));
    let remote = other.of(Cache::builder(store()));
    let app = test_app(&remote, requested_response);
    app.client.get_with("/", &[SHOP, ("answer", "x: y")]).await;
    cache.handle().purge_url("http://shop.example/").await.unwrap();
    assert!(!app.client.get_with("/", &[SHOP]).await.is_hit());
    assert_eq!(own.take(), ["default handle: purge url shop.example/"]);
    assert!(other.take().is_empty());
}

#[actix_web::test]
async fn event_has_tags_as_a_cdn_knows_them() {
    let tags = Arc::new(Mutex::new(Vec::new()));
    let received = Arc::clone(&tags);
    let cache = builder().0.on_purge(move |event| {
        received.lock().unwrap().extend(event.emitted_tags().map(|tag| tag.into_owned()));
    });
    let handle = cache.build().unwrap().handle();
    handle.purge_tags(["post:1", "a b", ""]).await.unwrap();
    handle.purge_all().await.unwrap();
    assert_eq!(*tags.lock().unwrap(), ["post:1", "a%20b", "%"]);
}
