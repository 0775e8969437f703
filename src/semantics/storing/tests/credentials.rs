//! Responses to requests with credentials.

use super::*;

#[test]
fn response_to_request_with_credentials_is_stored_only_if_it_may_be_shared() {
    use NotStored::{Authorization, Cookie, Credentials};
    for (requester, cache_control, fallback, want) in [
        (AUTHORIZED, "max-age=5", None, Some(Authorization)),
        (AUTHORIZED, "", Some(60), Some(Authorization)),
        (AUTHORIZED, "public, max-age=5", None, None),
        (AUTHORIZED, "s-maxage=5", None, None),
        (AUTHORIZED, "must-revalidate, max-age=5", None, None),
        (AUTHORIZED, "must-revalidate", Some(60), Some(Authorization)),
        (AUTHORIZED, "public", Some(60), None),
        (COOKIES, "max-age=5", None, Some(Cookie)),
        (COOKIES, "must-revalidate, max-age=5", None, Some(Cookie)),
        (COOKIES, "", Some(60), Some(Cookie)),
        (COOKIES, "public, max-age=5", None, None),
        (COOKIES, "s-maxage=5", None, None),
        (CREDENTIALS, "max-age=5", None, None),
        (CREDENTIALS, "", Some(60), Some(Credentials)),
        (CREDENTIALS, "public", Some(60), None),
    ] {
        let fields = response(cache_control);
        let got = outcome(decide(&exchange(200, &fields, requester), &terms(None, fallback))).err();
        assert_eq!(got, want, "{requester:?} {cache_control:?}");
        if want.is_some() {
            let both = terms(Some(60), Some(60));
            let with_lifetime = outcome(decide(&exchange(200, &fields, requester), &both));
            assert_eq!(
                with_lifetime.err(),
                want,
                "a lifetime from the policy permits no more: {requester:?}"
            );
        }
    }
}

#[test]
fn response_selected_by_cookies_is_stored_for_request_with_cookies() {
    let mut fields = response("max-age=5");
    fields.insert(VARY, HeaderValue::from_static("Cookie, Authorization"));
    for (requester, want) in [(COOKIES, None), (AUTHORIZED, Some(NotStored::Authorization))] {
        let decision = decide(&exchange(200, &fields, requester), &no_lifetimes());
        if let StorageDecision::Store(plan) = &decision {
            assert!(!plan.needs_no_cookie);
        }
        assert_eq!(outcome(decision).err(), want, "{requester:?}");
    }
}

#[test]
fn plan_says_whether_the_response_needs_a_request_without_cookies() {
    for (cache_control, want) in
        [("max-age=5", true), ("public, max-age=5", false), ("s-maxage=5", false)]
    {
        let fields = response(cache_control);
        let StorageDecision::Store(plan) =
            decide(&exchange(200, &fields, ANONYMOUS), &no_lifetimes())
        else {
            panic!("{cache_control} is not stored");
        };
        assert_eq!(plan.needs_no_cookie, want, "{cache_control}");
        assert_eq!(plan.permits_sharing, !want, "{cache_control}");
    }
}

#[test]
fn permissions_of_a_middleware_do_not_decide_about_requests_with_credentials() {
    use LifetimeSource::{Explicit, Middleware};
    use NotStored::{Authorization, Cookie, Credentials};
    for (requester, handler, sent, want) in [
        (ANONYMOUS, "", "public, max-age=5", Ok((5, Middleware))),
        (AUTHORIZED, "", "public, max-age=5", Err(Authorization)),
        (COOKIES, "", "public, max-age=5", Err(Cookie)),
        (CREDENTIALS, "", "public, max-age=5", Err(Credentials)),
        (COOKIES, "", "s-maxage=5", Err(Cookie)),
        (ANONYMOUS, "max-age=9", "public, max-age=5", Ok((5, Explicit))),
        (AUTHORIZED, "max-age=9", "public, max-age=5", Err(Authorization)),
        (CREDENTIALS, "max-age=9", "public, max-age=5", Ok((5, Explicit))),
        (COOKIES, "public", "public, max-age=5", Ok((5, Middleware))),
        (AUTHORIZED, "s-maxage=9", "s-maxage=5, public", Ok((5, Explicit))),
        (AUTHORIZED, "must-revalidate", "must-revalidate, max-age=5", Err(Authorization)),
    ] {
        let (own, fields) = (ResponseDirectives::of(&response(handler)), response(sent));
        let exchange =
            Exchange { handler_directives: Some(&own), ..exchange(200, &fields, requester) };
        let got = outcome(decide(&exchange, &terms(None, None)));
        assert_eq!(got, want, "{requester:?} {handler:?} {sent:?}");
    }
    let mut fields = response("public, max-age=5");
    fields.insert(EXPIRES, HeaderValue::from_static("0"));
    let none = ResponseDirectives::default();
    let exchange =
        Exchange { handler_directives: Some(&none), ..exchange(200, &fields, ANONYMOUS) };
    let got = outcome(decide(&exchange, &terms(None, None)));
    assert_eq!(got, Ok((5, Explicit)), "the handler stated Expires");
}

#[test]
fn targeted_field_is_the_word_of_the_handler() {
    let targets = vec![HeaderName::from_static("cdn-cache-control")];
    let choices = PolicyChoices { targets, ..DEFAULTS.clone() };
    let mut fields = response("public, max-age=5");
    fields.insert(
        HeaderName::from_static("cdn-cache-control"),
        HeaderValue::from_static("public, max-age=7"),
    );
    let none = ResponseDirectives::default();
    let exchange =
        Exchange { handler_directives: Some(&none), ..exchange(200, &fields, AUTHORIZED) };
    let terms = StorageTerms { choices: &choices, ..terms(None, None) };
    assert_eq!(outcome(decide(&exchange, &terms)), Ok((7, LifetimeSource::Explicit)));
}

#[test]
fn response_to_request_with_other_credentials_needs_explicit_lifetime() {
    let on = PolicyChoices { heuristics: Heuristics::On, ..DEFAULTS.clone() };
    let modified = (LAST_MODIFIED, "Mon, 12 Jan 1970 13:45:50 GMT");
    for (cache_control, want) in [
        ("", Err(NotStored::Credentials)),
        ("must-revalidate", Err(NotStored::Credentials)),
        ("public", Ok((5, LifetimeSource::Heuristic))),
        ("max-age=7", Ok((7, LifetimeSource::Explicit))),
    ] {
        let fields = response_with(cache_control, std::slice::from_ref(&modified));
        let terms = StorageTerms { choices: &on, ..no_lifetimes() };
        let got = outcome(decide(&exchange(200, &fields, CREDENTIALS), &terms));
        assert_eq!(got, want, "{cache_control}");
    }
}

#[test]
fn response_for_one_person_is_stored_and_leaves_as_private() {
    let person = Sharing::User("a".into());
    for (cache_control, want) in [
        ("", Ok((60, LifetimeSource::Policy))),
        ("private", Ok((60, LifetimeSource::Policy))),
        ("private, max-age=5", Ok((5, LifetimeSource::Explicit))),
        ("private=\"x\", max-age=5", Ok((5, LifetimeSource::Explicit))),
        ("public, max-age=5", Ok((5, LifetimeSource::Explicit))),
        ("no-store", Err(NotStored::NoStore)),
        ("no-cache", Err(NotStored::NoCache)),
        ("private, no-store", Err(NotStored::NoStore)),
    ] {
        let fields = response(cache_control);
        let exchange = Exchange { sharing: &person, ..exchange(200, &fields, ANONYMOUS) };
        let decision = decide(&exchange, &terms(None, Some(60)));
        if let StorageDecision::Store(plan) = &decision {
            assert_eq!(plan.downstream, Downstream::Private, "{cache_control}");
        }
        assert_eq!(outcome(decision), want, "{cache_control}");
    }
}

#[test]
fn response_shared_by_authorized_clients_leaves_as_private_unless_it_permits_sharing() {
    use Downstream::{AsStated, Private};
    for (cache_control, want) in [
        ("", Private),
        ("max-age=5", Private),
        ("must-revalidate", Private),
        ("must-revalidate, max-age=5", AsStated),
        ("public", AsStated),
        ("s-maxage=5", AsStated),
    ] {
        let fields = response(cache_control);
        let plan = |sharing: &Sharing| {
            let exchange = Exchange { sharing, ..exchange(200, &fields, ANONYMOUS) };
            match decide(&exchange, &terms(None, Some(60))) {
                StorageDecision::Store(plan) => plan.downstream,
                StorageDecision::Skip(reason) => panic!("{reason:?}"),
            }
        };
        assert_eq!(plan(&Sharing::Authorized), want, "{cache_control}");
        assert_eq!(plan(&Sharing::Everybody), AsStated, "{cache_control}");
    }
    let private = response("private, max-age=5");
    let exchange = Exchange { sharing: &Sharing::Authorized, ..exchange(200, &private, ANONYMOUS) };
    let decision = decide(&exchange, &terms(None, Some(60)));
    assert_eq!(outcome(decision), Err(NotStored::Private));
}
