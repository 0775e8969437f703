//! The cache middleware ([`Cache`]) for applications, scopes, resources and routes, and its
//! builder.

use std::{
    error::Error as StdError,
    fmt, future,
    rc::Rc,
    sync::{Arc, Weak, atomic::AtomicBool},
    time::Duration,
};

use actix_service::{Service, Transform};
use actix_web::{
    Error,
    body::MessageBody,
    dev::{RequestHead, ServiceRequest, ServiceResponse},
};
use tokio::time::timeout;

#[cfg(feature = "serde")]
use crate::policy::document::file::CacheFile;
use crate::{
    clock::Clock,
    entry::url_keys::UrlKeys,
    options::ResponseOptions,
    outcome::Outcome,
    policy::{
        error::ConfigError,
        policy_set::{PolicyConfig, PolicySet, Unmatched},
        presets::DEFAULT_MAX_BODY_SIZE,
        rule::Rule,
        settings::Policy,
        shadowed_rules::shadowed_rules,
    },
    purge::handle::CacheHandle,
    purge_event::PurgeEvent,
    response::body::CacheBody,
    service::middleware::CacheMiddleware,
    shared::{FieldOutput, Mode, Settings, Shared, SharedMode, SharedRef},
    store::{erased::DynStore, interface::Store},
};

/// A middleware that caches HTTP responses.
///
/// The cache stores the responses of handlers, and answers `GET`, `HEAD` and `QUERY` requests from
/// its store where RFC 9111 and its [`Policy`] allow it. Make the cache (or only its store) outside
/// of the application factory, so that all worker threads share the stored responses:
///
/// ```no_run
/// use actix_web::{App, HttpServer, web};
/// use actix_web_cache::{Cache, MemoryStore};
///
/// # async fn slow_page() -> &'static str { "page" }
/// #[actix_web::main]
/// async fn main() -> std::io::Result<()> {
///     let store = MemoryStore::new(64 * 1024 * 1024); // bytes
///     HttpServer::new(move || {
///         App::new()
///             .wrap(Cache::new(store.clone()))
///             .route("/", web::get().to(slow_page))
///     })
///     .bind(("127.0.0.1", 8080))?
///     .run()
///     .await
/// }
/// ```
///
/// Caches may be nested. Only the innermost cache around a handler stores the responses of that
/// handler. The outer caches pass these responses on without storing them.
///
/// A middleware that is registered with `wrap` before the cache runs inside the cache. A middleware
/// that is registered later runs outside. Keep a middleware outside of the cache if it changes a
/// response for one client, by content negotiation or by the user (sessions, identity). One stored
/// response can then serve all clients.
///
/// If the cache is wrapped around a resource or a route, a middleware outside of the cache should
/// not keep a clone of the `HttpRequest` while it calls the inner service. The cache cannot change
/// a request that has a clone. The handler of such a request gets no `If-None-Match` or
/// `If-Modified-Since` from the cache, and cannot revalidate a stored response.
#[derive(Clone)]
pub struct Cache(Arc<Shared>);

impl Cache {
    /// Makes a cache over `store` with the default [`Policy`]. Caches over clones of one store
    /// share the stored responses.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the defaults are valid, as a test shows")]
    pub fn new<S: Store>(store: S) -> Self {
        Self::builder(store).build().expect("the default configuration is valid")
    }

    /// Returns a builder, which configures a cache over `store`.
    pub fn builder<S: Store>(store: S) -> CacheBuilder {
        let (store, config) = (Arc::new(store), PolicyConfig::new());
        CacheBuilder { store, config, settings: Settings::new() }
    }

    /// Makes a cache for a scope or a route, whose policy differs from that of this cache. The new
    /// cache has the store, the settings and the rules of this cache.
    ///
    /// The function `change` receives a policy and returns the changed policy. The change applies to
    /// the policy of the cache and to the policy of each rule, after the rule's own changes: what is
    /// said for the scope takes precedence. A rule that lets requests bypass the cache still does
    /// so. Requests that no rule matches follow the changed policy, even if this cache has
    /// [`rules_only`](CacheBuilder::rules_only).
    ///
    /// The rules name the whole path of a request, with the path of the scope. A
    /// [relative](crate::Rule::relative) rule names the part below the scope: the rule of this cache
    /// thus matches other paths in the new cache.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use actix_web::web;
    /// # use actix_web_cache::{Cache, MemoryStore};
    /// # let cache = Cache::new(MemoryStore::new(64 * 1024 * 1024));
    /// let hour = Duration::from_secs(3600);
    /// let blog = web::scope("/blog").wrap(cache.with(move |policy| policy.default_ttl(hour)));
    /// # let _: actix_web::Scope<_> = blog;
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if the changed policy is not valid. [`try_with`](Self::try_with) returns an error
    /// instead.
    #[must_use]
    pub fn with(&self, change: impl Fn(Policy) -> Policy + Send + Sync + 'static) -> Self {
        valid(self.try_with(change))
    }

    /// Makes a cache whose policy differs, like [`with`](Self::with), or returns an error.
    ///
    /// # Errors
    ///
    /// Returns an error if the changed policy is not valid. The error message says how to correct
    /// the policy.
    pub fn try_with(
        &self,
        change: impl Fn(Policy) -> Policy + Send + Sync + 'static,
    ) -> Result<Self, ConfigError> {
        self.rebuild(self.0.policies.config().with(change))
    }

    /// Makes a cache with a new policy, for a scope or a route. The new cache has the store and the
    /// settings of this cache. It has neither the policy of this cache nor its rules, so the paths
    /// that these rules exclude are cached; [`with`](Self::with) keeps both.
    ///
    /// # Panics
    ///
    /// Panics if the policy is not valid. [`try_with_policy`](Self::try_with_policy) returns an
    /// error instead.
    #[must_use]
    pub fn with_policy(&self, policy: Policy) -> Self {
        valid(self.try_with_policy(policy))
    }

    /// Makes a cache with a new policy, like [`with_policy`](Self::with_policy), or returns an
    /// error.
    ///
    /// # Errors
    ///
    /// Returns an error if the policy is not valid. The error message says how to correct the
    /// policy.
    pub fn try_with_policy(&self, policy: Policy) -> Result<Self, ConfigError> {
        self.rebuild(PolicyConfig { policy, ..PolicyConfig::new() })
    }

    /// Makes a cache with the store and the settings of this cache.
    fn rebuild(&self, config: PolicyConfig) -> Result<Self, ConfigError> {
        let (store, settings) = (Arc::clone(&self.0.store), self.0.settings.clone());
        CacheBuilder { store, config, settings }.finish()
    }

    /// Waits, for at most `limit`, until no response is being fetched for the store.
    ///
    /// Call `drain` before the application stops. `drain` waits for all fills and refreshes that
    /// are in progress. A fill is one call of a handler whose response may be stored. A refresh is
    /// a call of a handler in the background, to replace a stored response.
    ///
    /// From this call on, no cache over the store begins a fill or a refresh in this process.
    /// Stored responses still answer requests. Every other request goes to its handler, and the
    /// response is not stored ([`Bypass::Draining`](crate::outcome::Bypass::Draining)). A server
    /// that stops drops the background tasks of the cache at once, so drain the cache before you
    /// stop the server:
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn end(cache: actix_web_cache::Cache, server: actix_web::dev::ServerHandle) {
    /// if let Err(error) = cache.drain(Duration::from_secs(5)).await {
    ///     log::warn!("{error}");
    /// }
    /// server.stop(true).await;
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if fills or refreshes are still in progress after `limit`. The pending
    /// fills and refreshes continue, and their responses are stored if the process lives long
    /// enough.
    pub async fn drain(&self, limit: Duration) -> Result<(), DrainError> {
        let coordinator = self.0.store.coordinator();
        coordinator.begin_draining();
        timeout(limit, coordinator.idle()).await.map_err(|_| DrainError {
            limit,
            fills: coordinator.open_fills(),
            refreshes: coordinator.open_refreshes(),
        })
    }

    /// Waits until no fill, no refresh and no write to the store is in progress in this process,
    /// for tests. A fill is one call of a handler whose response may be stored.
    ///
    /// Unlike [`drain`](Self::drain), `idle` does not prevent new fills and refreshes, and has no
    /// time limit: it can wait for as long as requests arrive. After `idle` returned,
    /// [`MemoryStore::len`](crate::MemoryStore::len) counts every stored response.
    ///
    /// ```
    /// # #[actix_web::main]
    /// # async fn main() {
    /// use actix_web::{App, test, web};
    /// use actix_web_cache::{Cache, MemoryStore};
    ///
    /// let store = MemoryStore::new(1024 * 1024);
    /// let cache = Cache::new(store.clone());
    /// let app = App::new().wrap(cache.clone()).route("/", web::get().to(|| async { "page" }));
    /// let app = test::init_service(app).await;
    ///
    /// test::call_and_read_body(&app, test::TestRequest::get().to_request()).await;
    /// cache.idle().await;
    /// assert_eq!(store.len(), 1);
    /// # }
    /// ```
    pub async fn idle(&self) {
        self.0.store.coordinator().idle().await;
    }

    /// Returns a handle that purges stored responses. Use the handle outside of handlers, in
    /// background tasks and message consumers. A handler gets a [`CacheHandle`] as an argument.
    #[must_use]
    pub fn handle(&self) -> CacheHandle {
        CacheHandle::new(SharedRef::new(&self.0), None)
    }
}

/// Returns the cache, or panics with the reason why its configuration is not valid.
#[expect(clippy::panic, reason = "documented, at start-up; another method returns the error")]
fn valid(result: Result<Cache, ConfigError>) -> Cache {
    match result {
        Ok(cache) => cache,
        Err(error) => panic!("{error}"),
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("namespace", &self.0.settings.namespace)
            .field("mode", &self.0.settings.mode.get())
            .field("policy", self.0.policies.base())
            .finish_non_exhaustive()
    }
}

/// The error of [`Cache::drain`] if fills or refreshes are still in progress after the time limit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainError {
    /// The time limit of `drain`.
    pub limit: Duration,
    /// The number of cache keys for which a handler is running or a response is being stored.
    pub fills: usize,
    /// The number of cache keys with background work: a refresh, or a fill whose client has left.
    pub refreshes: usize,
}

impl fmt::Display for DrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "drain timed out after {:?} with {} and {} pending: give it as long as the slowest \
             handler takes",
            self.limit,
            count(self.fills, "fill", "fills"),
            count(self.refreshes, "refresh", "refreshes"),
        )
    }
}

impl StdError for DrainError {}

fn count(number: usize, singular: &str, plural: &str) -> String {
    format!("{number} {}", if number == 1 { singular } else { plural })
}

/// Configures a [`Cache`].
#[must_use]
pub struct CacheBuilder {
    store: Arc<dyn DynStore>,
    config: PolicyConfig,
    settings: Settings,
}

impl CacheBuilder {
    /// Sets the namespace, which separates the stored responses of this application from those of
    /// other applications in the same store. Default: `default`.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.settings.namespace = Arc::from(namespace.into());
        self
    }

    /// Sets the version of the application, such as the hash of its build. Responses that were stored
    /// under another version answer no requests. Default: empty.
    ///
    /// Purges reach the responses of all versions, except purges of a variant
    /// ([`PurgeTarget::variant`](crate::PurgeTarget::variant)), which reach those of this version.
    /// In contrast, caches with different [namespaces](Self::namespace) do not purge each other's
    /// responses.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.settings.version = Arc::from(version.into());
        self
    }

    /// Sets the policy for requests that no rule matches. Default: [`Policy::new`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.config.policy = policy;
        self
    }

    /// Adds a rule after the existing ones. If several rules match a request, the first of them
    /// applies.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.config.rules.push(rule);
        self
    }

    /// Adds rules after the existing ones.
    pub fn rules(mut self, rules: impl IntoIterator<Item = Rule>) -> Self {
        self.config.rules.extend(rules);
        self
    }

    /// Adds options to which routes refer by their name, with
    /// [`CachePolicy::named`](crate::CachePolicy::named). The name must not be empty, and each name
    /// can be added once.
    ///
    /// Caches that are made from this cache, such as by [`Cache::with`], have the same options. A
    /// route finds the options of the innermost cache around it.
    pub fn options(mut self, name: impl Into<String>, options: ResponseOptions) -> Self {
        Arc::make_mut(&mut self.settings.options).add(name.into(), options);
        self
    }

    /// Adds the settings of a file: changes the policy, adds rules after the existing ones, and adds
    /// named options. Call it after [`policy`](Self::policy), which replaces the policy.
    #[cfg(feature = "serde")]
    #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
    pub fn file(mut self, file: CacheFile) -> Self {
        let CacheFile { policy, rules, rules_only, options } = file;
        self.config.policy = policy.apply(self.config.policy);
        let builder = self.rules(rules);
        let builder = if rules_only { builder.rules_only() } else { builder };
        options.into_iter().fold(builder, |builder, (name, options)| builder.options(name, options))
    }

    /// Lets requests that no rule matches bypass the cache. By default, the policy applies to these
    /// requests. At least one rule must cache requests.
    pub const fn rules_only(mut self) -> Self {
        self.config.unmatched = Unmatched::Pass;
        self
    }

    /// Turns the cache on or off. Default: [`Mode::On`]. The application can choose the mode at
    /// start-up: the type of the middleware is the same in all modes.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.settings.mode = SharedMode::new(mode);
        self
    }

    /// Sets the clock of the cache. Default: the clocks of the machine. Tests use a `ManualClock`
    /// (feature `test-util`).
    pub fn clock(mut self, clock: Clock) -> Self {
        self.settings.clock = clock;
        self
    }

    /// Sets the longest time that a request waits for a lookup in the store. After this time, the
    /// cache calls the handler and does not store the response. Default: 50 ms. A memory store
    /// answers at once.
    pub const fn lookup_timeout(mut self, limit: Duration) -> Self {
        self.settings.lookup_timeout = limit;
        self
    }

    /// Sets the longest time that a write, a removal or an invalidation in the store may take.
    /// Default: 250 ms. A purge that takes longer returns an error. A response whose write takes
    /// longer is not stored.
    pub const fn store_timeout(mut self, limit: Duration) -> Self {
        self.settings.store_timeout = limit;
        self
    }

    /// Sets a function that receives the [`Outcome`] of the requests to the cache, for example for
    /// metrics.
    ///
    /// The cache calls the function once for each request, as soon as the outcome is known. The
    /// cache also calls the function once for each call of a handler in the background. The
    /// function runs before the response is sent, so it must not block. The function is not called
    /// if the inner service returns an `Err`, if an inner cache reports the request, or with
    /// [`Mode::Off`].
    pub fn observer(
        mut self,
        observer: impl Fn(&RequestHead, &Outcome) + Send + Sync + 'static,
    ) -> Self {
        self.settings.observer = Some(Arc::new(observer));
        self
    }

    /// Sets a function that receives each purge and each expiry that this process carries out, for
    /// example to tell a CDN in front of the application.
    ///
    /// The cache calls the function after a purge by a [`CacheHandle`], and after a purge by an unsafe
    /// request (such as a `POST`), when the store has confirmed it. The function is called once for
    /// each target, and in no other process that shares the store. It is also called if the store
    /// failed and has queued the purge ([`PurgeState::Queued`](crate::PurgeState::Queued)), because the
    /// application does not repeat such a purge. It is not called after a purge that was lost
    /// ([`PurgeError::Store`](crate::PurgeError::Store)): the application has to repeat it. A lost
    /// purge by a request is only logged. The removal of a single outdated response, such as after a
    /// response to `HEAD`, is no purge.
    ///
    /// The function runs on the thread of the request before the purge returns, so it must not block.
    /// Let it send the event to a task:
    ///
    /// ```
    /// # use actix_web_cache::{Cache, ConfigError, MemoryStore, Policy, PurgeEvent, PurgeScope};
    /// # async fn purge_in_cdn(tags: &[String]) {}
    /// # fn cache(store: MemoryStore) -> Result<Cache, ConfigError> {
    /// let (sender, mut events) = tokio::sync::mpsc::unbounded_channel::<PurgeEvent>();
    /// let cache = Cache::builder(store)
    ///     .policy(Policy::new().emit_tags("Surrogate-Key"))
    ///     .on_purge(move |event| {
    ///         // There is no receiver only while the server stops.
    ///         let _ = sender.send(event.clone());
    ///     })
    ///     .build()?;
    /// let task = async move {
    ///     while let Some(event) = events.recv().await {
    ///         let tags: Vec<_> = event.emitted_tags().map(|tag| tag.into_owned()).collect();
    ///         purge_in_cdn(&tags).await;
    ///     }
    /// };
    /// # drop(task);
    /// # Ok(cache)
    /// # }
    /// ```
    pub fn on_purge(mut self, observer: impl Fn(&PurgeEvent) + Send + Sync + 'static) -> Self {
        self.settings.on_purge = Some(Arc::new(observer));
        self
    }

    /// Omits the response field `Cache-Status` (RFC 9211). By default, responses have this field.
    /// `Cache-Status` tells clients whether a response was stored, but contains no cache key and no
    /// content.
    pub const fn without_cache_status(mut self) -> Self {
        self.settings.cache_status = FieldOutput::Omitted;
        self
    }

    /// Writes `X-Cache: hit` into a response that the handler did not make for this request: a stored
    /// response, or the response to another request at the same time. Writes `X-Cache: miss` into a
    /// response that is being stored. By default, responses have no `X-Cache`.
    pub const fn x_cache(mut self) -> Self {
        self.settings.x_cache = FieldOutput::Written;
        self
    }

    /// Makes the cache. Logs a warning for each rule that never applies, because an earlier rule
    /// matches all of its requests.
    ///
    /// # Errors
    ///
    /// Returns an error if the configuration is not valid. The error message says how to correct
    /// the configuration.
    pub fn build(self) -> Result<Cache, ConfigError> {
        for (rule, earlier) in shadowed_rules(&self.config.rules) {
            log::warn!(
                "the rule for {} never applies, because the rule for {} before it matches all of \
                 its requests: add it earlier, or remove it",
                rule.subject(),
                earlier.subject()
            );
        }
        self.finish()
    }

    /// Checks the configuration, and makes the cache.
    fn finish(self) -> Result<Cache, ConfigError> {
        let Self { store, config, settings } = self;
        let defaults = Settings::new();
        for (setting, limit, default) in [
            ("lookup_timeout", settings.lookup_timeout, defaults.lookup_timeout),
            ("store_timeout", settings.store_timeout, defaults.store_timeout),
        ] {
            if limit.is_zero() {
                return Err(ConfigError::ZeroLimit { setting, default });
            }
        }
        settings.options.check()?;
        let policies = PolicySet::new(config, (&*settings.namespace, &*settings.version))?;
        let shared = Arc::new(Shared {
            store,
            policies,
            settings,
            met_cloned_request: AtomicBool::new(false),
        });
        let own = shared.policies.largest_body_size();
        let of_store = shared.store.max_body_size();
        if own > of_store && own != DEFAULT_MAX_BODY_SIZE {
            log::warn!(
                "max_body_size is {own} bytes, but the store accepts bodies of at most {of_store} \
                 bytes: larger ones are not stored. Make the store larger, or lower max_body_size"
            );
        }
        if shared.policies.compress() && !shared.store.supports_coded_copies() {
            log::warn!(
                "compress is set, but the store keeps no coded copies, so each hit is compressed \
                 again: implement put_coded_copy in the store"
            );
        }
        let url_keys: Weak<dyn UrlKeys> = Arc::<Shared>::downgrade(&shared);
        shared.store.coordinator().register_cache(url_keys);
        Ok(Cache(shared))
    }
}

impl fmt::Debug for CacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("namespace", &self.settings.namespace)
            .field("policy", &self.config.policy)
            .field("rules", &self.config.rules)
            .finish_non_exhaustive()
    }
}

impl<S, B> Transform<S, ServiceRequest> for Cache
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<CacheBody<B>>;
    type Error = Error;
    type Transform = CacheMiddleware<S>;
    type InitError = ();
    type Future = future::Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        future::ready(Ok(CacheMiddleware::new(Rc::new(inner), SharedRef::new(&self.0))))
    }
}
