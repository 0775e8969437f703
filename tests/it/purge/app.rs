//! Applications that the purge tests share.

use actix_web::{App, HttpRequest, HttpResponse, http::StatusCode, web};
use actix_web_cache::{Cache, CacheHandle, Policy, PurgeError};

use crate::support::{
    Client, Counter, Protocol, Server, TestApp, builder, identity_fields, recording_app, serve,
};

/// A fixed host name, independent of the server's port.
pub(super) const SHOP: (&str, &str) = ("host", "shop.example");

/// Answers GET on every path with `Vary: X-Lang`. `POST /purge` purges the URL in `X-Url`, or
/// everything.
pub(super) fn serve_purging(workers: usize, cache: &Cache) -> (Server, Counter) {
    let (cache, runs) = (cache.clone(), Counter::default());
    let counter = runs.clone();
    let server = serve(workers, move || {
        let runs = counter.clone();
        let page = move |request: HttpRequest| {
            let run = runs.count();
            async move {
                HttpResponse::Ok()
                    .insert_header(("vary", "x-lang"))
                    .body(format!("run {run} for {}", identity_fields(&request)))
            }
        };
        App::new()
            .wrap(cache.clone())
            .route("/purge", web::post().to(purge))
            .default_service(web::get().to(page))
    });
    (server, runs)
}

/// Purges the URL in `X-Url`, or everything, and responds with the result.
pub(super) async fn purge(request: HttpRequest, cache: CacheHandle) -> Result<String, PurgeError> {
    match request.headers().get("x-url").map(|url| url.to_str().unwrap()) {
        Some(url) => Ok(cache.purge_url(url).await?.to_string()),
        None => cache.purge_all().await.map(|_| "all".to_owned()),
    }
}

/// Answers GET on every path. Other methods get the status in `X-Status`, or 200.
async fn answer(request: HttpRequest) -> HttpResponse {
    if *request.method() == actix_web::http::Method::GET {
        return HttpResponse::Ok().insert_header(("vary", "x-lang")).body("page");
    }
    let status = request.headers().get("x-status").map(|status| status.to_str().unwrap());
    let status = status.map_or(StatusCode::OK, |status| status.parse().unwrap());
    HttpResponse::build(status).finish()
}

pub(super) fn serve_page(workers: usize, cache: &Cache) -> (Server, Client) {
    let cache = cache.clone();
    let server =
        serve(workers, move || App::new().wrap(cache.clone()).default_service(web::to(answer)));
    let client = Client::new(server.addr, Protocol::Http1);
    (server, client)
}

/// Serves a handler that builds the response that the request describes, behind a cache with this
/// policy.
pub(super) fn serve_requested_responses(policy: Policy) -> TestApp {
    let (builder, _) = builder();
    recording_app(&builder.policy(policy).build().unwrap()).0
}
