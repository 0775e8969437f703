//! The credentials that a request carries. The response to a request with credentials may be meant
//! for one client only.

use actix_web::http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE, HOST, HeaderMap, HeaderName,
    REFERER, UPGRADE_INSECURE_REQUESTS, USER_AGENT,
};

use super::cookies::CookieRules;

/// The rules that decide which fields and cookies of a request identify a client.
///
/// Fields and cookies that are part of the cache key do not identify a client: requests with other
/// values have other cache keys, so they share no stored response.
#[derive(Debug, Clone, Default)]
pub(crate) struct IdentityRules {
    /// The cookies that are ignored, and the cookies that are part of the cache key.
    pub(crate) cookies: CookieRules,
    /// Fields other than `Authorization` and `Cookie` that carry credentials.
    pub(crate) credentials: FieldNames,
    /// Fields that are part of the cache key.
    pub(crate) keyed: Vec<HeaderName>,
    /// Whether cookies identify a client.
    pub(crate) meaning: CookieMeaning,
}

/// The clients that may share the stored response to a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Sharing {
    /// All clients, if the request has no credentials or if the response permits sharing.
    #[default]
    Everybody,
    /// The clients whose requests have the same kinds of credentials. The application has checked
    /// the credentials before the request reached the cache.
    Authorized,
    /// The person with this id.
    User(Box<str>),
}

impl IdentityRules {
    /// Returns whether a field may identify a client.
    pub(crate) fn may_identify_client(&self, name: &HeaderName) -> bool {
        [AUTHORIZATION, COOKIE].contains(name) || self.credentials.contains(name)
    }
}

/// The names of some fields. To find them in a request takes one pass over the request, however
/// many names there are.
#[derive(Debug, Clone, Default)]
pub(crate) struct FieldNames {
    /// A set of the lengths and the outer bytes of the names. Few other names have a place in the set.
    places: [u64; 16],
    /// The names of each length. Most fields of a request have a length that few names have.
    by_length: Vec<Vec<HeaderName>>,
    /// Whether one of the names is [usual](is_usual).
    has_usual: bool,
}

impl FieldNames {
    pub(crate) fn new(names: Vec<HeaderName>) -> Self {
        let mut by_length = Vec::new();
        let mut places = [0; 16];
        let has_usual = names.iter().any(is_usual);
        for name in names {
            let (word, bit) = place(name.as_str());
            places.iter_mut().skip(word).take(1).for_each(|word| *word |= bit);
            let length = name.as_str().len();
            if by_length.len() <= length {
                by_length.resize_with(length + 1, Vec::new);
            }
            if let Some(same_length) = by_length.get_mut(length) {
                same_length.push(name);
            }
        }
        Self { places, by_length, has_usual }
    }

    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
        self.may_contain(name.as_str()) && self.finds(name)
    }

    /// Returns whether a name is usual in requests, and neither in this set nor that of a special
    /// field.
    #[inline]
    pub(crate) fn exclude_as_usual(&self, name: &HeaderName) -> bool {
        !self.has_usual && is_usual(name)
    }

    /// Returns whether the set may contain a name. If this is false, the set does not contain it.
    #[inline]
    pub(crate) fn may_contain(&self, name: &str) -> bool {
        let (word, bit) = place(name);
        self.places.get(word).is_some_and(|word| word & bit != 0)
    }

    fn finds(&self, name: &HeaderName) -> bool {
        self.by_length.get(name.as_str().len()).is_some_and(|names| names.contains(name))
    }
}

/// Returns whether browsers send a field in most requests, and a cache has no use for it but by `Vary`.
#[inline]
fn is_usual(name: &HeaderName) -> bool {
    matches!(
        *name,
        HOST | USER_AGENT
            | ACCEPT
            | ACCEPT_ENCODING
            | ACCEPT_LANGUAGE
            | REFERER
            | UPGRADE_INSECURE_REQUESTS
    )
}

/// Returns the place of a name in a set of 1024 bits: the number of its word, and its bit.
fn place(name: &str) -> (usize, u64) {
    let bytes = name.as_bytes();
    let byte = |byte: Option<&u8>| byte.copied().map_or(0, usize::from);
    let place = (bytes.len() * 37) ^ (byte(bytes.first()) * 29) ^ (byte(bytes.last()) * 5);
    (place / 64 % 16, 1 << (place % 64))
}

/// Whether the cookies of a request identify a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum CookieMeaning {
    /// Each cookie may identify a client, unless the policy ignores the cookie or makes it part of
    /// the cache key.
    #[default]
    Identity,
    /// Cookies do not identify a client. The response states whether it depends on them (RFC 9111
    /// section 7.3).
    Ordinary,
}

/// The kinds of credentials that a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Requester {
    /// The request has `Authorization` (RFC 9111 section 3.5).
    pub(crate) has_authorization: bool,
    /// The request has cookies that may identify a client.
    pub(crate) has_cookies: bool,
    /// The request has another field with credentials.
    pub(crate) has_credentials: bool,
}

impl Requester {
    /// Returns the credentials that count under these rules: cookies do not count with
    /// [`CookieMeaning::Ordinary`], and credentials on which the `sharing` of the response already
    /// depends do not count. Only credentials that count decide whether the response to the request
    /// may be stored, and whether a stored response may answer the request.
    pub(crate) fn under(self, rules: &IdentityRules, sharing: &Sharing) -> Self {
        let has_cookies = self.has_cookies && rules.meaning == CookieMeaning::Identity;
        match sharing {
            Sharing::Everybody => Self { has_cookies, ..self },
            Sharing::Authorized => {
                let has_cookies = has_cookies && !rules.credentials.contains(&COOKIE);
                Self { has_cookies, ..Self::default() }
            }
            Sharing::User(_) => Self::default(),
        }
    }

    /// Returns all credentials of a request. Cookies are included even with
    /// [`CookieMeaning::Ordinary`].
    ///
    /// Requests that carry different kinds of credentials do not wait for each other's response,
    /// because the response to one of them may be private.
    pub(crate) fn carried(request: &HeaderMap, rules: &IdentityRules) -> Self {
        let identifies =
            |name: &HeaderName| request.contains_key(name) && !rules.keyed.contains(name);
        Self {
            has_authorization: identifies(&AUTHORIZATION),
            has_cookies: rules.cookies.has_identifying_cookie(request)
                && !rules.keyed.contains(&COOKIE),
            has_credentials: request
                .keys()
                .any(|name| rules.credentials.contains(name) && !rules.keyed.contains(name)),
        }
    }

    /// Returns whether the request carries no credentials.
    pub(crate) const fn is_anonymous(self) -> bool {
        !self.has_authorization && !self.has_cookies && !self.has_credentials
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{ACCEPT, HeaderValue};

    use super::*;

    const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
    const ANONYMOUS: Requester =
        Requester { has_authorization: false, has_cookies: false, has_credentials: false };

    fn decisive(request: &HeaderMap, rules: &IdentityRules) -> Requester {
        Requester::carried(request, rules).under(rules, &Sharing::Everybody)
    }

    fn rules(keyed: &[HeaderName]) -> IdentityRules {
        IdentityRules {
            credentials: FieldNames::new(vec![API_KEY]),
            keyed: keyed.to_vec(),
            ..IdentityRules::default()
        }
    }

    fn request(names: &[HeaderName]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for name in names {
            fields.insert(name.clone(), HeaderValue::from_static("x=1"));
        }
        fields
    }

    #[test]
    fn credentials_count_unless_they_are_part_of_the_key() {
        let authorization = Requester { has_authorization: true, ..ANONYMOUS };
        let cookies = Requester { has_cookies: true, ..ANONYMOUS };
        let credentials = Requester { has_credentials: true, ..ANONYMOUS };
        for (name, keyed, want) in [
            (AUTHORIZATION, vec![], authorization),
            (AUTHORIZATION, vec![AUTHORIZATION], ANONYMOUS),
            (COOKIE, vec![], cookies),
            (COOKIE, vec![COOKIE], ANONYMOUS),
            (API_KEY, vec![], credentials),
            (API_KEY, vec![API_KEY], ANONYMOUS),
            (ACCEPT, vec![], ANONYMOUS),
        ] {
            let got = decisive(&request(std::slice::from_ref(&name)), &rules(&keyed));
            assert_eq!(got, want, "{name} with {keyed:?} in the key");
            assert_eq!(got.is_anonymous(), want == ANONYMOUS, "{name}");
        }
        let all = Requester { has_authorization: true, has_cookies: true, has_credentials: true };
        let every_field = request(&[AUTHORIZATION, COOKIE, API_KEY]);
        assert_eq!(decisive(&every_field, &rules(&[])), all);
        assert_eq!(decisive(&request(&[]), &rules(&[])), ANONYMOUS);
    }

    #[test]
    fn ignored_and_ordinary_cookies_are_no_credentials() {
        let with_cookie = request(&[COOKIE]);
        let mut ignoring = rules(&[]);
        ignoring.cookies.ignored.push("x".to_owned());
        assert_eq!(decisive(&with_cookie, &ignoring), ANONYMOUS);
        let ordinary =
            IdentityRules { meaning: CookieMeaning::Ordinary, ..IdentityRules::default() };
        assert_eq!(decisive(&with_cookie, &ordinary), ANONYMOUS);
        let carried = Requester { has_cookies: true, ..ANONYMOUS };
        assert_eq!(Requester::carried(&with_cookie, &ordinary), carried);
        assert_eq!(Requester::carried(&with_cookie, &ignoring), ANONYMOUS);
    }

    #[test]
    fn credentials_on_which_the_sharing_depends_do_not_count() {
        let every_field = request(&[AUTHORIZATION, COOKIE, API_KEY]);
        let under = |sharing: &Sharing, rules: &IdentityRules| {
            Requester::carried(&every_field, rules).under(rules, sharing)
        };
        let cookies = Requester { has_cookies: true, ..ANONYMOUS };
        assert_eq!(under(&Sharing::User("a".into()), &rules(&[])), ANONYMOUS);
        assert_eq!(under(&Sharing::Authorized, &rules(&[])), cookies);
        let cookie_is_named = IdentityRules {
            credentials: FieldNames::new(vec![API_KEY, COOKIE]),
            ..IdentityRules::default()
        };
        assert_eq!(under(&Sharing::Authorized, &cookie_is_named), ANONYMOUS);
    }

    #[test]
    fn fields_with_credentials_identify_a_client() {
        for (name, want) in
            [(AUTHORIZATION, true), (COOKIE, true), (API_KEY, true), (ACCEPT, false)]
        {
            assert_eq!(rules(&[]).may_identify_client(&name), want, "{name}");
        }
    }
}
