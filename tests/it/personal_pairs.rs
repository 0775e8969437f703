//! Any two requesters, any response, several policies: nobody sees another's page unless somebody
//! who may said so.

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

use crate::support::{builder, secs, who};

/// What one of them sends, beside the URL.
const FIELDS: [(&str, &str); 6] = [
    ("authorization", "Bearer "),
    ("cookie", "sid="),
    ("cookie", "_ga="),
    ("x-api-key", "key-"),
    ("x-session", "session-"),
    ("cookie", "theme="),
];

/// What the response says.
const SAYINGS: [(&str, &str); 14] = [
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
    ("x-lifetime", "by the handler"),
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

/// A requester: which of `FIELDS` are sent, and with what at their ends.
#[derive(Debug, Clone)]
struct Person {
    sent: Vec<usize>,
    name: &'static str,
}

impl Person {
    fn fields(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.sent.iter().map(|&n| (FIELDS[n].0, format!("{}{}", FIELDS[n].1, self.name)))
    }

    fn sends(&self, n: usize) -> bool {
        self.sent.contains(&n)
    }

    /// A cookie that the setting neither ignores nor has in the key.
    fn has_cookies(&self, setting: Setting) -> bool {
        self.sends(1)
            || (self.sends(2) && setting != Setting::IgnoringAnalytics)
            || (self.sends(5) && setting != Setting::KeyedByTheme)
    }

    fn is_authorised(&self, setting: Setting) -> bool {
        self.sends(0) && setting != Setting::KeyedByAuthorization
    }

    fn has_credentials(&self, setting: Setting) -> bool {
        self.sends(3) || (self.sends(4) && setting == Setting::MoreCredentials)
    }
}

/// Whether `other` may see what was made for `owner`, said as plainly as possible.
fn may_see(owner: &Person, other: &Person, said: &[usize], setting: Setting) -> bool {
    let says = |n: usize| said.contains(&n);
    let never = [4, 5, 7, 11, 12].into_iter().any(says);
    let everybody = says(1) || says(2);
    let stated = (says(0) || says(2)) && setting != Setting::Overriding && !says(13);
    let nobody_stated = !says(0) && !says(2) && !says(6);
    // Pragma outweighs a lifetime that is only the default.
    let never = never || (says(8) && nobody_stated && setting != Setting::Overriding && !says(13));
    let by_cookie = says(9);
    let stored = (!owner.is_authorised(setting) || everybody || says(3))
        && (!owner.has_cookies(setting) || everybody || by_cookie)
        && (!owner.has_credentials(setting) || everybody || says(3) || stated);
    let cookies = |person: &Person| {
        let counts =
            |n: &usize| *n == 1 || *n == 5 || (*n == 2 && setting != Setting::IgnoringAnalytics);
        let sent = person.sent.iter().copied().filter(counts).collect::<Vec<_>>();
        (!sent.is_empty()).then_some((sent, person.name))
    };
    let same_cookies = !by_cookie || cookies(owner) == cookies(other);
    let token = |person: &Person| person.sends(0).then_some(person.name);
    let keyed_by_token = says(10) || setting == Setting::KeyedByAuthorization;
    let same_token = !keyed_by_token || token(owner) == token(other);
    let theme = |person: &Person| person.sends(5).then_some(person.name);
    let same_theme = setting != Setting::KeyedByTheme || theme(owner) == theme(other);
    let answered = stated
        || !(other.is_authorised(setting)
            || (other.has_cookies(setting) && !by_cookie)
            || other.has_credentials(setting));
    !never && stored && same_cookies && same_token && same_theme && answered
}

/// What somebody sees of a page.
async fn visit<S>(app: &S, path: &str, person: &Person) -> String
where
    S: Service<
            actix_http::Request,
            Response = ServiceResponse<CacheBody<actix_web::body::BoxBody>>,
            Error = actix_web::Error,
        >,
{
    let request = TestRequest::with_uri(path).insert_header(("host", "a"));
    let request = person.fields().fold(request, |request, field| request.append_header(field));
    let response = test::call_service(app, request.to_request()).await;
    let body = to_bytes(response.into_body()).await.unwrap_or_default();
    String::from_utf8(body.to_vec()).unwrap()
}

fn person(name: &'static str) -> impl Strategy<Value = Person> {
    subsequence((0..FIELDS.len()).collect::<Vec<_>>(), 0..=2)
        .prop_map(move |sent| Person { sent, name })
}

#[test]
fn two_requesters_see_each_others_pages_only_if_somebody_who_may_says_so() {
    let settings = vec![
        Setting::Default,
        Setting::Overriding,
        Setting::IgnoringAnalytics,
        Setting::KeyedByTheme,
        Setting::KeyedByAuthorization,
        Setting::MoreCredentials,
    ];
    let said = subsequence((0..SAYINGS.len()).collect::<Vec<_>>(), 0..=3);
    let cases = (select(settings), person("alice"), person("bob"), said);
    let (shared, refused) = (Cell::new(0), Cell::new(0));
    let system = System::new();
    let mut runner = TestRunner::new(Config { cases: 3000, ..Config::default() });
    let result = runner.run(&cases, |(setting, alice, bob, said)| {
        let (one, two) = system.block_on(async {
            let mut cache = builder().0.policy(setting.policy());
            if setting == Setting::Overriding {
                cache = cache.rule(Rule::any().override_ttl(secs(60)));
            }
            let sayings = said.clone();
            let page = move |request: HttpRequest, cache: CacheOptions| {
                let mut response = HttpResponse::Ok();
                for &n in &sayings {
                    response.append_header(SAYINGS[n]);
                }
                if sayings.contains(&13) {
                    cache.ttl(secs(60));
                }
                async move { response.body(who(&request)) }
            };
            let cache = cache.build().unwrap();
            let app = App::new().wrap(cache).route("/", web::get().to(page));
            let app = test::init_service(app).await;
            (visit(&app, "/", &alice).await, visit(&app, "/", &bob).await)
        });
        prop_assert!(one.contains("alice") || alice.sent.is_empty());
        let leaked = two == one && !(alice.sent.is_empty() && bob.sent.is_empty());
        let allowed = may_see(&alice, &bob, &said, setting);
        let said: Vec<_> = said.iter().map(|&n| SAYINGS[n]).collect();
        prop_assert!(!leaked || allowed, "{setting:?}: {bob:?} saw what {alice:?} got: {said:?}");
        prop_assert!(leaked || two.contains("bob") || bob.sent.is_empty());
        let count = if leaked { &shared } else { &refused };
        count.set(count.get() + 1);
        Ok(())
    });
    result.unwrap();
    // Otherwise nothing was tried.
    assert!(shared.get() > 100 && refused.get() > 100, "{shared:?} {refused:?}");
}
