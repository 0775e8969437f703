//! Recipes that wrap an application, a resource or a route.

use actix_web::{App, HttpRequest, HttpResponse, Responder, get, web};
use actix_web_cache::{Cache, CachePolicy, Compression, MemoryStore, NeverCache, SetCacheControl};

use super::policies::{HOUR, outcome};
use crate::{
    compression::{decoded, get_coded},
    support::{Client, Protocol, serve, store, test_app},
};

#[get("/hour", wrap = "CachePolicy::ttl(HOUR)")]
async fn hour() -> impl Responder {
    "page"
}

#[get("/tagged", wrap = "CachePolicy::ttl(HOUR).tag(\"tag-blog\")")]
async fn tagged() -> impl Responder {
    "page"
}

#[get("/never", wrap = "CachePolicy::no_store(\"live\")")]
async fn never() -> impl Responder {
    "page"
}

async fn page() -> impl Responder {
    "page"
}

/// The `Cache-Control` of a hit, or the reason why the response is not stored.
async fn second(client: &Client, path: &str) -> String {
    client.get(path).await;
    let answer = client.get(path).await;
    if answer.is_hit() { answer.field("cache-control").unwrap() } else { outcome(&answer) }
}

#[actix_web::test]
async fn route_sets_the_lifetime_of_its_responses() {
    let store = store();
    let server = serve(1, move || {
        let store = store.clone();
        App::new().wrap(Cache::new(store)).service(hour).service(never)
    });
    let client = Client::new(server.addr, Protocol::Http1);
    assert_eq!(second(&client, "/hour").await, "max-age=3600");
    assert_eq!(second(&client, "/never").await, "handler");
}

#[actix_web::test]
async fn routes_and_scopes_tag_their_responses() {
    let cache = Cache::new(store());
    let handle = cache.handle();
    let server = serve(1, move || {
        let blog = web::scope("/blog").wrap(cache.with(|policy| policy.tag("tag-blog")));
        App::new()
            .wrap(cache.clone())
            .service(tagged)
            .service(blog.route("/1", web::get().to(page)))
            .route("/other", web::get().to(page))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for path in ["/tagged", "/blog/1", "/other"] {
        client.get(path).await;
        assert!(client.get(path).await.is_hit(), "{path}");
    }
    handle.purge_tag("tag-blog").await.unwrap();
    for path in ["/tagged", "/blog/1", "/other"] {
        assert_eq!(client.get(path).await.is_hit(), path == "/other", "{path}");
    }
}

#[actix_web::test]
async fn resource_has_a_cache_of_its_own() {
    let store = store();
    let server = serve(1, move || {
        let store = store.clone();
        App::new()
            .service(web::resource("/page").wrap(Cache::new(store)).to(page))
            .route("/other", web::get().to(page))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    assert_eq!(second(&client, "/page").await, "max-age=60");
    assert_eq!(client.get("/other").await.field("cache-status"), None);
}

#[actix_web::test]
async fn resource_has_a_lifetime_of_its_own() {
    let cache = Cache::new(MemoryStore::new(100 * 1024 * 1024));
    let server = serve(1, move || {
        let resource = web::resource("/page").wrap(cache.with(|policy| policy.default_ttl(HOUR)));
        App::new()
            .wrap(cache.clone())
            .service(resource.to(page))
            .route("/other", web::get().to(page))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    assert_eq!(second(&client, "/page").await, "max-age=3600");
    assert_eq!(second(&client, "/other").await, "max-age=60");
}

#[actix_web::test]
async fn middlewares_write_cache_control() {
    let server = serve(1, || {
        let with = |path, middleware| web::resource(path).wrap(middleware).to(page);
        let assets =
            web::scope("/assets").wrap(SetCacheControl::new().public().max_age(HOUR).immutable());
        App::new()
            .service(with("/a", SetCacheControl::new().private()))
            .service(with("/b", SetCacheControl::new().max_age(HOUR)))
            .service(with("/d", SetCacheControl::new().public().max_age(HOUR)))
            .service(with("/e", SetCacheControl::new().must_revalidate().max_age(HOUR)))
            .service(web::scope("/c").wrap(NeverCache).route("", web::get().to(page)))
            .service(assets.route("/1", web::get().to(page)))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for (path, want) in [
        ("/a", "private"),
        ("/b", "max-age=3600"),
        ("/c", "no-store"),
        ("/d", "public, max-age=3600"),
        ("/e", "must-revalidate, max-age=3600"),
        ("/assets/1", "public, max-age=3600, immutable"),
    ] {
        let field = client.get(path).await.field("cache-control").unwrap();
        assert!(field.contains(want), "{path}: {field}");
    }
}

/// The responses need no more than the fields that the handler sends for browsers anyway.
#[actix_web::test]
async fn fields_of_the_response_suffice() {
    let store = store();
    let answer = |request: HttpRequest| async move {
        let agent = request.headers().get("user-agent").unwrap().to_str().unwrap().to_owned();
        let mut response = HttpResponse::Ok();
        response.insert_header(("vary", "User-Agent")).insert_header(("etag", "\"1\""));
        response.body(agent)
    };
    let server = serve(1, move || {
        App::new().wrap(Cache::new(store.clone())).default_service(web::to(answer))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for agent in ["a", "b"] {
        for is_hit in [false, true] {
            let page = client.get_with("/", &[("user-agent", agent)]).await;
            assert_eq!((page.text(), page.is_hit()), (agent, is_hit));
        }
    }
    let known = [("user-agent", "a"), ("if-none-match", "\"1\"")];
    assert_eq!(client.get_with("/", &known).await.status, 304);
}

/// The cache stores the plain body, and `Compress` compresses it for the clients that accept gzip.
#[actix_web::test]
async fn copies_compress_each_stored_response_once() {
    let cache = Cache::new(store())
        .with(|policy| policy.compress(Compression::new()).no_compress_outside());
    let text = |_: &HttpRequest, _| {
        HttpResponse::Ok().content_type("text/plain").body("page ".repeat(1000))
    };
    let app = test_app(&cache, text);
    let copy = get_coded(&app.client, "/", "gzip").await;
    assert!(copy.is_hit() && app.runs.get() == 1);
    assert_eq!(decoded("gzip", &copy.body), "page ".repeat(1000).as_bytes());
}
