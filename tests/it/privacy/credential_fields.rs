//! Fields by which proxies and APIs identify the client, and credentials that are in no field.

use actix_web::{App, HttpMessage as _, HttpRequest, HttpResponse, dev::Service as _, web};
use actix_web_cache::Policy;
use hyper::Method;

use crate::support::{Client, SETUPS, builder, cache, serve, test_app};

const FIELDS: [&str; 30] = [
    "Api-Key",
    "Cf-Access-Authenticated-User-Email",
    "Cf-Access-Jwt-Assertion",
    "Client-Cert",
    "DPoP",
    "Private-Token",
    "Proxy-Authorization",
    "Remote-User",
    "SSL-Client-Cert",
    "Tailscale-User-Login",
    "X-Access-Token",
    "X-Amz-Security-Token",
    "X-Amzn-Oidc-Data",
    "X-Api-Key",
    "X-Auth-Request-User",
    "X-Auth-Token",
    "X-Authenticated-User",
    "X-Authentik-Username",
    "X-Client-Cert",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Email",
    "X-Forwarded-User",
    "X-Goog-Authenticated-User-Id",
    "X-Goog-Iap-Jwt-Assertion",
    "X-MS-Client-Principal-Id",
    "X-Pomerium-Jwt-Assertion",
    "X-Remote-User",
    "X-Session-Token",
    "X-User-Id",
    "X-WebAuth-User",
];

/// A page for the person whom a field of the request names.
fn greeting(request: &HttpRequest, _: usize) -> HttpResponse {
    let people = FIELDS.iter().filter_map(|name| request.headers().get(*name)?.to_str().ok());
    HttpResponse::Ok().body(people.collect::<Vec<_>>().join(" "))
}

#[actix_web::test]
async fn page_for_one_person_reaches_nobody_else() {
    let (cache, _) = cache();
    let app = test_app(&cache, greeting);
    for name in FIELDS {
        let path = format!("/{name}");
        for (person, method) in [("alice", Method::GET), ("bob", Method::GET)] {
            let answer = app.client.send(method, &path, &[(name, person)]).await;
            assert_eq!(answer.text(), person, "{name}");
            assert!(answer.cache_status().ends_with("detail=credentials"), "{name}");
        }
        let anonymous = app.client.get(&path).await;
        assert_eq!((anonymous.text(), anonymous.is_hit()), ("", false), "{name}");
        // The page for everybody answers nobody whom a field names.
        let alice = app.client.get_with(&path, &[(name, "alice")]).await;
        assert_eq!(alice.text(), "alice", "{name}");
    }
}

#[actix_web::test]
async fn ignored_field_does_not_make_a_request_personal() {
    let policy = Policy::new().ignore_credentials(["x-user-id", "X-WEBAUTH-USER"]);
    let cache = builder().0.policy(policy).build().unwrap();
    let app = test_app(&cache, |_, run| HttpResponse::Ok().body(format!("run {run}")));
    for (fields, is_hit) in [
        (&[("x-user-id", "alice")][..], false),
        (&[("x-user-id", "bob")], true),
        (&[("x-webauth-user", "bob")], true),
        (&[("x-user-id", "bob"), ("x-user", "bob")], false),
    ] {
        assert_eq!(app.client.get_with("/", fields).await.is_hit(), is_hit, "{fields:?}");
    }
}

/// The person whom something else than a request field identifies, such as the certificate of the
/// connection.
struct Person(String);

#[actix_web::test]
async fn function_finds_credentials_that_are_in_no_field() {
    for (protocol, workers) in SETUPS {
        let policy = Policy::new()
            .credentials_when(|request| request.extensions().contains::<Person>())
            .credentials_when(|request| request.path() == "/personal");
        let cache = builder().0.policy(policy).build().unwrap();
        let server = serve(workers, move || {
            let page = async |request: HttpRequest| {
                request.extensions().get::<Person>().map_or_else(String::new, |one| one.0.clone())
            };
            App::new().default_service(web::to(page)).wrap(cache.clone()).wrap_fn(
                |request, inner| {
                    if let Some(person) = request.headers().get("test-person") {
                        let person = Person(person.to_str().unwrap().to_owned());
                        request.extensions_mut().insert(person);
                    }
                    inner.call(request)
                },
            )
        });
        let client = Client::new(server.addr, protocol);
        for person in ["alice", "bob", "alice"] {
            let answer = client.get_with("/", &[("test-person", person)]).await;
            assert_eq!((answer.text(), answer.is_hit()), (person, false), "{protocol:?}");
        }
        assert_eq!(client.get("/").await.text(), "");
        assert!(client.get("/").await.is_hit());
        assert_eq!(client.get_with("/", &[("test-person", "bob")]).await.text(), "bob");
        assert!(!client.get("/personal").await.is_stored());
    }
}
