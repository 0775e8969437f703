//! What all instances of one cache share, on all threads.

use std::sync::Arc;

use actix_web::dev::RequestHead;

use crate::{
    clock::Clock,
    key::{Names, NamesUrls, Target},
    outcome::Outcome,
    policy::Checked,
    store::Erased,
};

/// One cache: its store, its policy, its settings.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Erased>,
    pub(crate) checked: Checked,
    pub(crate) settings: Settings,
}

/// What scopes and routes inherit from their cache.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) namespace: Arc<str>,
    pub(crate) mode: Mode,
    pub(crate) clock: Clock,
    pub(crate) observer: Option<Observer>,
    pub(crate) cache_status: Field,
    pub(crate) x_cache: Field,
}

pub(crate) type Observer = Arc<dyn Fn(&RequestHead, &Outcome) + Send + Sync>;

/// Whether a header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Written,
    Omitted,
}

/// Whether a cache does anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// It does.
    #[default]
    On,
    /// Every request passes untouched, as if the cache were not there: for development.
    Off,
}

impl NamesUrls for Shared {
    fn namespace(&self) -> &str {
        &self.settings.namespace
    }

    fn names_of(&self, target: &Target) -> Names {
        self.checked.names_of(target)
    }
}
