//! Settings of a policy: which requests carry credentials, and what they may share.

use actix_web::dev::ServiceRequest;

use super::{super::values::RequestTest, Policy};
use crate::semantics::{requester::CookieMeaning, storing::SetCookie};

impl Policy {
    /// Stores responses with `Set-Cookie`, **and sends the cookies to every client that gets the
    /// stored response** (RFC 9111 section 7.3).
    ///
    /// Default: responses with `Set-Cookie` are never stored.
    pub fn replay_set_cookie(mut self) -> Self {
        self.choices.set_cookie = SetCookie::Stored;
        self
    }

    /// Treats requests with cookies like requests without cookies, **although handlers see the
    /// cookies**.
    ///
    /// With this setting, the handler must send `private`, `no-store` or `Vary: Cookie` with each
    /// response that depends on cookies. Otherwise, other users get this response. Default: a
    /// request with cookies is [personal](Self#personal-requests).
    pub fn share_despite_cookies(mut self) -> Self {
        self.cookie_meaning = CookieMeaning::Ordinary;
        self
    }

    /// Ignores cookies that have no effect on any response, such as analytics cookies.
    ///
    /// A request that has only ignored cookies is treated like a request without cookies. A
    /// trailing `*` in a name matches any suffix, and `*` alone matches all cookies. Elsewhere in a
    /// name, `*` is an error. Several calls add up. Default: none.
    ///
    /// Handlers still see the ignored cookies. Do not ignore a cookie on which a response depends:
    /// all clients would get the response that was made for the first client's value of the cookie.
    pub fn ignore_cookies(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.cookies.ignored.extend(names.into_iter().map(Into::into));
        self
    }

    /// Adds request fields that carry credentials, besides `Authorization` and `Cookie`. A request
    /// with one of these fields is [personal](Self#personal-requests).
    ///
    /// Default: the fields in which common proxies and APIs carry tokens, users and client
    /// certificates, such as `X-Api-Key`, `X-Forwarded-User` and `Cf-Access-Jwt-Assertion`. The
    /// [list](https://github.com/actix-web-cache/actix-web-cache/blob/main/src/policy/credential_fields.rs)
    /// has them all. The new names are added to these.
    pub fn credentials(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.credentials.extend(names.into_iter().map(Into::into));
        self
    }

    /// Removes request fields from those that carry [credentials](Self::credentials), because no
    /// handler answers by their value.
    pub fn ignore_credentials(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        for name in names {
            self.credentials.retain(|known| !known.eq_ignore_ascii_case(name.as_ref()));
        }
        self
    }

    /// Makes a request [personal](Self#personal-requests) if the function `test` returns true. Use
    /// it for credentials that are in no request field, such as the client certificate of the
    /// connection ([`HttpRequest::conn_data`](actix_web::HttpRequest::conn_data)).
    ///
    /// The cache calls `test` for every request, before the lookup. Several calls add up: a request
    /// is personal if any of the functions returns true.
    pub fn credentials_when(
        mut self,
        test: impl Fn(&ServiceRequest) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.credentials_when.push(RequestTest::new(test));
        self
    }

    /// Names the proxies in front of the application whose `X-Forwarded-Host`, `X-Forwarded-Proto`
    /// and `Forwarded` can be trusted: IP addresses, networks such as `10.0.0.0/8`, or `unix:` for
    /// all connections over a Unix domain socket. Several calls add up.
    ///
    /// actix makes absolute links from these fields ([`url_for`](actix_web::HttpRequest::url_for),
    /// [`ConnectionInfo`](actix_web::dev::ConnectionInfo)), so a response may depend on them. With
    /// this setting, a request that comes from another peer bypasses the cache if it has one of
    /// these fields. `Forwarded` counts if it has a host or a protocol, or if it cannot be read. An
    /// empty list trusts no peer.
    ///
    /// Default: every request may have these fields. Requests with different values never share a
    /// response. Responses to requests with such fields do not displace a page that other clients
    /// request.
    pub fn trusted_proxies(mut self, proxies: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let known = self.trusted_proxies.get_or_insert_with(Vec::new);
        known.extend(proxies.into_iter().map(Into::into));
        self
    }
}
