//! Invalidation of one URL, by an unsafe request (RFC 9111 section 4.4) or by a handler.

use std::sync::Arc;

use actix_web::{App, HttpRequest, HttpResponse, web};
use actix_web_cache::{CacheHandle, PurgeError, Rule};
use hyper::Method;
use tokio::sync::{Notify, mpsc};

use crate::support::{Client, Protocol, builder, cache, requested_response, serve, test_app};

fn method_of(name: &str) -> Method {
    Method::from_bytes(name.as_bytes()).unwrap()
}

/// Request fields for a response in one language, which varies by it.
const fn in_language(language: &str) -> [(&str, &str); 2] {
    [("accept-language", language), ("answer", "vary: accept-language")]
}

/// Stores a French and a German variant of a path.
async fn store_variants(client: &Client, path: &str) {
    for language in ["fr", "de"] {
        client.get_with(path, &in_language(language)).await;
        assert!(client.get_with(path, &in_language(language)).await.is_hit(), "{path} {language}");
    }
}

#[actix_web::test]
async fn successful_unsafe_request_invalidates_all_variants_of_its_url() {
    let (cache, _) = cache();
    let app = test_app(&cache, requested_response);
    let cases = [
        ("POST", 200),
        ("PUT", 204),
        ("PATCH", 200),
        ("DELETE", 202),
        ("POST", 303),
        ("LINK", 200),
        ("BREW", 201),
    ];
    for (index, (name, status)) in cases.into_iter().enumerate() {
        let path = format!("/{index}");
        store_variants(&app.client, &path).await;
        let fields = [("answer-status", &*status.to_string()), ("accept-language", "fr")];
        let answer = app.client.send(method_of(name), &path, &fields).await;
        assert_eq!(answer.status.as_u16(), status);
        for language in ["fr", "de"] {
            let answer = app.client.get_with(&path, &in_language(language)).await;
            assert!(!answer.is_hit(), "{name} {status}: {language}");
        }
    }
}

#[actix_web::test]
async fn safe_or_failed_request_invalidates_nothing() {
    let (cache, _) = cache();
    let app = test_app(&cache, requested_response);
    store_variants(&app.client, "/").await;
    for (name, status) in [
        ("POST", 400),
        ("PUT", 403),
        ("DELETE", 404),
        ("PATCH", 500),
        ("POST", 503),
        ("OPTIONS", 200),
        ("QUERY", 200),
    ] {
        let fields = [("answer-status", &*status.to_string())];
        app.client.send(method_of(name), "/", &fields).await;
        for language in ["fr", "de"] {
            let answer = app.client.get_with("/", &[("accept-language", language)]).await;
            assert!(answer.is_hit(), "{name} {status}: {language}");
        }
    }
}

#[actix_web::test]
async fn unsafe_request_without_a_matching_rule_invalidates_its_url() {
    let (builder, _) = builder();
    let rule_for_get = Rule::any().when(|request| request.method() == actix_web::http::Method::GET);
    let app =
        test_app(&builder.rule(rule_for_get).rules_only().build().unwrap(), requested_response);
    app.client.get("/").await;
    assert!(app.client.get("/").await.is_hit());
    app.client.send(Method::POST, "/", &[]).await;
    assert!(!app.client.get("/").await.is_hit());
}

/// The invalidation covers every variant, and a new variant revives no older one.
#[actix_web::test]
async fn invalidated_variant_is_not_restored_by_the_next_request() {
    let (cache, _) = cache();
    let app = test_app(&cache, requested_response);
    let varying = |language| [("accept-language", language), ("answer", "vary: accept-language")];
    for path in ["/p", "/p?q"] {
        for language in ["en", "fr"] {
            app.client.get_with(path, &varying(language)).await;
        }
    }
    app.client.send(Method::POST, "/p", &varying("en")).await;
    for (path, language, body) in [
        ("/p", "en", "run 6"),
        ("/p", "fr", "run 7"),
        ("/p?q", "en", "run 3"),
        ("/p?q", "fr", "run 4"),
        ("/p", "en", "run 6"),
    ] {
        assert_eq!(
            app.client.get_with(path, &varying(language)).await.text(),
            body,
            "{path} {language}"
        );
    }
}

/// Purges the URL in the request field `url`, and responds with the result.
async fn purge(request: HttpRequest, cache: CacheHandle) -> Result<String, PurgeError> {
    let url = request.headers().get("url").unwrap().to_str().unwrap();
    Ok(cache.purge_url(url).await?.to_string())
}

#[actix_web::test]
async fn handler_purges_urls_by_path_or_in_full_and_absent_ones_without_error() {
    let (cache, _) = cache();
    let server = serve(1, move || {
        let answer = |request: HttpRequest| async move { requested_response(&request, 1) };
        App::new()
            .wrap(cache.clone())
            .route("/purge", web::post().to(purge))
            .default_service(web::to(answer))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    let full = format!("http://{}/full?a=b", server.addr);
    for (url, stored, want) in [
        ("/absent", "/other", "0 stored responses"),
        ("/path", "/path", "2 stored responses"),
        ("/query?a=b", "/query?a=b", "2 stored responses"),
        (full.as_str(), "/full?a=b", "2 stored responses"),
        ("/path?", "/path", "0 stored responses"),
        ("/path?a=b", "/path", "0 stored responses"),
    ] {
        store_variants(&client, stored).await;
        let answer = client.send(Method::POST, "/purge", &[("url", url)]).await;
        assert_eq!(answer.text(), want, "{url}");
        let answer = client.get_with(stored, &in_language("fr")).await;
        assert_eq!(answer.is_hit(), want == "0 stored responses", "{url}");
    }
}

#[actix_web::test]
async fn cache_handle_without_a_cache_fails_with_advice() {
    let server = serve(1, || App::new().route("/purge", web::post().to(purge)));
    let client = Client::new(server.addr, Protocol::Http1);
    let answer = client.send(Method::POST, "/purge", &[("url", "/")]).await;
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("wrap the application, scope or route with"), "{answer:?}");
}

#[actix_web::test]
async fn response_in_progress_is_not_stored_when_purged_meanwhile() {
    let (cache, _) = cache();
    let (started_sender, mut started) = mpsc::unbounded_channel();
    let release = Arc::new(Notify::new());
    let (handler_release, app_cache) = (Arc::clone(&release), cache.clone());
    let server = serve(1, move || {
        let (started_sender, release) = (started_sender.clone(), Arc::clone(&handler_release));
        let slow = move |request: HttpRequest| {
            let (started_sender, release) = (started_sender.clone(), Arc::clone(&release));
            async move {
                if request.headers().contains_key("x-slow") {
                    started_sender.send(()).unwrap();
                    release.notified().await;
                    return HttpResponse::Ok().body("old");
                }
                HttpResponse::Ok().body("new")
            }
        };
        let purge = |cache: CacheHandle| async move { cache.purge_url("/page").await.map(|_| "") };
        App::new()
            .route("/page", web::to(slow))
            .route("/purge", web::post().to(purge))
            .wrap(app_cache.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for (method, path) in [(Method::POST, "/purge"), (Method::PUT, "/page"), (Method::GET, "")] {
        let slow = client.clone();
        let old =
            actix_web::rt::spawn(async move { slow.get_with("/page", &[("x-slow", "1")]).await });
        started.recv().await.unwrap();
        if path.is_empty() {
            let url = format!("http://{}/page", server.addr);
            cache.handle().purge_url(url).await.unwrap();
        } else {
            assert_eq!(client.send(method.clone(), path, &[]).await.status, 200);
        }
        release.notify_one();
        assert_eq!(old.await.unwrap().text(), "old", "the requesting client gets the old response");
        let next = client.get("/page").await;
        assert_eq!((next.text(), next.is_hit()), ("new", false), "{method} {path}");
        assert!(client.get("/page").await.is_hit());
        cache.handle().purge_all().await.unwrap();
    }
}
