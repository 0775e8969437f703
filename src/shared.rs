//! The store, the policies and the settings of one cache. All clones of a `Cache` share them, on all
//! threads.

use std::{
    borrow::Cow,
    ops::Deref,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use actix_web::{
    HttpMessage as _, HttpRequest,
    dev::{Extensions, RequestHead},
    http::header::{CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue},
};

use crate::{
    clock::{Clock, Timestamp},
    entry::{
        content_coding::ContentCoding,
        key::CacheKey,
        response::StoredResponse,
        selector::Selects,
        url::UrlTarget,
        url_keys::{AppliedRule, UrlKey, UrlKeys},
    },
    named_options::NamedOptions,
    outcome::Outcome,
    policy::{compiled::CompiledPolicy, policy_set::PolicySet},
    poll_once::within,
    purge_event::PurgeEvent,
    semantics::{
        accept_encoding::{AcceptedCodings, accepts_all_codings},
        compression::accepts_compression,
        vary::selecting_value,
    },
    store::{erased::DynStore, interface::StoreError},
};

/// The store, the policies and the settings of one cache.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn DynStore>,
    pub(crate) policies: PolicySet,
    pub(crate) settings: Settings,
    /// Whether the cache has received a request that it could not change, because a middleware held
    /// a clone of the request.
    pub(crate) met_cloned_request: AtomicBool,
}

/// A reference to the state of a cache, for the requests of one worker thread.
///
/// Each request counts its references. The count of a worker is in memory of its own, so that the
/// workers do not wait for each other when they change it.
#[derive(Clone)]
#[expect(clippy::redundant_allocation, reason = "the outer count is the one of a worker")]
pub(crate) struct SharedRef(Arc<Arc<Shared>>);

impl SharedRef {
    /// Makes the reference from which the requests of a worker, or the calls of a handle, make theirs.
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::new(Arc::clone(shared)))
    }
}

impl Deref for SharedRef {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Shared {
    /// Returns the present time by the clock of the cache.
    pub(crate) fn now(&self) -> Timestamp {
        self.settings.clock.now()
    }

    /// Returns the policy of a rule, or that of the cache.
    pub(crate) fn policy(&self, rule: AppliedRule) -> &CompiledPolicy {
        self.policies.policy(rule)
    }

    /// Returns the size in bytes of the largest body that is stored, by the policy of `rule` and by
    /// the store.
    pub(crate) fn max_body_size(&self, rule: AppliedRule) -> usize {
        self.policy(rule).max_body_size().min(self.store.max_body_size())
    }

    /// Waits for a call of the store that writes, removes or invalidates responses. Returns an
    /// error if the call takes longer than [`Settings::store_timeout`].
    pub(crate) async fn within_store_timeout<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let limit = self.settings.store_timeout;
        let result = within(limit, call).await;
        result.unwrap_or_else(|| Err(StoreError::new(format!("it took longer than {limit:?}"))))
    }

    /// Logs a failure of the store. At most one failure in 30 seconds is logged as a warning, and
    /// all others as trace messages.
    pub(crate) fn warn_about_store(&self, error: &StoreError) {
        if self.store.coordinator().should_warn_about_store(self.now()) {
            log::warn!("{}; requests go to their handlers", error.with_cause());
        } else {
            log::trace!("{}", error.with_cause());
        }
    }
}

/// The header fields of a request, by which a lookup selects a variant. `cache` normalizes the
/// values of the fields before they are compared.
pub(crate) struct ComparedFields<'a> {
    pub(crate) fields: &'a HeaderMap,
    pub(crate) cache: &'a dyn UrlKeys,
    /// The rule that applies to the request.
    pub(crate) rule: AppliedRule,
    /// The content codings of the copies that the policy of the rule makes.
    pub(crate) offered: &'a [ContentCoding],
}

impl Selects for ComparedFields<'_> {
    fn value(&self, name: &HeaderName) -> Option<Cow<'_, [u8]>> {
        self.cache.value(self.rule, self.fields, name)
    }

    fn accepts_coding(&self) -> bool {
        accepts_compression(self.fields)
    }

    fn decodes(&self, response: &StoredResponse) -> bool {
        let codings = response.lines(&CONTENT_ENCODING).map(HeaderValue::as_bytes);
        accepts_all_codings(self.fields, codings)
    }

    fn preferred_coding(&self) -> Option<ContentCoding> {
        if self.offered.is_empty() {
            return None;
        }
        AcceptedCodings::of(self.fields).preferred(self.offered).first()
    }
}

/// The settings of a cache, except its policy and its rules. `Cache::with` and
/// `Cache::with_policy` copy the settings of the original cache.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) namespace: Arc<str>,
    /// The part of each cache key that separates the responses of builds.
    pub(crate) version: Arc<str>,
    pub(crate) mode: SharedMode,
    pub(crate) clock: Clock,
    pub(crate) observer: Option<Observer>,
    /// The options to which routes refer by name.
    pub(crate) options: Arc<NamedOptions>,
    pub(crate) on_purge: Option<PurgeObserver>,
    pub(crate) cache_status: FieldOutput,
    pub(crate) x_cache: FieldOutput,
    /// The longest time that a request waits for a lookup in the store. After this time, the cache
    /// calls the handler.
    pub(crate) lookup_timeout: Duration,
    /// The longest time that a write, a removal or an invalidation in the store may take.
    pub(crate) store_timeout: Duration,
}

impl Settings {
    /// Makes the default settings.
    pub(crate) fn new() -> Self {
        Self {
            namespace: Arc::from("default"),
            version: Arc::from(""),
            mode: SharedMode::new(Mode::On),
            clock: Clock::system(),
            observer: None,
            options: Arc::default(),
            on_purge: None,
            cache_status: FieldOutput::Written,
            x_cache: FieldOutput::Omitted,
            lookup_timeout: Duration::from_millis(50),
            store_timeout: Duration::from_millis(250),
        }
    }
}

/// The function that receives purges and expiries ([`CacheBuilder::on_purge`]).
///
/// [`CacheBuilder::on_purge`]: crate::CacheBuilder::on_purge
pub(crate) type PurgeObserver = Arc<dyn Fn(&PurgeEvent) + Send + Sync>;

pub(crate) type Observer = Arc<dyn Fn(&RequestHead, &Outcome) + Send + Sync>;

/// Whether the cache writes a response field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldOutput {
    Written,
    Omitted,
}

/// Whether a cache is on or off. [`CacheBuilder::mode`](crate::CacheBuilder::mode) sets the mode at
/// start-up, and [`CacheHandle::set_mode`](crate::CacheHandle::set_mode) changes it later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Mode {
    /// The cache stores responses and answers requests from them.
    #[default]
    On,
    /// Every request bypasses the cache (`detail=mode`), but unsafe requests, such as a `POST`, still
    /// purge stored responses. After a change to [`On`](Self::On), the stored responses are
    /// therefore as good as before. This mode is useful to look for a fault in a running
    /// application.
    Bypass,
    /// Every request goes to its handler unchanged, as without a cache, and responses are not
    /// compressed. Unsafe requests purge nothing, so call
    /// [`CacheHandle::purge_all`](crate::CacheHandle::purge_all) before a change to another mode.
    /// This mode is useful in development.
    Off,
}

/// The mode of a cache and of the caches that were made from it. Clones share one mode.
#[derive(Debug, Clone)]
pub(crate) struct SharedMode(Arc<AtomicU8>);

impl SharedMode {
    pub(crate) fn new(mode: Mode) -> Self {
        Self(Arc::new(AtomicU8::new(mode as u8)))
    }

    pub(crate) fn get(&self) -> Mode {
        let value = self.0.load(Ordering::Relaxed);
        let modes = [Mode::Bypass, Mode::Off];
        modes.into_iter().find(|mode| *mode as u8 == value).unwrap_or(Mode::On)
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.0.store(mode as u8, Ordering::Relaxed);
    }
}

/// The marker of a request by which an inner cache or a handler finds the caches around it. `shared` is
/// the innermost cache that the request has passed. `layers` is the number of caches that the
/// request has passed.
pub(crate) struct EnclosingCache {
    pub(crate) shared: SharedRef,
    pub(crate) layers: u8,
}

impl EnclosingCache {
    /// Makes the application data with which an outermost cache marks its requests. All requests of a
    /// service share them, so that a mark needs no allocation.
    pub(crate) fn outermost(shared: &SharedRef) -> Rc<Extensions> {
        let mut data = Extensions::new();
        data.insert(Self { shared: shared.clone(), layers: 1 });
        Rc::new(data)
    }

    /// Reads the marker of the innermost cache around the code that has this request. `None` if there
    /// is no cache.
    pub(crate) fn find<T>(request: &HttpRequest, read: impl Fn(&Self) -> T) -> Option<T> {
        // Only a cache inside another one, or one around a route, marks the extensions. An outer cache
        // of it may have marked the application data.
        let inner = request.extensions().get().map(&read);
        inner.or_else(|| request.app_data().map(read))
    }
}

impl UrlKeys for Shared {
    fn namespace(&self) -> &str {
        &self.settings.namespace
    }

    fn keys_for_url(&self, target: &UrlTarget) -> Vec<UrlKey> {
        self.policies.keys_for_url(target)
    }

    fn key_for_fields(&self, url: &UrlKey, fields: &HeaderMap) -> Option<CacheKey> {
        self.policy(url.rule).key_for_fields(&url.key, fields)
    }

    fn value<'a>(
        &self,
        rule: AppliedRule,
        fields: &'a HeaderMap,
        name: &HeaderName,
    ) -> Option<Cow<'a, [u8]>> {
        selecting_value(fields, name, &self.policy(rule).comparison)
    }
}
