//! Storing by status code, with and without an explicit freshness lifetime (RFC 9111 section 3).

use actix_web::{App, HttpResponse, http::StatusCode, test, web};
use actix_web_cache::{Policy, Rule};

use super::fields::cache_fields;
use crate::support::{
    Client, Protocol, Reply, builder, cache, requested_response, secs, serve_replies, test_app,
};

#[actix_web::test]
async fn only_four_status_codes_have_a_default_lifetime() {
    for (protocol, workers) in [(Protocol::Http1, 1), (Protocol::Http2, 2)] {
        let (cache, _) = cache();
        let replies: Vec<_> = (200..600).map(|status| Reply::new(status, &[])).collect();
        let (server, _) = serve_replies(workers, &cache, &replies);
        let client = Client::new(server.addr, protocol);
        for status in 200..600 {
            let path = format!("/{}", status - 200);
            let first = client.get(&path).await;
            assert_eq!(first.status.as_u16(), status);
            let stored = [200, 203, 301, 308].contains(&status);
            assert_eq!(first.is_stored(), stored, "{status} by {protocol:?}");
            assert_eq!(client.get(&path).await.is_hit(), stored, "{status} by {protocol:?}");
        }
    }
}

#[actix_web::test]
async fn explicit_lifetime_is_honored_for_shareable_status_codes() {
    let shareable = [200, 203, 204, 300, 301, 302, 307, 308, 404, 405, 410, 414, 501];
    let explicit = [("cache-control", "max-age=60")];
    for (protocol, workers) in [(Protocol::Http1, 1), (Protocol::Http2, 2)] {
        let (cache, _) = cache();
        let replies: Vec<_> = (200..600).map(|status| Reply::new(status, &explicit)).collect();
        let (server, _) = serve_replies(workers, &cache, &replies);
        let client = Client::new(server.addr, protocol);
        for status in 200..600 {
            let path = format!("/{}", status - 200);
            let first = client.get(&path).await;
            let stored = shareable.contains(&status);
            assert_eq!(first.is_stored(), stored, "{status} by {protocol:?}");
            let second = client.get(&path).await;
            assert_eq!(second.is_hit(), stored, "{status} by {protocol:?}");
            assert_eq!(second.status.as_u16(), status);
        }
    }
}

/// This cache does not combine partial responses (RFC 9111 section 3.3).
#[actix_web::test]
async fn partial_content_and_not_modified_are_never_stored_under_any_policy() {
    let overriding = Rule::any().with(|policy| policy.override_ttl(secs(60)));
    let policy = Policy::rfc9111().status_ttl(500, secs(60)).default_ttl(secs(60));
    let cache = builder().0.policy(policy).rule(overriding).build().unwrap();
    let fields = [("cache-control", "public, max-age=60"), ("etag", "\"a\"")];
    let statuses = [200, 206, 304, 401, 429, 500, 503];
    let replies = statuses.map(|status| Reply::new(status, &fields));
    let (server, _) = serve_replies(1, &cache, &replies);
    let client = Client::new(server.addr, Protocol::Http1);
    for (index, status) in statuses.into_iter().enumerate() {
        let path = format!("/{index}");
        let never = status == 206 || status == 304;
        assert_eq!(client.get(&path).await.is_stored(), !never, "{status}");
        let again = client.get(&path).await;
        assert_eq!(again.is_hit(), !never, "{status}");
        assert_eq!(again.status.as_u16(), status);
    }
}

/// This test calls the service directly: a client would take the status for an interim response and
/// wait for the final one.
#[actix_web::test]
async fn interim_responses_are_never_stored() {
    for status in [100, 101, 103, 199] {
        let overriding = Rule::any().with(|policy| policy.override_ttl(secs(60)));
        let cache = builder().0.policy(Policy::rfc9111()).rule(overriding).build().unwrap();
        let code = StatusCode::from_u16(status).unwrap();
        let handler = web::get().to(move || async move {
            HttpResponse::build(code).append_header(("cache-control", "max-age=60")).finish()
        });
        let app = test::init_service(App::new().wrap(cache).route("/", handler)).await;
        for _ in 0..2 {
            let request = test::TestRequest::get().insert_header(("host", "a")).to_request();
            let response = test::call_service(&app, request).await;
            let cache_status = response.headers().get("cache-status").unwrap().to_str().unwrap();
            assert_eq!(cache_status, "actix-web-cache; fwd=uri-miss; detail=status", "{status}");
        }
    }
}

/// Whether a response with a status code is stored: without a lifetime, with an explicit lifetime,
/// and with an explicit lifetime under `Policy::rfc9111`.
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
async fn status_code_is_stored_by_the_default_policy_or_the_rfc9111_policy() {
    let default = test_app(&builder().0.build().unwrap(), requested_response);
    let rfc = test_app(&builder().0.policy(Policy::rfc9111()).build().unwrap(), requested_response);
    let max_age = ("answer", "cache-control: max-age=60");
    for &(status, implicit, explicit, by_rfc) in STATUSES {
        let text = status.to_string();
        let of_status = ("answer-status", text.as_str());
        for (case, site, fields, want) in [
            ("no lifetime", &default, &[of_status][..], implicit),
            ("explicit lifetime", &default, &[of_status, max_age], explicit),
            ("rfc9111, explicit lifetime", &rfc, &[of_status, max_age], by_rfc),
            ("rfc9111, no lifetime", &rfc, &[of_status], false),
        ] {
            let path = format!("/{status}/{}", case.replace([' ', ','], "-"));
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
