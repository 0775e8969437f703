//! Pages whose `Content-Security-Policy` has a nonce, which is valid for one response only.

use actix_web::{
    App, HttpMessage as _, HttpRequest, HttpResponse, dev::Service as _,
    http::header::CONTENT_SECURITY_POLICY, web,
};

use crate::support::{Client, Counter, SETUPS, cache, secs, serve};

/// A page with a nonce in its policy and in its body, or a 304 with a new nonce.
fn page(request: &HttpRequest, run: usize) -> HttpResponse {
    let is_known = request.headers().contains_key("if-none-match");
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    let policy = format!("script-src 'nonce-{run}'");
    response.insert_header(("content-security-policy", policy)).insert_header(("etag", "\"a\""));
    if request.path() == "/planned" {
        response.insert_header(("cache-control", "max-age=10"));
    }
    if is_known { response.finish() } else { response.body(format!("<script nonce={run}>")) }
}

#[actix_web::test]
async fn page_with_a_nonce_is_not_shared_unless_it_states_a_lifetime() {
    for (protocol, workers) in SETUPS {
        let ((cache, clock), runs) = (cache(), Counter::default());
        let counter = runs.clone();
        let server = serve(workers, move || {
            let runs = counter.clone();
            let handler = move |request: HttpRequest| {
                let run = runs.count();
                async move { page(&request, run) }
            };
            App::new().wrap(cache.clone()).default_service(web::to(handler))
        });
        let client = Client::new(server.addr, protocol);
        for run in 1..=3 {
            let answer = client.get("/").await;
            assert_eq!(answer.cache_status(), "fwd=uri-miss; detail=nonce");
            assert_eq!(answer.text(), format!("<script nonce={run}>"));
        }
        let stored = client.get("/planned").await;
        assert!(stored.is_stored() && client.get("/planned").await.is_hit());
        // A 304 makes a new nonce, which the stored body does not have.
        clock.advance(secs(10));
        for want in ["fwd=stale; fwd-status=304; stored", "hit; ttl=10"] {
            let answer = client.get("/planned").await;
            assert_eq!((answer.text(), &*answer.cache_status()), (stored.text(), want));
            let policy = |answer: &crate::support::Answer| answer.field("content-security-policy");
            assert_eq!(policy(&answer), policy(&stored));
        }
    }
}

/// The nonce of a request, made by a middleware inside of the cache.
struct Nonce(usize);

/// A handler that has no influence on the policy of its response.
async fn scripted(request: HttpRequest) -> HttpResponse {
    let is_known = request.headers().contains_key("if-none-match");
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header(("etag", "\"a\"")).insert_header(("cache-control", "max-age=10"));
    let Nonce(nonce) = *request.extensions().get().unwrap();
    if is_known { response.finish() } else { response.body(format!("<script nonce={nonce}>")) }
}

/// The middleware also adds a policy to a 304, with a nonce that the stored page does not have.
#[actix_web::test]
async fn not_modified_of_a_nonce_middleware_keeps_the_nonce_of_the_stored_page() {
    for (protocol, workers) in SETUPS {
        let ((cache, clock), nonces) = (cache(), Counter::default());
        let counter = nonces.clone();
        let server = serve(workers, move || {
            let nonces = counter.clone();
            App::new()
                .wrap_fn(move |request, service| {
                    let nonce = nonces.count();
                    request.extensions_mut().insert(Nonce(nonce));
                    let answer = service.call(request);
                    async move {
                        let mut answer = answer.await?;
                        let policy = format!("script-src 'nonce-{nonce}'").parse().unwrap();
                        answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
                        Ok(answer)
                    }
                })
                .wrap(cache.clone())
                .route("/", web::get().to(scripted))
        });
        let client = Client::new(server.addr, protocol);
        for (seconds, want) in [
            (0, "fwd=uri-miss; stored"),
            (20, "fwd=stale; fwd-status=304; stored"),
            (5, "hit; ttl=5"),
        ] {
            clock.advance(secs(seconds));
            let answer = client.get("/").await;
            assert_eq!(answer.cache_status(), want, "{protocol:?}");
            assert_eq!(answer.text(), "<script nonce=1>", "{want}");
            let policy = answer.field("content-security-policy");
            assert_eq!(policy.as_deref(), Some("script-src 'nonce-1'"), "{want}");
        }
        assert_eq!(nonces.get(), 2, "the 304 had a nonce of its own");
    }
}
