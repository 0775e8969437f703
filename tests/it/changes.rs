//! Requests that change something: what they make invalid, and what they leave to be read.

use actix_web::{App, HttpRequest, web};
use actix_web_cache::{Cache, Policy};
use hyper::Method;

use crate::support::{
    Client, Counter, Protocol, SETUPS, Site, Stop, builder, cache, noting, obey, serve,
};

type Fields<'a> = &'a [(&'a str, &'a str)];

const MINUTE: (&str, &str) = ("answer", "cache-control: max-age=60");

fn under(policy: Policy) -> Site {
    let (builder, _) = builder();
    noting(&builder.policy(policy).build().unwrap()).0
}

#[actix_web::test]
async fn the_urls_that_a_change_names_on_its_host_are_forgotten_in_all_variants() {
    let methods = ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "UNHEARD"];
    for policy in [Policy::new(), Policy::rfc9111()] {
        let site = under(policy);
        let port = site.server.addr.port();
        let (here, secure) =
            (format!("http://127.0.0.1:{port}"), format!("https://127.0.0.1:{port}"));
        for (reference, forgotten) in [
            ("/dir/page?x=1", true),
            ("page?x=1", true),
            ("./page?x=1", true),
            ("../dir/sub/../page?x=1", true),
            ("?x=1", false),
            (&format!("{here}/dir/page?x=1#part"), true),
            (&format!("{secure}/dir/page?x=1"), true),
            (&format!("//127.0.0.1:{port}/dir/page?x=1"), true),
            ("/dir/page", false),
            ("/dir/page?x=2", false),
            ("http://127.0.0.1/dir/page?x=1", false),
            (&format!("http://127.0.0.1:{}/dir/page?x=1", port ^ 1), false),
            (&format!("http://example.com:{port}/dir/page?x=1"), false),
            (&format!("ftp://127.0.0.1:{port}/dir/page?x=1"), false),
            ("http://[", false),
        ] {
            for field in ["location", "content-location"] {
                for (method, status) in methods.map(|method| (method, "201")).into_iter().chain([
                    ("PUT", "303"),
                    ("PUT", "404"),
                    ("PUT", "500"),
                ]) {
                    let languages = ["de", "fr"].map(|language| ("accept-language", language));
                    let by = ("answer", "vary: accept-language");
                    for language in languages {
                        site.client.get_with("/dir/page?x=1", &[language, by, MINUTE]).await;
                    }
                    let line = format!("{field}: {reference}");
                    let method: Method = method.parse().unwrap();
                    let asked = [("answer-status", status), ("answer", &*line)];
                    let changed = site.client.send(method.clone(), "/dir/items", &asked).await;
                    let case = format!("{method} {status} {line}");
                    assert_eq!(changed.cache_status(), "fwd=method", "{case}");
                    let gone = forgotten && status < "400";
                    for language in languages {
                        let next = site.client.get_with("/dir/page?x=1", &[language, by]).await;
                        assert_eq!(!next.is_hit(), gone, "{case}");
                    }
                    site.client.send(Method::DELETE, "/dir/page?x=1", &[]).await;
                }
            }
        }
    }
}

#[actix_web::test]
async fn an_answer_to_post_that_represents_its_url_answers_later_gets() {
    let own = ("answer", "content-location: /form?x=1");
    let status = |code| ("answer-status", code);
    for (case, fields, stored) in [
        ("as the RFC has it", &[own, MINUTE][..], true),
        ("201", &[own, MINUTE, status("201")], true),
        ("relative", &[("answer", "content-location: ?x=1"), MINUTE], true),
        ("by Expires", &[own, ("answer", "expires: Wed, 01 Jan 2031 00:00:00 GMT")], true),
        ("no lifetime", &[own], false),
        (
            "a guessed one",
            &[own, ("answer", "last-modified: Sun, 06 Nov 1994 08:49:37 GMT")],
            false,
        ),
        ("no Content-Location", &[MINUTE], false),
        ("another one", &[("answer", "content-location: /form"), MINUTE], false),
        ("another host", &[("answer", "content-location: http://h/form?x=1"), MINUTE], false),
        ("two", &[own, own, MINUTE], false),
        ("Location", &[("answer", "location: /form?x=1"), MINUTE], false),
        ("no-store", &[own, ("answer", "cache-control: max-age=60, no-store")], false),
        ("private", &[own, ("answer", "cache-control: max-age=60, private")], false),
        ("404", &[own, MINUTE, status("404")], false),
        ("500", &[own, MINUTE, status("500")], false),
        ("no-store of the client", &[own, MINUTE, ("cache-control", "no-store")], false),
        ("somebody's", &[own, MINUTE, ("authorization", "Bearer 1")], false),
    ] {
        for (preset, policy) in [("rfc9111", Policy::rfc9111()), ("default", Policy::new())] {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let site = under(policy.clone());
                let client = Client::new(site.server.addr, protocol);
                let answer = client.send_body(Method::POST, "/form?x=1", fields, "x=1&y=2").await;
                let answer = answer.unwrap();
                let stored = stored && preset == "rfc9111";
                let said = if stored { "fwd=method; stored" } else { "fwd=method" };
                let case = format!("{case}, {preset} by {protocol:?}");
                assert_eq!(answer.cache_status(), said, "{case}");
                assert!(answer.text().starts_with("run 1"), "{case}");
                let next = client.get("/form?x=1").await;
                assert_eq!(next.is_hit(), stored, "{case}");
                assert_eq!(next.text() == "run 1", stored, "{case}");
            }
        }
    }
}

#[actix_web::test]
async fn an_answer_to_post_that_sets_a_cookie_is_kept_as_the_policy_says() {
    let fields = [
        ("answer", "content-location: /"),
        MINUTE,
        ("answer", "set-cookie: sid=1"),
        ("content-type", "text/plain"),
        ("answer", "vary: accept-language"),
        ("accept-language", "de"),
    ];
    let site = under(Policy::rfc9111());
    let answer = site.client.send(Method::POST, "/", &fields).await;
    assert_eq!(answer.cache_status(), "fwd=method; stored", "this policy replays cookies");
    let other = site.client.send(Method::POST, "/", &fields[..3]).await;
    assert_eq!(other.cache_status(), "fwd=method; stored", "in place of the one before");
    assert_eq!(site.client.get("/").await.text(), "run 2");
    let by_type = [fields[0], MINUTE, fields[3], ("answer", "vary: content-type")];
    let other = site.client.send(Method::POST, "/", &by_type).await;
    assert_eq!(other.cache_status(), "fwd=method", "a GET has no content of any type");
}

/// Serves an obedient handler that waits where the request says `hold`.
fn serve_held(cache: &Cache, workers: usize, stop: &Stop) -> crate::support::Server {
    let shared = (cache.clone(), stop.clone(), Counter::default());
    serve(workers, move || {
        let (cache, stop, runs) = shared.clone();
        App::new().wrap(cache).default_service(web::to(
            move |request: HttpRequest, _: web::Bytes| {
                let (stop, run) = (stop.clone(), runs.count());
                async move {
                    if request.headers().contains_key("hold") {
                        stop.wait().await;
                    }
                    obey(&request, run)
                }
            },
        ))
    })
}

#[actix_web::test]
async fn an_answer_to_post_that_another_change_overtakes_is_not_stored() {
    for (protocol, workers) in SETUPS {
        let (builder, _) = builder();
        let cache = builder.policy(Policy::rfc9111()).build().unwrap();
        let stop = Stop::new();
        let server = serve_held(&cache, workers, &stop);
        let client = Client::new(server.addr, protocol);
        for (changes, stored) in [(true, false), (false, true)] {
            let posting = client.clone();
            let post = tokio::spawn(async move {
                let fields = [("hold", "1"), ("answer", "content-location: /"), MINUTE];
                posting.send_body(Method::POST, "/", &fields, "x=1").await.unwrap()
            });
            stop.reached().await;
            if changes {
                assert_eq!(client.send(Method::PUT, "/", &[]).await.status, 200);
            }
            stop.release();
            let said = if stored { "fwd=method; stored" } else { "fwd=method" };
            assert_eq!(post.await.unwrap().cache_status(), said, "{protocol:?}");
            let next = client.get("/").await;
            assert_eq!(next.is_hit(), stored, "{protocol:?} after a change: {changes}");
        }
    }
}

#[actix_web::test]
async fn an_answer_to_post_overtakes_the_page_that_was_being_made() {
    let (builder, _) = builder();
    let cache = builder.policy(Policy::rfc9111()).build().unwrap();
    let stop = Stop::new();
    let server = serve_held(&cache, 1, &stop);
    let client = Client::new(server.addr, Protocol::Http1);
    let getting = client.clone();
    let get = tokio::spawn(async move { getting.get_with("/", &[("hold", "1"), MINUTE]).await });
    stop.reached().await;
    let fields = [("answer", "content-location: /"), MINUTE];
    assert!(client.send(Method::POST, "/", &fields).await.is_stored());
    stop.release();
    assert_eq!(get.await.unwrap().cache_status(), "fwd=uri-miss; detail=overtaken");
    let next = client.get("/").await;
    assert_eq!((next.text(), next.is_hit()), ("run 2", true), "what was posted");
}

/// Whether a page varying by `name` that was made for one value answers another.
async fn shares(policy: &Policy, name: &str, one: &str, other: &str) -> bool {
    let site = under(policy.clone());
    let vary = format!("vary: {name}");
    let fields = [("answer", &*vary), MINUTE];
    let miss = site.client.get_with("/", &[&fields[..], &[(name, one)]].concat()).await;
    assert!(miss.is_stored());
    let next = site.client.get_with("/", &[&fields[..], &[(name, other)]].concat()).await;
    if !next.is_hit() {
        assert_eq!(next.cache_status(), "fwd=vary-miss; stored");
    }
    next.is_hit()
}

#[actix_web::test]
async fn values_are_compared_as_sent_or_by_what_they_mean_to_the_application() {
    let (language, coding) = ("accept-language", "accept-encoding");
    let best = Policy::new().vary_languages(["en", "de", "pt-BR"]);
    let codings = Policy::new().vary_codings(["br", "gzip"]);
    for (policy, name, one, other, same) in [
        (Policy::new(), language, "de, en", "de,en", true),
        (Policy::new(), language, "de", "DE", false),
        (Policy::new(), language, "de", "de;q=1.0", false),
        (Policy::new(), coding, "gzip, br", "br, gzip", false),
        (Policy::new().fold_language_case(), language, "de-AT", "DE-at", true),
        (Policy::new().fold_language_case(), language, "de", "en", false),
        (Policy::new().fold_language_case(), "accept", "A/B", "a/b", false),
        (best.clone(), language, "de-AT, fr;q=0.9", "de;q=0.5", true),
        (best.clone(), language, "fr, *;q=0.1", "en", true),
        (best.clone(), language, "fr", "es", true),
        (best.clone(), language, "de;q=0.5, en;q=0.6", "de;q=0.6, en;q=0.5", false),
        (best.clone(), language, "de;q=0, en", "de, en;q=0.5", false),
        (best.clone(), language, "pt", "pt-br", false),
        (best, coding, "gzip", "gzip, br", false),
        (codings.clone(), coding, "gzip, deflate, br", "br;q=1.0, gzip;q=0.2", true),
        (codings.clone(), coding, "gzip, zstd", "x-gzip", true),
        (codings.clone(), coding, "deflate", "zstd", true),
        (codings.clone(), coding, "gzip", "gzip;q=0", false),
        (codings.clone(), coding, "gzip", "gzip, br", false),
        (codings.clone(), coding, "gzip", "gzip, identity;q=0", false),
        (codings, language, "de", "DE", false),
    ] {
        assert_eq!(shares(&policy, name, one, other).await, same, "{name}: {one} and {other}");
    }
}

#[actix_web::test]
async fn variants_are_bounded_and_the_newest_stay() {
    let (cache, _) = cache();
    let (site, _) = noting(&cache);
    let by = ("answer", "vary: accept");
    let values: Vec<String> = (0..100).map(|n| format!("x/{n}")).collect();
    for value in &values {
        assert!(site.client.get_with("/", &[by, MINUTE, ("accept", value)]).await.is_stored());
    }
    for (n, value) in values.iter().enumerate().rev().take(64) {
        let hit = site.client.get_with("/", &[by, ("accept", value)]).await;
        assert_eq!((hit.is_hit(), hit.text()), (true, &*format!("run {}", n + 1)), "{value}");
    }
    let first: Fields<'_> = &[by, MINUTE, ("accept", "x/0")];
    assert_eq!(site.client.get_with("/", first).await.cache_status(), "fwd=vary-miss; stored");
}

#[actix_web::test]
async fn a_page_takes_the_place_of_the_one_selected_alike_and_of_no_other() {
    let (cache, _) = cache();
    let (site, _) = noting(&cache);
    let (de, en) = (("accept-language", "de"), ("accept-language", "en"));
    let by_language = ("answer", "vary: accept-language");
    // A handler that forgets its Vary on one way: what was selected by the field before still is.
    assert!(site.client.get_with("/", &[by_language, MINUTE, de]).await.is_stored());
    assert!(site.client.get_with("/", &[MINUTE, en]).await.is_stored());
    for (language, want) in [(de, "run 1"), (en, "run 2")] {
        assert_eq!(site.client.get_with("/", &[language]).await.text(), want);
    }
    // The same selection once more: the newer takes the place of the older.
    let again = [by_language, MINUTE, de, ("cache-control", "no-cache")];
    let (builder, _) = builder();
    let policy = Policy::new().honor_request_directives();
    let (site, _) = noting(&builder.policy(policy).build().unwrap());
    site.client.get_with("/", &again[..3]).await;
    assert_eq!(site.client.get_with("/", &again).await.text(), "run 2");
    assert_eq!(site.client.get_with("/", &[de]).await.text(), "run 2");
}
