//! Settings of a policy: pages of people, whose requests carry credentials.

use actix_web::dev::ServiceRequest;

use super::{
    super::values::{AuthorizedRequests, PersonalRequests, RequestText},
    Policy,
};

impl Policy {
    /// Keeps responses for one person each: for the person whose id the function `user` returns.
    ///
    /// The id is part of the cache key. Nobody else gets these responses, so the cache stores them
    /// although the request has `Authorization`, cookies or other
    /// [credentials](Self::credentials), and although the response has `private`. Requests of
    /// different people never wait for each other's response. Clients get the responses with
    /// `private`, without `public` and without `s-maxage`, so that no cache in front of the
    /// application shares them. [`CacheHandle::purge_user`](crate::CacheHandle::purge_user) purges
    /// the responses of one person. A response with `no-store` or `Set-Cookie` is not stored.
    ///
    /// If `user` returns `None`, the request is handled as without this setting.
    ///
    /// **The function must return an id that the application has verified**, such as the user of a
    /// session or the subject of a checked token. It must not return a text that any client can
    /// choose. The middleware that verifies the id must be outside of the cache: register it after
    /// the cache. The cache calls the function for every request, before the lookup.
    ///
    /// If pages contain a token that is bound to the session, such as a token against forged
    /// requests, return the id of the session instead of that of the user. Caches over one store
    /// whose functions differ must use different namespaces.
    ///
    /// Default: none.
    ///
    /// ```
    /// # use actix_web::HttpMessage;
    /// # use actix_web_cache::Policy;
    /// /// The middleware that checks logins inserts the user into the extensions of the request.
    /// struct User {
    ///     id: u64,
    /// }
    ///
    /// let policy = Policy::new().per_user(|request| {
    ///     request.extensions().get::<User>().map(|user| user.id.to_string())
    /// });
    /// ```
    pub fn per_user(
        mut self,
        user: impl Fn(&ServiceRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.per_user = Some(RequestText::new(user));
        self
    }

    /// Shares responses between all clients whose requests carry the same kinds of credentials,
    /// **whatever the values of the credentials are**.
    ///
    /// With this setting, `Authorization` and the fields of [`credentials`](Self::credentials) do
    /// not hinder the sharing of a response. The application must check the credentials **outside**
    /// of the cache, in a middleware that is registered after the cache, and the handler must
    /// answer all clients that pass the check alike, or send `private`, `no-store` or `Vary`. Which
    /// of the fields are present is part of the cache key, so a request without credentials does not
    /// get a response that was made for a request with credentials.
    ///
    /// Clients get the responses with `private`, because a cache in front of the application does
    /// not check credentials. If the handler itself permits sharing (by `public`, `s-maxage`, or a
    /// lifetime with `must-revalidate`), clients get the response as it is.
    ///
    /// Cookies still make a request [personal](Self#personal-requests). If the check is about a
    /// session cookie, add `Cookie` to [`credentials`](Self::credentials).
    ///
    /// Default: the response must permit it (RFC 9111 section 3.5).
    pub fn share_authorized(mut self) -> Self {
        self.authorized_requests = AuthorizedRequests::Shared;
        self
    }

    /// Lets [personal requests](Self#personal-requests) bypass the cache: they are not answered from
    /// the store, and their responses are not stored (`detail=credentials`). With the feature
    /// `session`, the requests with a session of actix-session that has entries bypass the cache,
    /// too.
    ///
    /// Default: a stored response answers a personal request if the response states a lifetime or
    /// permits sharing.
    pub fn anonymous_only(mut self) -> Self {
        self.personal_requests = PersonalRequests::Excluded;
        self
    }
}
