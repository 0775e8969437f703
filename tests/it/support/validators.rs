//! Validators, and the request fields by which the recording application sends them.

use std::time::UNIX_EPOCH;

use super::{START, secs};

pub(crate) const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
pub(crate) const TAG: (&str, &str) = ("answer", "etag: \"a\"");
/// `Last-Modified` with the date [`EARLY`].
pub(crate) const MODIFIED: (&str, &str) =
    ("answer", "last-modified: Sun, 06 Nov 1994 08:49:37 GMT");
pub(crate) const MINUTE: (&str, &str) = ("answer", "cache-control: max-age=60");
/// The handler answers 304.
pub(crate) const UNCHANGED: (&str, &str) = ("answer-status", "304");
/// The `Cache-Status` of a response that the handler validated.
pub(crate) const VALIDATED: &str = "fwd=stale; fwd-status=304; stored";

/// The date `second` seconds after the initial time of manual clocks.
pub(crate) fn http_date(second: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + secs(START + second))
}
