//! What clients say of how they want to be answered (RFC 9111 section 5.2.1).

use actix_web_cache::Policy;

use crate::support::{builder, noting, secs};

const TAG: (&str, &str) = ("answer", "etag: \"a\"");
const VALIDATED: &str = "fwd-status=304; stored";

#[actix_web::test]
async fn directives_of_requests_count_where_they_are_honoured_and_nowhere_else() {
    for (page, second, directive, honoured, ignored) in [
        ("max-age=60", 50, "max-age=50", "hit; ttl=10", "hit; ttl=10"),
        ("max-age=60", 50, "max-age=49", "fwd=request", "hit; ttl=10"),
        ("max-age=60", 0, "max-age=0", "hit; ttl=60", "hit; ttl=60"),
        ("max-age=60", 1, "max-age=0", "fwd=request", "hit; ttl=59"),
        ("max-age=60", 50, "min-fresh=10", "hit; ttl=10", "hit; ttl=10"),
        ("max-age=60", 50, "min-fresh=11", "fwd=request", "hit; ttl=10"),
        ("max-age=60", 0, "no-cache", "fwd=request", "hit; ttl=60"),
        ("max-age=60", 0, "no-store", "hit; ttl=60", "hit; ttl=60"),
        ("max-age=60", 0, "only-if-cached", "hit; ttl=60", "hit; ttl=60"),
        ("max-age=60", 70, "max-stale", "hit; ttl=-10", "fwd=stale"),
        ("max-age=60", 70, "max-stale=10", "hit; ttl=-10", "fwd=stale"),
        ("max-age=60", 70, "max-stale=9", "fwd=stale", "fwd=stale"),
        ("max-age=60", 70, "max-stale, max-age=60", "fwd=request", "fwd=stale"),
        ("max-age=60", 70, "max-stale, min-fresh=1", "fwd=stale", "fwd=stale"),
        ("max-age=60, must-revalidate", 70, "max-stale", "fwd=stale", "fwd=stale"),
        ("max-age=60, proxy-revalidate", 70, "max-stale", "fwd=stale", "fwd=stale"),
        ("s-maxage=60", 70, "max-stale", "fwd=stale", "fwd=stale"),
        ("max-age=60, no-cache", 1, "max-stale", "fwd=stale", "fwd=stale"),
    ] {
        for (policy, want) in
            [(Policy::new().honor_request_directives(), honoured), (Policy::new(), ignored)]
        {
            let (builder, clock) = builder();
            let (site, notes) = noting(&builder.policy(policy).build().unwrap());
            let told = format!("cache-control: {page}");
            assert!(site.client.get_with("/", &[TAG, ("answer", &told)]).await.is_stored());
            clock.advance(secs(second));
            notes.take();
            let asked = [("cache-control", directive), ("answer-status", "304"), TAG];
            let answer = site.client.get_with("/", &asked).await;
            let case = format!("{directive} of {page} at {second}");
            assert_eq!((answer.status.as_u16(), answer.text()), (200, "run 1"), "{case}");
            if want.starts_with("fwd") {
                assert_eq!(answer.cache_status(), format!("{want}; {VALIDATED}"), "{case}");
                assert_eq!(notes.take(), ["if-none-match: \"a\""], "{case}");
            } else {
                assert_eq!(answer.cache_status(), want, "{case}");
                assert_eq!(answer.field("age"), Some(second.to_string()), "{case}");
                assert_eq!(notes.take(), [""; 0], "{case}");
            }
        }
    }
}

#[actix_web::test]
async fn only_if_cached_never_reaches_the_handler() {
    for (policy, honoured) in [
        (Policy::new().honor_request_directives(), true),
        (Policy::rfc9111(), true),
        (Policy::new(), false),
    ] {
        let (builder, clock) = builder();
        let (site, _) = noting(&builder.policy(policy).build().unwrap());
        let only = ("cache-control", "only-if-cached");
        let page = [TAG, ("answer", "cache-control: max-age=60, must-revalidate")];
        assert!(site.client.get_with("/stale", &page).await.is_stored());
        clock.advance(secs(60));
        let vary = [page[1], ("answer", "vary: accept"), ("accept", "a/b")];
        assert!(site.client.get_with("/vary", &vary).await.is_stored());
        let runs = site.runs.get();
        for path in ["/cold", "/stale", "/vary"] {
            let answer = site.client.get_with(path, &[only, ("if-none-match", "\"a\"")]).await;
            assert_eq!(answer.status == 504, honoured, "{path}");
            if honoured {
                let said = answer.field("cache-status").unwrap();
                assert_eq!(said, "actix-web-cache; detail=only-if-cached", "{path}");
                assert_eq!(answer.field("content-length").as_deref(), Some("0"), "{path}");
            }
        }
        assert_eq!(site.runs.get() == runs, honoured);
    }
}

#[actix_web::test]
async fn nothing_of_an_exchange_that_the_client_wants_forgotten_is_stored() {
    for policy in [Policy::new(), Policy::rfc9111()] {
        let (builder, clock) = builder();
        let (site, _) = noting(&builder.policy(policy).build().unwrap());
        let (forget, page) =
            (("cache-control", "no-store"), ("answer", "cache-control: max-age=60"));
        for _ in 0..2 {
            let answer = site.client.get_with("/", &[forget, page, TAG]).await;
            assert_eq!(answer.cache_status(), "fwd=uri-miss; detail=request-no-store");
        }
        assert!(site.client.get_with("/", &[page, TAG]).await.is_stored());
        assert!(
            site.client.get_with("/", &[forget]).await.is_hit(),
            "what others stored is no secret"
        );
        clock.advance(secs(60));
        let answer =
            site.client.get_with("/", &[forget, page, TAG, ("answer-status", "304")]).await;
        assert_eq!(answer.text(), "run 3");
        assert_eq!(answer.cache_status(), "fwd=stale; fwd-status=304; detail=request-no-store");
        assert!(!site.client.get_with("/", &[page]).await.is_hit(), "it freshened nothing");
    }
}

#[actix_web::test]
async fn pragma_counts_for_nothing() {
    let (builder, _) = builder();
    let (site, _) = noting(&builder.policy(Policy::rfc9111()).build().unwrap());
    let page = ("answer", "cache-control: max-age=60");
    assert!(site.client.get_with("/", &[page, ("pragma", "no-cache")]).await.is_stored());
    assert!(site.client.get_with("/", &[("pragma", "no-cache")]).await.is_hit());
}
