//! Bodies of the handler that the client does not read, because the client gets a 304.

use actix_web::{App, web};
use actix_web_cache::{Cache, store::Store as _};

use crate::support::{Client, Protocol, fills_ended, manual_bodies, secs, serve, store};

#[actix_web::test]
async fn unread_body_is_filled_by_one_request_at_a_time() {
    let store = store();
    let (coordinator, cache) = (store.coordinator().clone(), Cache::new(store));
    let (handlers, mut bodies) = manual_bodies();
    let server = serve(1, move || {
        let (cache, handlers) = (cache.clone(), handlers.clone());
        App::new().wrap(cache).default_service(web::to(move || {
            let mut response = handlers.response(None);
            response.headers_mut().insert("etag".parse().unwrap(), "\"1\"".parse().unwrap());
            async move { response }
        }))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    let get = || client.get_with("/", &[("if-none-match", "\"1\"")]);
    assert_eq!(get().await.status, 304);
    let first = bodies.recv().await.unwrap();
    assert_eq!(get().await.status, 304);
    let second = bodies.recv().await.unwrap();
    tokio::time::timeout(secs(20), second.closed())
        .await
        .expect("the second body is dropped, because a fill is open");
    assert!(first.send("page").await);
    drop(first);
    fills_ended(&coordinator).await;
    assert!(client.get("/").await.is_hit());
}
