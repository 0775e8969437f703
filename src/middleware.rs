//! The front door: what is wrapped around an application, a scope, a resource or a route.

use std::{
    error::Error as StdError,
    fmt, future,
    rc::Rc,
    sync::{Arc, Weak},
    time::Duration,
};

use actix_service::{Service, Transform};
use actix_web::{
    Error,
    body::MessageBody,
    dev::{RequestHead, ServiceRequest, ServiceResponse},
};
use tokio::time::timeout;

use crate::{
    clock::Clock,
    entry::url_keys::UrlKeys,
    outcome::Outcome,
    policy::{CompiledPolicy, ConfigError, Policy, Rule, Unmatched},
    purge::handle::CacheHandle,
    response::body::CacheBody,
    service::CacheMiddleware,
    shared::{Field, Mode, Settings, Shared},
    store::erased::DynStore,
    store::interface::Store,
};

/// An HTTP response cache, as a middleware.
///
/// It answers `GET` and `HEAD` from its store where RFC 9111 and its [`Policy`] allow, and stores
/// what handlers answer otherwise. Make one (or one store) outside of the application's factory,
/// so that all worker threads share it:
///
/// ```no_run
/// use actix_web::{App, HttpServer, web};
/// use actix_web_cache::{Cache, MemoryStore};
///
/// # async fn slow_page() -> &'static str { "page" }
/// #[actix_web::main]
/// async fn main() -> std::io::Result<()> {
///     let store = MemoryStore::new(64 * 1024 * 1024);
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
/// Several may be nested: the innermost around a handler is responsible for its responses, and
/// those further out step aside.
///
/// Middlewares registered before it with `wrap` are inside, those after it are outside. Keep what
/// makes answers personal (sessions, identity) outside and what negotiates (`Compress`) outside
/// too, so that one stored response serves all.
#[derive(Clone)]
pub struct Cache(pub(crate) Arc<Shared>);

impl Cache {
    /// A cache with the default [`Policy`] over `store`. Caches made of clones of one store share
    /// what is stored, wherever they are made.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the defaults are valid, as a test shows")]
    pub fn new<S: Store>(store: S) -> Self {
        Self::builder(store).build().expect("the default configuration is valid")
    }

    /// A cache to be configured.
    pub fn builder<S: Store>(store: S) -> CacheBuilder {
        CacheBuilder {
            store: Arc::new(store),
            policy: Policy::new(),
            rules: Vec::new(),
            unmatched: Unmatched::Policy,
            settings: Settings {
                namespace: Arc::from("default"),
                mode: Mode::On,
                clock: Clock::system(),
                observer: None,
                cache_status: Field::Written,
                x_cache: Field::Omitted,
            },
        }
    }

    /// The same store and settings under another policy, without rules: for a scope or a route.
    ///
    /// # Panics
    ///
    /// At start-up, if the policy cannot work; [`CacheBuilder::build`] returns such an error.
    #[must_use]
    #[expect(clippy::panic, reason = "documented, at start-up; the builder returns the error")]
    pub fn with_policy(&self, policy: Policy) -> Self {
        let builder = CacheBuilder {
            store: Arc::clone(&self.0.store),
            policy,
            rules: Vec::new(),
            unmatched: Unmatched::Policy,
            settings: self.0.settings.clone(),
        };
        match builder.build() {
            Ok(cache) => cache,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until everything is stored that is on its way into the store, for no longer than
    /// `limit`: for an application that is about to end.
    ///
    /// From this call on the store, in this process, takes in nothing new, whichever cache it is
    /// under: hits are answered as ever, all other requests go to their handlers
    /// ([`Bypass::Draining`](crate::outcome::Bypass::Draining)), and nothing is refreshed. A server that is
    /// stopped drops what runs in the background at once, so drain first, then stop it:
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn end(cache: actix_web_cache::Cache, server: actix_web::dev::ServerHandle) {
    /// if let Err(left) = cache.drain(Duration::from_secs(5)).await {
    ///     log::warn!("{left}");
    /// }
    /// server.stop(true).await;
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If something is left; it goes on, and is stored if it has the time.
    pub async fn drain(&self, limit: Duration) -> Result<(), DrainError> {
        let coordinator = self.0.store.coordinator();
        coordinator.begin_draining();
        timeout(limit, coordinator.idle()).await.map_err(|_| DrainError {
            fills: coordinator.open_fills(),
            refreshes: coordinator.open_refreshes(),
        })
    }

    /// For purging from outside of handlers: background tasks, message consumers. Handlers get
    /// theirs as an argument.
    #[must_use]
    pub fn handle(&self) -> CacheHandle {
        CacheHandle::new(Arc::clone(&self.0), None)
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("namespace", &self.0.settings.namespace)
            .field("mode", &self.0.settings.mode)
            .field("policy", &self.0.checked)
            .finish_non_exhaustive()
    }
}

/// What [`Cache::drain`] did not wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainError {
    /// Keys whose responses are still being made or stored.
    pub fills: usize,
    /// Keys that are still worked for in the background.
    pub refreshes: usize,
}

impl fmt::Display for DrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the cache was given too little time to end: {} fills and {} refreshes go on; give it \
             the time that handlers take",
            self.fills, self.refreshes
        )
    }
}

impl StdError for DrainError {}

/// Configures a [`Cache`].
#[must_use]
pub struct CacheBuilder {
    store: Arc<dyn DynStore>,
    policy: Policy,
    rules: Vec<Rule>,
    unmatched: Unmatched,
    settings: Settings,
}

impl CacheBuilder {
    /// What tells this application's entries from others' in the same store. Default `default`.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.settings.namespace = Arc::from(namespace.into());
        self
    }

    /// What is cached unless a rule says otherwise. Default [`Policy::new`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Adds a rule after those already there: the first that matches decides.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Adds rules.
    pub fn rules(mut self, rules: impl IntoIterator<Item = Rule>) -> Self {
        self.rules.extend(rules);
        self
    }

    /// Caches only what a rule is for. Default: what no rule is for is cached as the policy says.
    pub const fn rules_only(mut self) -> Self {
        self.unmatched = Unmatched::Pass;
        self
    }

    /// Turns the cache off without changing the application's type. Default [`Mode::On`].
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.settings.mode = mode;
        self
    }

    /// Where the time comes from. Default: the machine; tests bring a `ManualClock` (feature
    /// `test-util`).
    pub fn clock(mut self, clock: Clock) -> Self {
        self.settings.clock = clock;
        self
    }

    /// Called once a request, when it is known what became of it, and once more for each
    /// run of a handler in the background: for metrics. It runs on the request's way, so it must not block.
    pub fn observer(
        mut self,
        observer: impl Fn(&RequestHead, &Outcome) + Send + Sync + 'static,
    ) -> Self {
        self.settings.observer = Some(Arc::new(observer));
        self
    }

    /// Writes no `Cache-Status` (RFC 9211). Default: it is written; it tells clients whether a
    /// response was stored, but no key and no content.
    pub const fn without_cache_status(mut self) -> Self {
        self.settings.cache_status = Field::Omitted;
        self
    }

    /// Writes `X-Cache: hit` or `X-Cache: miss` on what came from or goes into the store.
    /// Default: not written.
    pub const fn x_cache(mut self) -> Self {
        self.settings.x_cache = Field::Written;
        self
    }

    /// Makes the cache.
    ///
    /// # Errors
    ///
    /// If the configuration cannot work; the error says what to do.
    pub fn build(self) -> Result<Cache, ConfigError> {
        let checked =
            CompiledPolicy::new(self.policy, self.rules, self.unmatched, &self.settings.namespace)?;
        let shared = Arc::new(Shared { store: self.store, checked, settings: self.settings });
        let named: Weak<dyn UrlKeys> = Arc::<Shared>::downgrade(&shared);
        shared.store.coordinator().register_cache(named);
        Ok(Cache(shared))
    }
}

impl fmt::Debug for CacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("namespace", &self.settings.namespace)
            .field("policy", &self.policy)
            .field("rules", &self.rules)
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
        future::ready(Ok(CacheMiddleware::new(Rc::new(inner), Arc::clone(&self.0))))
    }
}
