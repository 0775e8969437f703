//! `No-Vary-Search`: one stored response answers equivalent queries.

use actix_web::http::Method;
use actix_web_cache::{
    Cache, CacheBuilder, ManualClock, MemoryStore, Policy, PurgeTarget, QueryKey, Rule,
    store::Store as _,
};

use crate::support::{
    GatedApp, Protocol, START, TestApp, builder, requested_response, secs, store, test_app,
    wait_until,
};

const NO_UTM: &[(&str, &str)] = &[("answer", "no-vary-search: params=(\"utm\")")];
const ANY_ORDER: &[(&str, &str)] = &[("answer", "no-vary-search: key-order")];
const PLAIN: &[(&str, &str)] = &[];

fn app(builder: CacheBuilder) -> TestApp {
    test_app(&builder.build().unwrap(), requested_response)
}

/// A builder with a manual clock, and the store of its cache.
fn builder_with_store() -> (CacheBuilder, ManualClock, MemoryStore) {
    let (store, clock) = (store(), ManualClock::at(START));
    (Cache::builder(store.clone()).clock(clock.clock()), clock, store)
}

/// Requests paths one after another, and compares the parameters of `Cache-Status`.
async fn assert_outcomes(app: &TestApp, fields: &[(&str, &str)], outcomes: &[(&str, &str)]) {
    for (path, want) in outcomes {
        let answer = app.client.get_with(path, fields).await;
        assert_eq!(answer.cache_status(), *want, "{path} {outcomes:?}");
    }
}

const MISS: &str = "fwd=uri-miss; stored";
const HIT: &str = "hit; ttl=60";

#[actix_web::test]
async fn response_answers_equivalent_queries_once_its_path_is_known() {
    let app = app(builder().0);
    let outcomes = [
        // The first response is stored for its own query.
        ("/a?x=1&utm=1", MISS),
        ("/a?x=1&utm=2", MISS),
        ("/a?x=1&utm=3", HIT),
        ("/a?utm=4&x=1", HIT),
        ("/a?%78=1&&", HIT),
        ("/a?x=1&utm=1", HIT),
        ("/a?x=2&utm=1", MISS),
        ("/a?x=1&utm=1&x=1", MISS),
        ("/a", MISS),
        ("/a?", HIT),
        ("/a?utm", HIT),
        // Another path and another host are not known.
        ("/b?x=1&utm=1", MISS),
        ("/a/?x=1&utm=1", MISS),
    ];
    assert_outcomes(&app, NO_UTM, &outcomes).await;
    let other_host = app.client.get_with("/a?x=1&utm=9", &[NO_UTM[0], ("host", "other")]).await;
    assert_eq!(other_host.cache_status(), MISS);
    let hit = app.client.get("/a?x=1&utm=9").await;
    assert_eq!(hit.field("no-vary-search").unwrap(), "params=(\"utm\")");
    assert!(app.client.head("/a?x=1&utm=9").await.is_hit());
}

#[actix_web::test]
async fn field_and_other_key_parts_apply_together() {
    let policy = Policy::new()
        .query(QueryKey::ignoring(["ignored"]))
        .key_header("x-tenant")
        .vary_cookie("theme");
    let app = app(builder().0.policy(policy));
    let outcomes = [("/?b=1&a=1", MISS), ("/?a=1&b=1&ignored=1", MISS), ("/?b=1&a=1", HIT)];
    assert_outcomes(&app, ANY_ORDER, &outcomes).await;
    for fields in [("x-tenant", "t"), ("cookie", "theme=dark")] {
        let fields = [ANY_ORDER[0], fields];
        assert_outcomes(&app, &fields, &[("/?a=1&b=1", MISS), ("/?b=1&a=1", HIT)]).await;
    }
    // A body is another part.
    let query: hyper::Method = "QUERY".parse().unwrap();
    for (path, is_hit) in [("/?a=1&b=1", false), ("/?b=1&a=1", true)] {
        let body = app.client.send_body(query.clone(), path, ANY_ORDER, "{a}").await.unwrap();
        assert_eq!(body.is_hit(), is_hit, "{path}");
    }
    // Variants remain variants.
    let varied = [ANY_ORDER[0], ("answer", "vary: accept-language"), ("accept-language", "de")];
    assert_outcomes(&app, &varied, &[("/v?a&b", MISS), ("/v?a&b", MISS), ("/v?b&a", HIT)]).await;
    let french = app.client.get_with("/v?b&a", &[("accept-language", "fr")]).await;
    assert_eq!(french.cache_status(), "fwd=vary-miss; detail=no-vary-search");
}

#[actix_web::test]
async fn policy_can_ignore_the_field() {
    let rule = Rule::path("/plain").with(|policy| policy.ignore_no_vary_search());
    let app = app(builder().0.rule(rule));
    for (path, want) in [("/plain", MISS), ("/other", HIT)] {
        for query in ["utm=1", "utm=2"] {
            app.client.get_with(&format!("{path}?{query}"), NO_UTM).await;
        }
        let answer = app.client.get_with(&format!("{path}?utm=3"), NO_UTM).await;
        assert_eq!(answer.cache_status(), want, "{path}");
    }
}

/// A response that does not state the field of its key answers no other query.
#[actix_web::test]
async fn handler_can_change_the_field() {
    let changed = "fwd=uri-miss; detail=no-vary-search";
    let (builder, clock, store) = builder_with_store();
    let app = app(builder);
    assert_outcomes(&app, NO_UTM, &[("/?utm=1", MISS), ("/?utm=2", MISS), ("/?utm=3", HIT)]).await;
    assert_eq!(store.coordinator().paths_with_no_vary_search(), 1);
    // No field at all.
    let outcomes = [("/?utm=4", HIT), ("/?a&utm=4", changed), ("/?a&utm=4", MISS)];
    assert_outcomes(&app, PLAIN, &outcomes).await;
    assert_eq!(store.coordinator().paths_with_no_vary_search(), 0);
    assert_outcomes(&app, PLAIN, &[("/?a&utm=5", MISS), ("/?a&utm=4", HIT)]).await;
    // The field again, and then another one.
    assert_outcomes(&app, NO_UTM, &[("/?b", MISS), ("/?b&utm=1", MISS), ("/?utm=2&b", HIT)]).await;
    assert_outcomes(&app, ANY_ORDER, &[("/?c&utm", changed), ("/?c&utm", MISS)]).await;
    assert_outcomes(&app, ANY_ORDER, &[("/?utm&c", HIT), ("/?c&utm=1", MISS)]).await;
    // An error says nothing about the field.
    let error = [("answer-status", "500")];
    assert_outcomes(&app, &error, &[("/?d", "fwd=uri-miss; detail=status")]).await;
    assert_outcomes(&app, ANY_ORDER, &[("/?d&e", MISS), ("/?e&d", HIT)]).await;
    // A stale response is not replaced by one without the field.
    clock.advance(secs(61));
    let tagged = [ANY_ORDER[0], ("answer", "etag: \"v1\"")];
    assert_outcomes(&app, &tagged, &[("/?f&g", MISS)]).await;
    clock.advance(secs(61));
    assert_outcomes(&app, PLAIN, &[("/?g&f", "fwd=stale; detail=no-vary-search")]).await;
    assert_outcomes(&app, PLAIN, &[("/?g&f", MISS), ("/?f&g", MISS)]).await;
}

/// A 304 updates the stored response only if its field is that of the key.
#[actix_web::test]
async fn revalidation_checks_the_field() {
    let (app, clock) = {
        let (builder, clock) = builder();
        (app(builder), clock)
    };
    let tagged = [NO_UTM[0], ("answer", "etag: \"v1\"")];
    assert_outcomes(&app, &tagged, &[("/?utm=1", MISS), ("/?utm=2", MISS)]).await;
    for (field, want) in [
        (("x-none", ""), "fwd=stale; fwd-status=304; stored"),
        (NO_UTM[0], "fwd=stale; fwd-status=304; stored"),
        (ANY_ORDER[0], "fwd=stale; fwd-status=304; detail=no-vary-search"),
    ] {
        clock.advance(secs(61));
        let not_modified = [field, ("answer-status", "304"), ("answer", "etag: \"v1\"")];
        assert_outcomes(&app, &not_modified, &[("/?utm=3", want)]).await;
    }
}

/// Followers do not get a response that turns out to be for another query.
#[actix_web::test]
async fn followers_do_not_share_a_response_whose_field_has_changed() {
    let cache = builder().0.build().unwrap();
    let app = GatedApp::new();
    let served = cache.clone();
    let server = app.serve(
        1,
        move || served.clone(),
        async |app, request| {
            let run = app.pass_gate().await;
            let mut response = actix_web::HttpResponse::Ok();
            if run <= 2 {
                response.insert_header(("no-vary-search", "params"));
            }
            response.body(request.query_string().to_owned())
        },
    );
    let client = crate::support::Client::new(server.addr, Protocol::Http1);
    app.gate.add_permits(2);
    for query in ["1", "2"] {
        assert_eq!(client.get(&format!("/?{query}")).await.text(), query);
    }
    cache.handle().purge(PurgeTarget::all()).await.unwrap();
    let before = app.arrived.get();
    let queries = ["3", "4", "5"];
    let paths = queries.map(|query| format!("/?{query}"));
    let answers = futures_util::future::join_all(paths.iter().map(|path| client.get(path)));
    let release = async {
        wait_until("all requests have arrived", || app.arrived.get() == before + 3).await;
        app.gate.add_permits(3);
    };
    let (answers, ()) = futures_util::join!(answers, release);
    assert_eq!(answers.each_text(), queries);
}

/// The texts of several answers.
trait EachText {
    fn each_text(&self) -> Vec<&str>;
}

impl EachText for Vec<crate::support::Answer> {
    fn each_text(&self) -> Vec<&str> {
        self.iter().map(crate::support::Answer::text).collect()
    }
}

#[actix_web::test]
async fn every_purge_of_the_path_reaches_the_response() {
    let url = |query: &str| PurgeTarget::url(format!("http://a/p{query}"));
    for target in [
        Some(url("?x=1&utm=1")),
        Some(url("?utm=2&x=1")),
        Some(url("?x=1")),
        Some(PurgeTarget::url("/p?x=1&utm=7").on_any_host()),
        Some(url("?x=1").variant([("accept", "x")])),
        Some(PurgeTarget::prefix("/p").on_host("a")),
        Some(PurgeTarget::tag("page")),
        Some(PurgeTarget::all()),
        // An unsafe request.
        None,
    ] {
        for expires in [false, true] {
            let name = format!("{target:?} {expires}");
            let cache = builder().0.policy(Policy::new().tag("page")).build().unwrap();
            let app = test_app(&cache, requested_response);
            let fields = [NO_UTM[0], ("host", "a")];
            for path in ["/p?x=1&utm=1", "/p?x=1&utm=2", "/p?x=1&utm=3"] {
                app.client.get_with(path, &fields).await;
            }
            assert!(app.client.get_with("/p?x=1&utm=4", &fields).await.is_hit(), "{name}");
            let handle = cache.handle();
            match (target.clone(), expires) {
                (Some(target), false) => drop(handle.purge(target).await.unwrap()),
                (Some(target), true) => drop(handle.expire(target).await.unwrap()),
                (None, _) => {
                    let put = Method::PUT.as_str().parse().unwrap();
                    app.client.send(put, "/p?x=1&utm=9", &[("host", "a")]).await;
                }
            }
            let answer = app.client.get_with("/p?x=1&utm=5", &fields).await;
            assert!(!answer.is_hit(), "{name}: {}", answer.cache_status());
        }
    }
}

/// The purge of one URL counts the responses that it shares with others.
#[actix_web::test]
async fn purge_of_a_url_counts_shared_responses_and_keeps_other_paths() {
    let cache = builder().0.build().unwrap();
    let app = test_app(&cache, requested_response);
    for path in ["/p?utm=1", "/p?utm=2", "/p?x&utm=2", "/q?utm=1", "/q?utm=2"] {
        let fields = [NO_UTM[0], ("host", "a")];
        assert_eq!(app.client.get_with(path, &fields).await.cache_status(), MISS, "{path}");
    }
    let purged = cache.handle().purge_url("http://a/p?utm=3").await.unwrap();
    assert_eq!(purged.responses, Some(2));
    assert!(app.client.get_with("/q?utm=3", &[("host", "a")]).await.is_hit());
}

#[actix_web::test]
async fn response_made_during_a_purge_is_not_stored() {
    let cache = builder().0.build().unwrap();
    let app = GatedApp::new();
    let served = cache.clone();
    let server = app.serve(
        1,
        move || served.clone(),
        async |app, _| {
            let run = app.pass_gate().await;
            let mut response = actix_web::HttpResponse::Ok();
            response.insert_header(("no-vary-search", "params")).body(format!("run {run}"))
        },
    );
    let client = crate::support::Client::new(server.addr, Protocol::Http1);
    let host = &[("host", "a")][..];
    app.gate.add_permits(1);
    client.get_with("/?1", host).await;
    let purge = async {
        wait_until("the handler runs", || app.runs.get() == 2).await;
        cache.handle().purge_url("http://a/?other").await.unwrap();
        app.gate.add_permits(2);
    };
    let (answer, ()) = futures_util::join!(client.get_with("/?2", host), purge);
    assert_eq!(answer.text(), "run 2");
    assert_eq!(client.get_with("/?3", host).await.text(), "run 3");
}
