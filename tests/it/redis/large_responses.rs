//! Lookups of large responses, which have connections of their own.

use std::sync::{Arc, Mutex};

use futures_util::future::{Either, select};
use tokio::time::timeout;

use super::cache_builder;
use crate::support::{
    FakeRedis, FakeReply, PageServer, RedisServer, command_name, secs, wait_until,
};
use actix_web_cache::RedisStore;

/// The name of the hash that the latest lookup read.
fn latest_lookup(fake: &FakeRedis) -> String {
    let heard = fake.heard();
    let mut lookups = heard.iter().filter(|command| command[0] == "HGET");
    lookups.next_back().expect("a lookup")[1].clone()
}

#[actix_web::test]
async fn no_lookup_waits_for_the_transfer_of_another_large_response() {
    let redis = RedisServer::start();
    let held = Arc::<Mutex<Option<String>>>::default();
    let of_fake = Arc::clone(&held);
    let fake = FakeRedis::in_front_of(&redis, move |command| {
        let held = of_fake.lock().unwrap();
        let is_held = command_name(command) == "HGET"
            && held.as_ref().is_some_and(|held| *held.as_bytes() == *command[1]);
        is_held.then_some(FakeReply::Nothing)
    });
    let store = RedisStore::builder(fake.url(), "shop").lookup_timeout(secs(60)).build().unwrap();
    let cache = cache_builder(store).lookup_timeout(secs(60)).build().unwrap();
    let site = PageServer::with(cache);
    for path in ["/small", "/large/other", "/large/held"] {
        site.get_until_hit(path).await;
        // The first hit shows the size.
        assert!(site.get(path).await.is_hit, "{path}");
    }
    let name = latest_lookup(&fake);
    *held.lock().unwrap() = Some(name.clone());
    let before = fake.heard().len();
    let transfer = Box::pin(site.get("/large/held"));
    let others = Box::pin(async {
        wait_until("the large page is looked up", || {
            fake.heard().iter().skip(before).any(|command| command.get(1) == Some(&name))
        })
        .await;
        for path in ["/small", "/large/other", "/small"] {
            assert!(site.get(path).await.is_hit, "{path}");
        }
    });
    match timeout(secs(30), select(transfer, others)).await.expect("the others do not wait") {
        Either::Left(_) => panic!("the large page was not held"),
        Either::Right(_) => {}
    }
}
