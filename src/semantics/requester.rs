//! What a request carries that its answer could be personal for.

use actix_web::http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName};

use super::cookies::CookieRules;

/// What a cache takes for personal in a request; what is part of the key does not count.
#[derive(Debug, Clone, Default)]
pub(crate) struct IdentityRules {
    /// Cookies by name.
    pub(crate) cookies: CookieRules,
    /// Fields beside `Authorization` and `Cookie` that carry credentials.
    pub(crate) credentials: Vec<HeaderName>,
    /// Fields that are part of the key.
    pub(crate) keyed: Vec<HeaderName>,
    /// Whether cookies make a request personal at all.
    pub(crate) meaning: CookieMeaning,
}

impl IdentityRules {
    /// Whether a field can tell whose request it is.
    pub(crate) fn tells(&self, name: &HeaderName) -> bool {
        [AUTHORIZATION, COOKIE].contains(name) || self.credentials.contains(name)
    }
}

/// What a cookie in a request means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum CookieMeaning {
    /// Somebody, unless it is ignored or part of the key.
    #[default]
    IdentityRules,
    /// Nothing that a response does not say itself (section 7.3).
    Ordinary,
}

/// Whose request it is, as far as a cache can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Requester {
    /// It carries `Authorization` (section 3.5).
    pub(crate) has_authorization: bool,
    /// It carries cookies that could mean somebody.
    pub(crate) cookies: bool,
    /// It carries other credentials.
    pub(crate) credentials: bool,
}

impl Requester {
    pub(crate) fn of(request: &HeaderMap, personal: &IdentityRules) -> Self {
        let carries =
            |name: &HeaderName| request.contains_key(name) && !personal.keyed.contains(name);
        Self {
            has_authorization: carries(&AUTHORIZATION),
            cookies: personal.meaning == CookieMeaning::IdentityRules
                && personal.cookies.personal(request)
                && !personal.keyed.contains(&COOKIE),
            credentials: personal.credentials.iter().any(carries),
        }
    }

    /// Nobody in particular.
    pub(crate) const fn is_anonymous(self) -> bool {
        !self.has_authorization && !self.cookies && !self.credentials
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{ACCEPT, HeaderValue};

    use super::*;

    #[test]
    fn credentials_count_unless_they_are_part_of_the_key() {
        let api_key = HeaderName::from_static("x-api-key");
        let personal = |keyed: &[HeaderName]| IdentityRules {
            credentials: vec![api_key.clone()],
            keyed: keyed.to_vec(),
            ..IdentityRules::default()
        };
        let nobody = Requester::default();
        for (case, name, keyed, want) in [
            (
                "has_authorization",
                &AUTHORIZATION,
                vec![],
                Requester { has_authorization: true, ..nobody },
            ),
            ("keyed by it", &AUTHORIZATION, vec![AUTHORIZATION], nobody),
            ("cookies", &COOKIE, vec![], Requester { cookies: true, ..nobody }),
            ("keyed by the whole field", &COOKIE, vec![COOKIE], nobody),
            ("another credential", &api_key, vec![], Requester { credentials: true, ..nobody }),
            ("keyed by that", &api_key, vec![api_key.clone()], nobody),
        ] {
            let mut request = HeaderMap::new();
            request.insert(name.clone(), HeaderValue::from_static("x=1"));
            let got = Requester::of(&request, &personal(&keyed));
            assert_eq!(got, want, "{case}");
            assert_eq!(got.is_anonymous(), want == nobody, "{case}");
        }
        let mut everything = HeaderMap::new();
        for name in [&AUTHORIZATION, &COOKIE, &api_key] {
            everything.insert(name.clone(), HeaderValue::from_static("x=1"));
        }
        let all = Requester { has_authorization: true, cookies: true, credentials: true };
        assert_eq!(Requester::of(&everything, &personal(&[])), all);
        assert_eq!(Requester::of(&HeaderMap::new(), &personal(&[])), nobody);
        let mut ignoring = personal(&[]);
        ignoring.cookies.ignored.push("x".to_owned());
        let got = Requester::of(&everything, &ignoring);
        assert_eq!(got, Requester { cookies: false, ..all }, "cookies count by name");
        let ordinary =
            IdentityRules { meaning: CookieMeaning::Ordinary, ..IdentityRules::default() };
        let mut request = HeaderMap::new();
        request.insert(COOKIE, HeaderValue::from_static("sid=1"));
        assert_eq!(Requester::of(&request, &ordinary), nobody);
    }

    #[test]
    fn fields_that_tell_whose_request_it_is_are_known() {
        let api_key = HeaderName::from_static("x-api-key");
        let personal =
            IdentityRules { credentials: vec![api_key.clone()], ..IdentityRules::default() };
        for (name, want) in
            [(AUTHORIZATION, true), (COOKIE, true), (api_key, true), (ACCEPT, false)]
        {
            assert_eq!(personal.tells(&name), want, "{name}");
        }
    }
}
