//! Sessions of actix-session. A response that may depend on the session of its request is not stored.
//!
//! actix-session does not record which entries a handler reads. Each session with entries may
//! therefore have changed the response. A handler that writes an entry may have put the entry into the
//! response, too: a token against forged requests, for example.

#[cfg_attr(feature = "session", path = "actix.rs")]
#[cfg_attr(not(feature = "session"), path = "absent.rs")]
mod implementation;

pub(crate) use implementation::{SessionBefore, has_entries};
