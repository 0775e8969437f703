//! Property test: for any two requesters, any response and several policies, a requester never gets
//! the other's response unless the response or the policy allows it.

use std::cell::Cell;

use actix_web::{
    App, HttpRequest, HttpResponse,
    body::to_bytes,
    dev::{Service, ServiceResponse},
    rt::System,
    test::{self, TestRequest},
    web,
};
use actix_web_cache::{CacheBody, CacheOptions, Policy, Rule};
use proptest::{
    prelude::*,
    sample::{select, subsequence},
    test_runner::{Config, TestRunner},
};

use crate::support::{builder, identity_fields, secs};

/// Request fields that a requester may send. The name of the requester ends each value.
const FIELDS: [(&str, &str); 6] = [
    ("authorization", "Bearer "),
    ("cookie", "sid="),
    ("cookie", "_ga="),
    ("x-api-key", "key-"),
    ("x-session", "session-"),
    ("cookie", "theme="),
];

/// Response fields that the handler may send. The final entry stands for a lifetime that the
/// handler sets.
const RESPONSE_FIELDS: [(&str, &str); 14] = [
    ("cache-control", "max-age=60"),
    ("cache-control", "public"),
    ("cache-control", "s-maxage=60"),
    ("cache-control", "must-revalidate"),
    ("cache-control", "private"),
    ("cache-control", "no-store"),
    ("cache-control", "s-maxage=0"),
    ("cache-control", "max-age=60; private"),
    ("pragma", "no-cache"),
    ("vary", "cookie"),
    ("vary", "authorization"),
    ("vary", "accept, *"),
    ("set-cookie", "sid=new"),
    ("x-lifetime", "set by the handler"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setting {
    Default,
    Overriding,
    IgnoringAnalytics,
    KeyedByTheme,
    KeyedByAuthorization,
    MoreCredentials,
}

impl Setting {
    fn policy(self) -> Policy {
        match self {
            Self::Default | Self::Overriding => Policy::new(),
            Self::IgnoringAnalytics => Policy::new().ignore_cookies(["_ga"]),
            Self::KeyedByTheme => Policy::new().vary_cookie("theme"),
            Self::KeyedByAuthorization => Policy::new().key_header("authorization"),
            Self::MoreCredentials => Policy::new().credentials(["x-session"]),
        }
    }
}

/// A requester sends some of the `FIELDS`, with its name at the end of each value.
#[derive(Debug, Clone)]
struct Requester {
    sent: Vec<usize>,
    name: &'static str,
}

impl Requester {
    fn fields(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.sent.iter().map(|&n| (FIELDS[n].0, format!("{}{}", FIELDS[n].1, self.name)))
    }

    fn sends(&self, n: usize) -> bool {
        self.sent.contains(&n)
    }

    /// Returns whether the requester sends a cookie that the setting neither ignores nor keys by.
    fn has_cookies(&self, setting: Setting) -> bool {
        self.sends(1)
            || (self.sends(2) && setting != Setting::IgnoringAnalytics)
            || (self.sends(5) && setting != Setting::KeyedByTheme)
    }

    fn is_authorized(&self, setting: Setting) -> bool {
        self.sends(0) && setting != Setting::KeyedByAuthorization
    }

    fn has_credentials(&self, setting: Setting) -> bool {
        self.sends(3) || (self.sends(4) && setting == Setting::MoreCredentials)
    }
}

/// Returns whether `other` may get the response that was made for `owner`: a second, plain
/// statement of the rules.
fn may_share(owner: &Requester, other: &Requester, sent: &[usize], setting: Setting) -> bool {
    let has = |n: usize| sent.contains(&n);
    let unstorable = [4, 5, 7, 11, 12].into_iter().any(has);
    let marked_shared = has(1) || has(2);
    let explicit = (has(0) || has(2)) && setting != Setting::Overriding && !has(13);
    let no_lifetime_directive = !has(0) && !has(2) && !has(6);
    // `Pragma: no-cache` applies only to the default lifetime.
    let unstorable = unstorable
        || (has(8) && no_lifetime_directive && setting != Setting::Overriding && !has(13));
    let by_cookie = has(9);
    let stored = (!owner.is_authorized(setting) || marked_shared || has(3))
        && (!owner.has_cookies(setting) || marked_shared || by_cookie)
        && (!owner.has_credentials(setting) || marked_shared || explicit);
    let cookies = |requester: &Requester| {
        let counts =
            |n: &usize| *n == 1 || *n == 5 || (*n == 2 && setting != Setting::IgnoringAnalytics);
        let sent = requester.sent.iter().copied().filter(counts).collect::<Vec<_>>();
        (!sent.is_empty()).then_some((sent, requester.name))
    };
    let same_cookies = !by_cookie || cookies(owner) == cookies(other);
    let token = |requester: &Requester| requester.sends(0).then_some(requester.name);
    let keyed_by_token = has(10) || setting == Setting::KeyedByAuthorization;
    let same_token = !keyed_by_token || token(owner) == token(other);
    let theme = |requester: &Requester| requester.sends(5).then_some(requester.name);
    let same_theme = setting != Setting::KeyedByTheme || theme(owner) == theme(other);
    let answered = explicit
        || marked_shared
        || !(other.is_authorized(setting)
            || (other.has_cookies(setting) && !by_cookie)
            || other.has_credentials(setting));
    !unstorable && stored && same_cookies && same_token && same_theme && answered
}

/// Returns the body that the requester gets.
async fn get<S>(app: &S, path: &str, requester: &Requester) -> String
where
    S: Service<
            actix_http::Request,
            Response = ServiceResponse<CacheBody<actix_web::body::BoxBody>>,
            Error = actix_web::Error,
        >,
{
    let request = TestRequest::with_uri(path).insert_header(("host", "a"));
    let request = requester.fields().fold(request, |request, field| request.append_header(field));
    let response = test::call_service(app, request.to_request()).await;
    let body = to_bytes(response.into_body()).await.unwrap_or_default();
    String::from_utf8(body.to_vec()).unwrap()
}

fn requester(name: &'static str) -> impl Strategy<Value = Requester> {
    subsequence((0..FIELDS.len()).collect::<Vec<_>>(), 0..=2)
        .prop_map(move |sent| Requester { sent, name })
}

#[test]
fn requesters_share_responses_only_when_allowed() {
    let settings = vec![
        Setting::Default,
        Setting::Overriding,
        Setting::IgnoringAnalytics,
        Setting::KeyedByTheme,
        Setting::KeyedByAuthorization,
        Setting::MoreCredentials,
    ];
    let response_fields = subsequence((0..RESPONSE_FIELDS.len()).collect::<Vec<_>>(), 0..=3);
    let cases = (select(settings), requester("alice"), requester("bob"), response_fields);
    let (shared, refused) = (Cell::new(0), Cell::new(0));
    let system = System::new();
    let mut runner = TestRunner::new(Config { cases: 3000, ..Config::default() });
    let result = runner.run(&cases, |(setting, alice, bob, sent)| {
        let (first, second) = system.block_on(async {
            let mut cache = builder().0.policy(setting.policy());
            if setting == Setting::Overriding {
                cache = cache.rule(Rule::any().override_ttl(secs(60)));
            }
            let fields = sent.clone();
            let page = move |request: HttpRequest, cache: CacheOptions| {
                let mut response = HttpResponse::Ok();
                for &n in &fields {
                    response.append_header(RESPONSE_FIELDS[n]);
                }
                if fields.contains(&13) {
                    cache.ttl(secs(60));
                }
                async move { response.body(identity_fields(&request)) }
            };
            let cache = cache.build().unwrap();
            let app = App::new().wrap(cache).route("/", web::get().to(page));
            let app = test::init_service(app).await;
            (get(&app, "/", &alice).await, get(&app, "/", &bob).await)
        });
        prop_assert!(first.contains("alice") || alice.sent.is_empty());
        let is_shared = second == first && !(alice.sent.is_empty() && bob.sent.is_empty());
        let allowed = may_share(&alice, &bob, &sent, setting);
        let sent: Vec<_> = sent.iter().map(|&n| RESPONSE_FIELDS[n]).collect();
        prop_assert!(
            !is_shared || allowed,
            "{setting:?}: {bob:?} got the response of {alice:?}: {sent:?}"
        );
        prop_assert!(is_shared || second.contains("bob") || bob.sent.is_empty());
        let count = if is_shared { &shared } else { &refused };
        count.set(count.get() + 1);
        Ok(())
    });
    result.unwrap();
    // The generated cases must reach both outcomes.
    assert!(shared.get() > 100 && refused.get() > 100, "{shared:?} {refused:?}");
}
