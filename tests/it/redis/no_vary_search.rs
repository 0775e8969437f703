//! Processes that share responses with `No-Vary-Search`. Each process learns the field itself.

use actix_web_cache::PurgeTarget;

use super::{cache_builder, get_until_hit, shared_store};
use crate::support::{RedisServer, TestApp, requested_response, test_app};

const FIELDS: &[(&str, &str)] = &[("host", "shop"), ("answer", "no-vary-search: params=(\"utm\")")];

#[actix_web::test]
async fn processes_share_responses_and_purge_them_without_knowing_the_field() {
    let redis = RedisServer::start();
    let caches = [(); 3].map(|()| cache_builder(shared_store(redis.url())).build().unwrap());
    let apps = caches.each_ref().map(|cache| test_app(cache, requested_response));
    let get = async |app: &TestApp, path: &str| app.client.get_with(path, FIELDS).await;
    // Both processes learn the field from a response of their own.
    for (n, app) in apps.iter().take(2).enumerate() {
        assert!(get(app, &format!("/p?learn={n}")).await.is_stored());
    }
    assert!(get(&apps[0], "/p?x=1&utm=1").await.is_stored());
    let shared = get_until_hit(&apps[1].client, "/p?x=1&utm=2", FIELDS).await;
    assert_eq!(shared.text(), "run 2", "the response of the other process");
    assert!(!get(&apps[1], "/p?x=2&utm=2").await.is_hit());
    // The third process has learnt nothing. Its purge of one query reaches all.
    caches[2].handle().purge(PurgeTarget::url("http://shop/p?x=1&utm=3")).await.unwrap();
    for app in &apps {
        let answer = get(app, "/p?x=1&utm=4").await;
        assert!(answer.is_stored() && answer.text() != "run 2", "{}", answer.cache_status());
        // The next process calls its handler again.
        caches[2].handle().purge(PurgeTarget::url("http://shop/p")).await.unwrap();
    }
}
