//! Options to which routes refer by a name, and which the innermost cache around a route has.

use actix_web::{App, get, web};
use actix_web_cache::{
    CachePolicy, ConfigError, Outcome, ResponseOptions,
    outcome::{NotStored, Stored},
};
use log::Level;

use crate::support::{CapturedLog, Client, Protocol, SharedLines, builder, secs, serve};

#[get("/news", wrap = "CachePolicy::named(\"minutes\").tag(\"news\")")]
async fn news() -> &'static str {
    "page"
}

#[get("/live", wrap = "CachePolicy::named(\"never\")")]
async fn live() -> &'static str {
    "page"
}

#[get("/typo", wrap = "CachePolicy::named(\"minuets\")")]
async fn typo() -> &'static str {
    "page"
}

fn ttl(seconds: u64) -> ResponseOptions {
    ResponseOptions::new().ttl(secs(seconds))
}

#[actix_web::test]
async fn route_finds_named_options_of_the_innermost_cache_around_it() {
    let cache = builder()
        .0
        .options("minutes", ttl(300).tag("short"))
        .options("never", ResponseOptions::new().no_store("it is live"))
        .build()
        .unwrap();
    let other = builder().0.options("minutes", ttl(120)).build().unwrap();
    let handle = cache.handle();
    let server = serve(1, move || {
        let inherited = cache.with(|policy| policy.client_ttl(secs(7)));
        App::new()
            .service(web::scope("/inherited").wrap(inherited).service((news, live)))
            .service(web::scope("/other").wrap(other.clone()).service((news, live)))
            .service((news, live))
            .wrap(cache.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for (path, want) in [
        ("/news", "hit; ttl=300"),
        ("/live", "fwd=uri-miss; detail=handler"),
        ("/inherited/news", "hit; ttl=300"),
        ("/inherited/live", "fwd=uri-miss; detail=handler"),
        ("/other/news", "hit; ttl=120"),
        ("/other/live", "fwd=uri-miss; detail=unknown-options"),
    ] {
        client.get(path).await;
        assert_eq!(client.get(path).await.cache_status(), want, "{path}");
    }
    for tag in ["short", "news"] {
        assert!(client.get("/news").await.is_hit(), "{tag}");
        handle.purge_tag(tag).await.unwrap();
        assert!(!client.get("/news").await.is_hit(), "{tag}");
    }
}

#[actix_web::test]
async fn unknown_name_is_logged_once_and_its_responses_are_not_stored() {
    let (lines, reasons) = (CapturedLog::default(), SharedLines::default());
    let (here, observed) = (lines.clone(), reasons.clone());
    let cache = builder()
        .0
        .options("minutes", ttl(300))
        .observer(move |_, outcome| {
            if let Outcome::Forward {
                stored: Stored::No(NotStored::UnknownOptions(name)), ..
            } = outcome
            {
                observed.add((*name).to_owned());
            }
        })
        .build()
        .unwrap();
    let server = serve(1, move || {
        here.capture();
        App::new().service(typo).wrap(cache.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for _ in 0..2 {
        let answer = client.get("/typo").await;
        assert_eq!(answer.cache_status(), "fwd=uri-miss; detail=unknown-options");
        assert_eq!(answer.text(), "page");
    }
    assert_eq!(reasons.take(), ["minuets", "minuets"]);
    let errors = lines.take(Level::Error);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("\"minuets\"") && errors[0].contains("(\"minutes\")"), "{errors:?}");
}

#[test]
fn invalid_options_are_refused_at_start_up() {
    let twice = builder().0.options("a", ttl(1)).options("a", ttl(2));
    assert_eq!(twice.build().unwrap_err(), ConfigError::RepeatedOptions("a".to_owned()));
    let unnamed = builder().0.options("", ttl(1));
    assert_eq!(unnamed.build().unwrap_err(), ConfigError::EmptyOptionsName);
}
