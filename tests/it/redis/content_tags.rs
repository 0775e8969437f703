//! Entity tags that the cache makes, for clients of several processes.

use actix_web::HttpResponse;
use actix_web_cache::{ManualClock, RedisStore, TieredStore, store::Store};

use crate::{
    redis::{cache_builder, get_until_hit, shared_store, tiered_store},
    support::{RedisServer, START, SharedLines, TestApp, conditions, secs, test_app},
};

const HOST: (&str, &str) = ("host", "h");

/// A process with a clock of its own, whose handler records the conditions of its requests.
fn process(store: impl Store) -> (TestApp, ManualClock, SharedLines) {
    let (clock, recorded) = (ManualClock::at(START), SharedLines::default());
    let cache = cache_builder(store).clock(clock.clock()).build().unwrap();
    let handlers = recorded.clone();
    let app = test_app(&cache, move |request, _| {
        handlers.add(conditions(request));
        HttpResponse::Ok().body("page")
    });
    (app, clock, recorded)
}

async fn check_processes<S: Store>(store: impl Fn(RedisStore) -> S) {
    let redis = RedisServer::start();
    let (one, _, _) = process(store(shared_store(redis.url())));
    let (two, clock, asked) = process(store(shared_store(redis.url())));
    let tag = get_until_hit(&one.client, "/", &[HOST]).await.field("etag").unwrap();
    let fields = [HOST, ("if-none-match", &tag)];
    // The record of the first process has the tag.
    let unchanged = two.client.get_with("/", &fields).await;
    assert_eq!((unchanged.status.as_u16(), unchanged.is_hit()), (304, true));
    assert_eq!((unchanged.field("etag"), two.runs.get()), (Some(tag.clone()), 0));
    // The second process makes an equal tag, and does not send the one of the record to the handler.
    clock.advance(secs(61));
    let unchanged = two.client.get_with("/", &fields).await;
    assert_eq!((unchanged.status.as_u16(), unchanged.is_stored()), (304, true));
    assert_eq!((unchanged.field("etag"), asked.take()), (Some(tag), vec![String::new()]));
}

#[actix_web::test]
async fn client_revalidates_at_another_process() {
    check_processes(|store| store).await;
    check_processes::<TieredStore<RedisStore>>(tiered_store).await;
}
