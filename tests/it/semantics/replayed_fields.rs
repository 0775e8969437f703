//! Fields of a stored response that are about one requester, or about the moment of the response.

use actix_web_cache::Policy;

use crate::support::{builder, recording_app, secs};

const FIELDS: [(&str, &str); 4] = [
    ("answer", "x-ratelimit-remaining: 0"),
    ("answer", "ratelimit: \"default\";r=0;t=30"),
    ("answer", "ratelimit-policy: \"default\";q=10"),
    ("answer", "cache-control: max-age=60"),
];

/// Clients would slow down, because another client has used up its own budget.
#[actix_web::test]
async fn rate_limit_fields_reach_only_the_client_that_caused_them() {
    for (policy, kept) in [(Policy::new(), false), (Policy::rfc9111(), true)] {
        let (app, _) = recording_app(&builder().0.policy(policy).build().unwrap());
        let first = app.client.get_with("/", &FIELDS).await;
        assert!(first.is_stored());
        let hit = app.client.get("/").await;
        assert!(hit.is_hit());
        for name in ["x-ratelimit-remaining", "ratelimit"] {
            assert!(first.field(name).is_some(), "{name}");
            assert_eq!(hit.field(name).is_some(), kept, "{name}");
        }
        assert!(hit.field("ratelimit-policy").is_some(), "the policy holds for all");
    }
}

/// The client whose request the handler answers gets all fields, the others only those that are
/// stored.
#[actix_web::test]
async fn fields_about_one_request_and_fields_that_are_left_out_are_not_replayed() {
    let fields = [
        ("answer", "x-request-id: 17"),
        ("answer", "server-timing: db;dur=53"),
        ("answer", "x-debug-sql: 3"),
        ("answer", "x-powered-by: actix"),
        ("answer", "cache-control: max-age=60"),
    ];
    let policy = |policy: Policy| policy.leave_out(["X-Debug-*", "x-secret"]);
    for (policy, replayed) in [
        (Policy::new(), &["x-debug-sql", "x-powered-by"][..]),
        (policy(Policy::new()), &["x-powered-by"]),
        (policy(Policy::rfc9111()), &["x-request-id", "server-timing", "x-powered-by"]),
    ] {
        let (app, _) = recording_app(&builder().0.policy(policy).build().unwrap());
        let first = app.client.get_with("/", &fields).await;
        let hit = app.client.get("/").await;
        assert!(first.is_stored() && hit.is_hit());
        for name in ["x-request-id", "server-timing", "x-debug-sql", "x-powered-by"] {
            assert!(first.field(name).is_some(), "{name}");
            assert_eq!(hit.field(name).is_some(), replayed.contains(&name), "{name}");
        }
    }
}

#[actix_web::test]
async fn retry_after_of_a_stored_error_counts_down() {
    let (builder, clock) = builder();
    let policy = Policy::new().status_ttl(503, secs(60)).status_ttl(404, secs(60));
    let (app, _) = recording_app(&builder.policy(policy).build().unwrap());
    for (path, status) in [("/a", "503"), ("/b", "404")] {
        let fields = [("answer-status", status), ("answer", "retry-after: 30")];
        let first = app.client.get_with(path, &fields).await;
        assert_eq!(first.field("retry-after").as_deref(), Some("30"));
    }
    for (second, want) in [(25, "5"), (50, "0")] {
        clock.advance(secs(25));
        for path in ["/a", "/b"] {
            let hit = app.client.get(path).await;
            assert!(hit.is_hit(), "{path}");
            assert_eq!(hit.field("retry-after").as_deref(), Some(want), "{path} at {second}");
        }
    }
}
