//! HTTP response caching for actix-web 4.

mod clock;
mod key;
mod outcome;
mod semantics;
mod stamp;
mod stored;
mod tag;
mod time;

pub use crate::{clock::Clock, key::*, outcome::*, stamp::Stamp, stored::*, tag::TagId, time::Now};
#[cfg(feature = "test-util")]
pub use crate::clock::ManualClock;
