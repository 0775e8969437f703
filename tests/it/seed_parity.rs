//! What applications that come from the Python original rely on, as it is here.

use std::time::{Duration, UNIX_EPOCH};

use actix_web::{
    App, HttpRequest, HttpResponse,
    http::header::{ContentType, LINK},
    web,
};
use actix_web_cache::{Cache, CacheHandle, Policy, PurgeError, Rule};
use httpdate::fmt_http_date;
use hyper::Method;

use crate::support::{
    Answer, Client, Counter, Protocol, SETUPS, START, Spy, builder, cache, obey, secs, serve, site,
    store,
};

fn method(name: &str) -> Method {
    Method::from_bytes(name.as_bytes()).unwrap()
}

/// A date as it stands in fields, some seconds after the clock's start.
fn date(second: u64) -> String {
    fmt_http_date(UNIX_EPOCH + secs(START + second))
}

/// `Cache-Control`, `Expires`, `X-Cache` and `Age`, as far as they are there.
fn cache_fields(answer: &Answer) -> Vec<String> {
    ["cache-control", "expires", "x-cache", "age"]
        .iter()
        .filter_map(|name| Some(format!("{name}: {}", answer.field(name)?)))
        .collect()
}

#[actix_web::test]
async fn only_get_and_head_are_looked_up_and_other_methods_reach_the_handler() {
    let (cache, _) = cache();
    let site = site(&cache, obey);
    assert!(site.client.get("/").await.is_stored());
    assert!(site.client.head("/").await.is_hit());
    let safe = ["OPTIONS", "TRACE", "QUERY", "PROPFIND", "REPORT", "SEARCH"];
    let unsafe_ones = ["POST", "PUT", "PATCH", "DELETE", "LINK", "BREW"];
    for name in safe.into_iter().chain(unsafe_ones) {
        // A failure, so that nothing is forgotten.
        let before = site.runs.get();
        let answer = site.client.send(method(name), "/", &[("answer-status", "400")]).await;
        assert_eq!(answer.cache_status(), "fwd=method", "{name}");
        assert_eq!(site.runs.get(), before + 1, "{name}");
        assert_eq!(cache_fields(&answer), [""; 0], "{name}");
        assert!(site.client.get("/").await.is_hit(), "{name} stored nothing of its own");
    }
}

#[actix_web::test]
async fn a_request_for_another_protocol_passes_and_leaves_nothing_behind() {
    let (cache, _) = cache();
    let site = site(&cache, obey);
    for fields in
        [&[("upgrade", "websocket")][..], &[("upgrade", "websocket"), ("connection", "upgrade")]]
    {
        for run in [1, 2] {
            let answer = site.client.get_with("/", fields).await;
            assert_eq!(answer.cache_status(), "fwd=bypass; detail=upgrade", "{fields:?} {run}");
            assert_eq!(cache_fields(&answer), [""; 0]);
        }
    }
    assert_eq!(site.runs.get(), 4);
}

#[actix_web::test]
async fn what_no_rule_is_for_passes_without_a_field_added() {
    let (builder, _) = builder();
    let cache = builder.rules([Rule::path("/a")]).rules_only().x_cache().build().unwrap();
    let site = site(&cache, obey);
    assert!(site.client.get("/a").await.is_stored());
    assert!(site.client.get("/a").await.is_hit());
    for _ in 0..2 {
        let answer = site.client.get("/b").await;
        assert_eq!(answer.cache_status(), "fwd=bypass; detail=rule");
        assert_eq!(cache_fields(&answer), [""; 0]);
    }
    assert_eq!(site.runs.get(), 3);
}

#[actix_web::test]
async fn without_rules_everything_is_cached_and_with_an_empty_list_nothing() {
    let with = builder().0.build().unwrap();
    let without = builder().0.rules([]).rules_only().build().unwrap();
    for (cache, want) in [(with, true), (without, false)] {
        let site = site(&cache, obey);
        for path in ["/", "/a/b", "/c?d=e"] {
            site.client.get(path).await;
            assert_eq!(site.client.get(path).await.is_hit(), want, "{path}");
        }
    }
}

#[actix_web::test]
async fn a_hit_reads_the_store_once_and_a_miss_writes_it_once() {
    let spy = Spy::new();
    let site = site(&Cache::new(spy.clone()), obey);
    site.client.get("/").await;
    assert_eq!((spy.lookups.get(), spy.puts.get()), (1, 1));
    assert!(site.client.get("/").await.is_hit());
    assert!(site.client.head("/").await.is_hit());
    assert_eq!((spy.lookups.get(), spy.puts.get()), (3, 1));
}

#[actix_web::test]
async fn what_can_never_be_stored_is_not_looked_up() {
    let spy = Spy::new();
    let cache = Cache::builder(spy.clone())
        .rule(Rule::path("/bypass").bypass())
        .rule(Rule::path("/zero").override_ttl(Duration::ZERO))
        .build()
        .unwrap();
    let site = site(&cache, obey);
    for path in ["/bypass", "/zero"] {
        let answer = site.client.get_with(path, &[("answer", "cache-control: max-age=9")]).await;
        assert_eq!(answer.cache_status(), "fwd=bypass; detail=rule", "{path}");
        assert_eq!(cache_fields(&answer), ["cache-control: max-age=9"], "{path}");
    }
    assert_eq!((spy.lookups.get(), spy.puts.get(), site.runs.get()), (0, 0, 2));
}

#[actix_web::test]
async fn a_lifetime_of_zero_is_not_stored_and_adds_no_field() {
    let (builder, _) = builder();
    let rule = Rule::path("/zero").ttl(Duration::ZERO);
    let cache = builder.rule(rule).x_cache().build().unwrap();
    let site = site(&cache, obey);
    for _ in 0..2 {
        let answer = site.client.get("/zero").await;
        assert_eq!(answer.cache_status(), "fwd=uri-miss; detail=no-lifetime");
        assert_eq!(cache_fields(&answer), [""; 0]);
    }
}

#[actix_web::test]
async fn a_stored_get_answers_head_with_its_length_and_without_its_body() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let server = serve(workers, move || {
            App::new()
                .wrap(cache.clone())
                .default_service(web::to(|| async { HttpResponse::Ok().body("twelve bytes") }))
        });
        let client = Client::new(server.addr, protocol);
        let get = client.get("/").await;
        let head = client.head("/").await;
        assert!(head.is_hit() && head.body.is_empty(), "{protocol:?}");
        assert_eq!(head.status, get.status);
        assert_eq!(head.field("content-length").as_deref(), Some("12"), "{protocol:?}");
        assert_eq!(fields_without_report(&head), fields_without_report(&get), "{protocol:?}");
    }
}

/// All fields in an order, save what a cache says of this answer alone.
fn fields_without_report(answer: &Answer) -> Vec<(String, String)> {
    let mut fields: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| !["age", "cache-status"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    // Stable: lines of one field keep their order.
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

#[actix_web::test]
async fn a_hit_is_the_miss_to_the_byte_save_age_and_cache_status() {
    let every_byte: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let (cache, clock) = cache();
    let body = every_byte.clone();
    let site = site(&cache, move |_, _| {
        HttpResponse::NotFound()
            .content_type(ContentType::octet_stream())
            .append_header((LINK, "</b>; rel=preload"))
            .append_header((LINK, "</a>; rel=preload"))
            .append_header(("x-twice", "2"))
            .append_header(("x-twice", "1, 3"))
            .append_header(("x-empty", ""))
            .append_header(("cache-control", "public"))
            .append_header(("cache-control", "max-age=60"))
            .append_header(("etag", "\"v1\""))
            .body(body.clone())
    });
    let miss = site.client.get("/").await;
    clock.advance(secs(5));
    let hit = site.client.get("/").await;
    assert!(miss.is_stored() && hit.is_hit());
    assert_eq!(miss.body, every_byte);
    assert_eq!((hit.status, &hit.body), (miss.status, &miss.body));
    assert_eq!(fields_without_report(&hit), fields_without_report(&miss));
    assert_eq!(hit.field("age").as_deref(), Some("5"));
    assert_eq!(hit.field("link").as_deref(), Some("</b>; rel=preload, </a>; rel=preload"));
}

/// Whether a response with a status is stored: if it states nothing, if it states a lifetime, and
/// if it does so before a cache that goes by the RFC alone.
const STATUSES: &[(u16, bool, bool, bool)] = &[
    (200, true, true, true),
    (201, false, false, true),
    (202, false, false, true),
    (203, true, true, true),
    (204, false, true, true),
    (206, false, false, false),
    (300, false, true, true),
    (301, true, true, true),
    (302, false, true, true),
    (303, false, false, true),
    (307, false, true, true),
    (308, true, true, true),
    (400, false, false, true),
    (401, false, false, true),
    (403, false, false, true),
    (404, false, true, true),
    (405, false, true, true),
    (410, false, true, true),
    (414, false, true, true),
    (418, false, false, true),
    (429, false, false, true),
    (500, false, false, true),
    (501, false, true, true),
    (502, false, false, true),
    (503, false, false, true),
];

#[actix_web::test]
async fn status_codes_are_stored_as_the_standard_and_the_policy_say() {
    let usual = site(&builder().0.build().unwrap(), obey);
    let rfc = site(&builder().0.policy(Policy::rfc9111()).build().unwrap(), obey);
    let stated = ("answer", "cache-control: max-age=60");
    for &(status, silent, explicit, any) in STATUSES {
        let text = status.to_string();
        let of_status = ("answer-status", text.as_str());
        for (case, site, fields, want) in [
            ("states nothing", &usual, &[of_status][..], silent),
            ("states a lifetime", &usual, &[of_status, stated], explicit),
            ("by the RFC", &rfc, &[of_status, stated], any),
            ("by the RFC, states nothing", &rfc, &[of_status], false),
        ] {
            let path = format!("/{status}/{}", case.replace(' ', "-"));
            let first = site.client.get_with(&path, fields).await;
            assert_eq!(first.is_stored(), want, "{status} {case}");
            assert_eq!(site.client.get_with(&path, fields).await.is_hit(), want, "{status} {case}");
            assert_eq!(first.status.as_u16(), status);
            if !want && fields.len() == 1 {
                assert_eq!(cache_fields(&first), [""; 0], "{status} {case}");
            }
        }
    }
}

#[actix_web::test]
async fn x_cache_says_miss_then_hit_and_nothing_of_what_is_not_stored() {
    let (builder, clock) = builder();
    let site = site(&builder.x_cache().build().unwrap(), obey);
    let x_cache = async |fields: &[(&str, &str)]| {
        let answer = site.client.get_with("/", fields).await;
        answer.field("x-cache").unwrap_or_default()
    };
    assert_eq!(x_cache(&[]).await, "miss");
    assert_eq!(x_cache(&[]).await, "hit");
    assert_eq!(x_cache(&[]).await, "hit", "the stored copy says neither");
    clock.advance(secs(60));
    assert_eq!(x_cache(&[("answer", "cache-control: private")]).await, "");
    assert_eq!(x_cache(&[("answer", "x-cache: hit")]).await, "miss", "the handler's is replaced");
    assert_eq!(x_cache(&[]).await, "hit");
    let post = site.client.send(Method::POST, "/", &[]).await;
    assert_eq!(post.field("x-cache"), None);
}

#[actix_web::test]
async fn a_lifetime_of_the_policy_is_told_to_clients_and_that_of_a_response_left_as_it_is() {
    let (builder, _) = builder();
    let policy = Policy::new().default_ttl(secs(120));
    let site = site(&builder.policy(policy).build().unwrap(), obey);
    let (past, later) = (date(0), date(40));
    let (past, later) = (format!("expires: {past}"), format!("expires: {later}"));
    for (case, said, want) in [
        (
            "nothing",
            &[][..],
            vec!["cache-control: max-age=120".to_owned(), format!("expires: {}", date(120))],
        ),
        (
            "directives without a lifetime keep their order",
            &["cache-control: public, must-revalidate"],
            vec![
                "cache-control: public, must-revalidate, max-age=120".to_owned(),
                format!("expires: {}", date(120)),
            ],
        ),
        (
            "max-age",
            &["cache-control: max-age=30, must-revalidate"],
            vec!["cache-control: max-age=30, must-revalidate".to_owned()],
        ),
        (
            "s-maxage",
            &["cache-control: s-maxage=30"],
            vec!["cache-control: s-maxage=30".to_owned()],
        ),
        ("Expires", &[later.as_str()], vec![later.clone()]),
        ("an Expires that is over", &[past.as_str()], vec![past.clone()]),
        ("no-store", &["cache-control: no-store"], vec!["cache-control: no-store".to_owned()]),
        ("private", &["cache-control: private"], vec!["cache-control: private".to_owned()]),
        ("no-cache", &["cache-control: no-cache"], vec!["cache-control: no-cache".to_owned()]),
    ] {
        let fields: Vec<_> = said.iter().map(|line| ("answer", *line)).collect();
        let answer = site.client.get_with(&format!("/{}", case.replace(' ', "-")), &fields).await;
        assert_eq!(cache_fields(&answer), want, "{case}");
    }
}

#[actix_web::test]
async fn of_two_lifetimes_clients_are_told_the_shorter() {
    let (builder, _) = builder();
    let site = site(&builder.rule(Rule::any().override_ttl(secs(120))).build().unwrap(), obey);
    for (said, want) in [
        ("max-age=30, must-revalidate", "max-age=30, must-revalidate"),
        ("must-revalidate, max-age=300", "must-revalidate, max-age=120"),
        ("max-age=120", "max-age=120"),
        ("immutable", "immutable, max-age=120"),
    ] {
        let line = format!("cache-control: {said}");
        let path = format!("/{}", said.replace([' ', ','], ""));
        let miss = site.client.get_with(&path, &[("answer", &line)]).await;
        let hit = site.client.get_with(&path, &[("answer", &line)]).await;
        assert_eq!(miss.field("cache-control").as_deref(), Some(want), "{said}");
        assert_eq!(hit.field("cache-control").as_deref(), Some(want), "{said}");
        assert_eq!(hit.cache_status(), "hit; ttl=120", "{said}");
    }
}

#[actix_web::test]
async fn each_coding_has_its_page_and_one_seen_before_is_a_hit() {
    let (cache, _) = cache();
    let site = site(&cache, |request, run| {
        let coding = request.headers().get("accept-encoding").map_or("-", |c| c.to_str().unwrap());
        HttpResponse::Ok()
            .append_header(("vary", "Accept-Encoding"))
            .body(format!("{coding} {run}"))
    });
    for (coding, status, body) in [
        ("gzip", "fwd=uri-miss; stored", "gzip 1"),
        ("br", "fwd=vary-miss; stored", "br 2"),
        ("gzip", "hit; ttl=60", "gzip 1"),
        ("br", "hit; ttl=60", "br 2"),
        ("", "fwd=vary-miss; stored", " 3"),
    ] {
        let answer = site.client.get_with("/", &[("accept-encoding", coding)]).await;
        assert_eq!((answer.cache_status().as_str(), answer.text()), (status, body), "{coding}");
    }
    let answer = site.client.get("/").await;
    assert_eq!((answer.text(), answer.is_hit()), ("- 4", false), "absent is not empty");
}

#[actix_web::test]
async fn a_page_that_forgets_its_vary_is_kept_apart_and_its_own_vary_left_alone() {
    let (cache, _) = cache();
    let site = site(&cache, obey);
    let french = &[("accept-language", "fr"), ("answer", "vary: accept-language")];
    let german = &[("accept-language", "de")];
    assert_eq!(site.client.get_with("/", french).await.text(), "run 1");
    assert_eq!(site.client.get_with("/", german).await.text(), "run 2");
    for (fields, body, vary) in
        [(&french[..1], "run 1", "accept-language, Cookie"), (german, "run 2", "Cookie")]
    {
        let answer = site.client.get_with("/", fields).await;
        assert!(answer.is_hit(), "{body}");
        assert_eq!((answer.text(), answer.field("vary").as_deref()), (body, Some(vary)));
    }
}

const fn in_language(language: &str) -> [(&str, &str); 2] {
    [("accept-language", language), ("answer", "vary: accept-language")]
}

async fn fill_with_variants(client: &Client, path: &str) {
    for language in ["fr", "de"] {
        client.get_with(path, &in_language(language)).await;
        assert!(client.get_with(path, &in_language(language)).await.is_hit(), "{path} {language}");
    }
}

#[actix_web::test]
async fn a_successful_unsafe_request_forgets_the_url_in_all_its_variants() {
    let (cache, _) = cache();
    let site = site(&cache, obey);
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
        fill_with_variants(&site.client, &path).await;
        let fields = [("answer-status", &*status.to_string()), ("accept-language", "fr")];
        let answer = site.client.send(method(name), &path, &fields).await;
        assert_eq!(answer.status.as_u16(), status);
        for language in ["fr", "de"] {
            let answer = site.client.get_with(&path, &in_language(language)).await;
            assert!(!answer.is_hit(), "{name} {status}: {language}");
        }
    }
}

#[actix_web::test]
async fn a_safe_or_failed_request_forgets_nothing() {
    let (cache, _) = cache();
    let site = site(&cache, obey);
    fill_with_variants(&site.client, "/").await;
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
        site.client.send(method(name), "/", &fields).await;
        for language in ["fr", "de"] {
            let answer = site.client.get_with("/", &[("accept-language", language)]).await;
            assert!(answer.is_hit(), "{name} {status}: {language}");
        }
    }
}

#[actix_web::test]
async fn an_unsafe_request_that_no_rule_is_for_forgets_all_the_same() {
    let (builder, _) = builder();
    let gets = Rule::any().when(|request| request.method() == actix_web::http::Method::GET);
    let site = site(&builder.rule(gets).rules_only().build().unwrap(), obey);
    site.client.get("/").await;
    assert!(site.client.get("/").await.is_hit());
    site.client.send(Method::POST, "/", &[]).await;
    assert!(!site.client.get("/").await.is_hit());
}

async fn purge(request: HttpRequest, cache: CacheHandle) -> Result<String, PurgeError> {
    let url = request.headers().get("url").unwrap().to_str().unwrap();
    Ok(cache.purge_url(url).await?.responses.to_string())
}

#[actix_web::test]
async fn handlers_forget_urls_by_path_or_in_full_and_what_is_not_there_is_no_error() {
    let (cache, _) = cache();
    let server = serve(1, move || {
        let answer = |request: HttpRequest| async move { obey(&request, 1) };
        App::new()
            .wrap(cache.clone())
            .route("/purge", web::post().to(purge))
            .default_service(web::to(answer))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    let full = format!("http://{}/full?a=b", server.addr);
    for (url, stored, want) in [
        ("/absent", "/other", "0"),
        ("/path", "/path", "2"),
        ("/query?a=b", "/query?a=b", "2"),
        (full.as_str(), "/full?a=b", "2"),
        ("/path?", "/path", "0"),
        ("/path?a=b", "/path", "0"),
    ] {
        fill_with_variants(&client, stored).await;
        let answer = client.send(Method::POST, "/purge", &[("url", url)]).await;
        assert_eq!(answer.text(), want, "{url}");
        let answer = client.get_with(stored, &in_language("fr")).await;
        assert_eq!(answer.is_hit(), want == "0", "{url}");
    }
}

#[actix_web::test]
async fn a_handler_that_wants_a_cache_and_has_none_is_told_what_to_do() {
    let server = serve(1, || App::new().route("/purge", web::post().to(purge)));
    let client = Client::new(server.addr, Protocol::Http1);
    let answer = client.send(Method::POST, "/purge", &[("url", "/")]).await;
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("wrap the application, scope or route with"), "{answer:?}");
}

#[actix_web::test]
async fn scopes_have_caches_of_their_own_and_the_rest_of_the_application_has_none() {
    let runs = Counter::default();
    let counter = runs.clone();
    let store = store();
    let clock = actix_web_cache::ManualClock::at(START);
    let server = serve(1, move || {
        let of = |seconds| {
            let policy = Policy::new().default_ttl(secs(seconds));
            Cache::builder(store.clone()).clock(clock.clock()).policy(policy).build().unwrap()
        };
        let runs = counter.clone();
        let number = move || {
            let run = runs.count();
            async move { HttpResponse::Ok().body(run.to_string()) }
        };
        App::new()
            .service(web::resource("/pi").wrap(of(30)).to(number.clone()))
            .service(web::scope("/sub").wrap(of(90)).route("/page", web::to(number.clone())))
            .route("/", web::to(number))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for (path, status) in [("/pi", "hit; ttl=30"), ("/sub/page", "hit; ttl=90"), ("/", "")] {
        client.get(path).await;
        assert_eq!(client.get(path).await.cache_status(), status, "{path}");
    }
    let absent = client.get("/sub/absent").await;
    assert_eq!((absent.status.as_u16(), absent.is_stored()), (404, false));
    assert_eq!(runs.get(), 4);
}
