//! Bodies of the handler that the client does not read, because the client gets a 304.

use actix_web::{App, web};
use actix_web_cache::{Cache, store::Store as _};

use crate::support::{Client, Protocol, feeds, secs, serve, settled, store};

#[actix_web::test]
async fn unread_body_is_filled_by_one_request_at_a_time() {
    let store = store();
    let (coordinator, cache) = (store.coordinator().clone(), Cache::new(store));
    let (feeds, mut bodies) = feeds();
    let server = serve(1, move || {
        let (cache, feeds) = (cache.clone(), feeds.clone());
        App::new().wrap(cache).default_service(web::to(move || {
            let mut response = feeds.response(None);
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
    settled(&coordinator).await;
    assert!(client.get("/").await.is_hit());
}
