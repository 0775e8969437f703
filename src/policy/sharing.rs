//! Decides which clients may share the stored response to a request, and makes this a part of the
//! cache key.

use actix_web::{
    dev::ServiceRequest,
    http::header::{AUTHORIZATION, HeaderName},
};
use smallvec::SmallVec;

use super::{
    compiled::CompiledPolicy,
    values::{AuthorizedRequests, PersonalRequests},
};
use crate::{
    entry::key::KeyBuilder,
    semantics::{requester::Sharing, special_fields::SpecialFields},
    session::has_entries,
};

/// The name of the part of a cache key that has the id of a person. Neither a field name nor the name
/// of another part has a space at this place.
const USER_PART: &str = "per user";

/// The name of the part of a cache key that names the credentials of a request.
const CREDENTIALS_PART: &str = "authorized by";

impl CompiledPolicy {
    /// Adds what decides about the sharing of the response to a cache key: the id of the person, or
    /// the names of the credentials that the request carries.
    pub(super) fn push_sharing(&self, key: &mut KeyBuilder, request: &ServiceRequest) -> Sharing {
        if let Some(function) = &self.policy.per_user
            && let Some(id) = function.of(request)
        {
            key.push_part(USER_PART, Some(id.as_bytes()));
            return Sharing::User(id.into());
        }
        if self.policy.authorized_requests == AuthorizedRequests::Shared {
            let names = self.names_of_credentials(request);
            if !names.is_empty() {
                for name in names {
                    key.push_part(CREDENTIALS_PART, Some(name.as_bytes()));
                }
                return Sharing::Authorized;
            }
        }
        Sharing::Everybody
    }

    /// Returns whether cache keys contain parts by [`push_sharing`](Self::push_sharing), so that only
    /// a whole request shows its key.
    pub(super) fn has_parts_by_sharing(&self) -> bool {
        self.policy.per_user.is_some()
            || self.policy.authorized_requests == AuthorizedRequests::Shared
    }

    /// Returns whether the policy caches only requests without credentials, and the request has
    /// some.
    pub(crate) fn excludes(&self, request: &ServiceRequest, special: SpecialFields) -> bool {
        let excludes = || {
            let requester = self.credentials_of(request, special);
            let requester = requester.under(&self.identity, &Sharing::Everybody);
            !requester.is_anonymous() || has_entries(request)
        };
        self.policy.personal_requests == PersonalRequests::Excluded && excludes()
    }

    /// Returns the names of the credentials that a request carries, in alphabetical order.
    fn names_of_credentials<'a>(&self, request: &'a ServiceRequest) -> SmallVec<[&'a str; 4]> {
        let rules = &self.identity;
        let is_named = |name: &&HeaderName| {
            (**name == AUTHORIZATION || rules.credentials.contains(name))
                && !rules.keyed.contains(name)
        };
        let names = request.headers().keys().filter(is_named).map(HeaderName::as_str);
        let mut names: SmallVec<[&str; 4]> = names.collect();
        if self.policy.credentials_when.iter().any(|test| test.passes(request)) {
            // A field name has no space.
            names.push("credentials when");
        }
        names.sort_unstable();
        names
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::{super::settings::Policy, *};

    fn compile(policy: Policy) -> CompiledPolicy {
        CompiledPolicy::new(policy, None, "t").unwrap()
    }

    fn request(fields: &[(&'static str, &str)]) -> ServiceRequest {
        let request = TestRequest::default();
        let request = fields.iter().fold(request, |request, field| request.append_header(*field));
        request.to_srv_request()
    }

    #[test]
    fn pages_of_one_person_have_keys_of_their_own() {
        let id = |request: &ServiceRequest| {
            request.headers().get("x-id").map(|id| id.to_str().unwrap().to_owned())
        };
        let policy = compile(Policy::new().per_user(id));
        let key = |fields| policy.key(&request(fields), None).unwrap();
        let (none, a, b) = (key(&[]), key(&[("x-id", "a")]), key(&[("x-id", "b")]));
        assert_eq!(none.sharing, Sharing::Everybody);
        assert_eq!(a.sharing, Sharing::User("a".into()));
        assert!(a.key != b.key && a.key != none.key && !none.key.has_parts());
        assert_eq!(a, key(&[("x-id", "a"), ("authorization", "x"), ("cookie", "y=1")]));
    }

    #[test]
    fn kinds_of_credentials_are_part_of_the_key() {
        let policy = Policy::new().share_authorized().credentials(["X-Mine"]);
        let policy = compile(policy.credentials_when(|request| request.uri().path() == "/tls"));
        let key = |fields| policy.key(&request(fields), None).unwrap();
        let keys = [
            key(&[]),
            key(&[("authorization", "a")]),
            key(&[("x-api-key", "a")]),
            key(&[("x-mine", "a")]),
            key(&[("authorization", "a"), ("x-mine", "a")]),
            policy.key(&TestRequest::with_uri("/tls").to_srv_request(), None).unwrap(),
        ];
        for (index, one) in keys.iter().enumerate() {
            let want = if index == 0 { Sharing::Everybody } else { Sharing::Authorized };
            assert_eq!(one.sharing, want, "{index}");
            assert!(!keys[index + 1..].contains(one), "{index}");
        }
        assert_eq!(keys[1], key(&[("authorization", "b"), ("cookie", "c=1")]));
        assert_eq!(keys[4], key(&[("x-mine", "b"), ("authorization", "b")]));
    }

    #[test]
    fn field_in_the_key_is_no_part_of_the_sharing() {
        let policy = Policy::new().share_authorized().key_header("authorization");
        let key = compile(policy).key(&request(&[("authorization", "a")]), None).unwrap();
        assert_eq!(key.sharing, Sharing::Everybody);
    }

    #[test]
    fn requests_with_credentials_are_excluded_if_only_anonymous_ones_are_cached() {
        let policy = compile(Policy::new().anonymous_only().ignore_cookies(["_ga"]));
        for (field, want) in [
            (("accept", "a"), false),
            (("cookie", "_ga=1"), false),
            (("cookie", "id=1"), true),
            (("authorization", "a"), true),
            (("x-api-key", "a"), true),
        ] {
            assert_eq!(policy.excludes(&request(&[field]), SpecialFields::ALL), want, "{field:?}");
        }
        let authorized = request(&[("authorization", "a")]);
        assert!(!compile(Policy::new()).excludes(&authorized, SpecialFields::ALL));
    }
}
