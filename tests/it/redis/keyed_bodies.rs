//! Responses to `QUERY` and `POST` that processes share: the body of the request is part of their
//! keys.

use actix_web::{App, HttpRequest, http::Method, web};
use actix_web_cache::{PurgeTarget, Rule};
use bytes::Bytes;

use super::{cache_builder, shared_store};
use crate::support::{Answer, Client, Protocol, RedisServer, secs, serve};

const HOST: (&str, &str) = ("host", "shop");

/// Sends a request until the response comes from the store. Responses are stored in the background.
async fn until_hit(client: &Client, method: &str, body: &'static str) -> Answer {
    let requests = async {
        loop {
            let method = method.parse().unwrap();
            let answer = client.send_body(method, "/search", &[HOST], body).await.unwrap();
            if answer.is_hit() {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(secs(10), requests).await.expect("a hit within 10 s")
}

#[actix_web::test]
async fn processes_share_responses_by_body_and_their_purges() {
    let redis = RedisServer::start();
    let caches = [0, 1].map(|_| {
        let rule = Rule::path("/search").method(Method::POST);
        let rule = rule.with(|policy| policy.cache_posts_by_body(1000));
        cache_builder(shared_store(redis.url())).rule(rule).build().unwrap()
    });
    let servers = [0, 1].map(|process: usize| {
        let cache = caches[process].clone();
        serve(1, move || {
            let handler = move |request: HttpRequest, body: Bytes| async move {
                format!("{process} {} {}", request.method(), body.escape_ascii())
            };
            App::new().default_service(web::to(handler)).wrap(cache.clone())
        })
    });
    let clients = servers.each_ref().map(|server| Client::new(server.addr, Protocol::Http1));
    for method in ["QUERY", "POST"] {
        for body in ["{a}", "{b}"] {
            until_hit(&clients[0], method, body).await;
            let shared = until_hit(&clients[1], method, body).await;
            assert_eq!(shared.text(), format!("0 {method} {body}"));
        }
    }
    caches[1].handle().purge(PurgeTarget::url("http://shop/search")).await.unwrap();
    for method in ["QUERY", "POST"] {
        let method: hyper::Method = method.parse().unwrap();
        let answer = clients[1].send_body(method.clone(), "/search", &[HOST], "{a}").await.unwrap();
        assert!(!answer.is_hit(), "{method}: {}", answer.cache_status());
    }
}
