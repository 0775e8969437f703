//! Adapts requests to a handler that does not know in which content codings clients have its responses.

use actix_web::{
    dev::ServiceRequest,
    http::header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE},
};

use super::{context::RequestContext, request::headers_mut};
use crate::semantics::{
    accept_encoding::AcceptedCodings, coded_copies::with_tags_of_handler, fields::field_lines,
    invalidation::is_safe, streamed_coding::has_range_by_date,
};

impl RequestContext {
    /// Adapts the conditions of a request that the cache passes on to those that the handler knows.
    pub(super) fn adapt_to_codings(&self, request: &mut ServiceRequest) {
        self.name_tags_of_handler(request);
        self.remove_range_by_date(request);
    }

    /// Names the entity tags of the handler in `If-Match` of a request to the handler, and in
    /// `If-None-Match` of an unsafe request, beside the tags of coded responses that the client has.
    /// The handler does not know these tags, so it would refuse the request (412).
    fn name_tags_of_handler(&self, request: &mut ServiceRequest) {
        if self.policy().compression().is_none() {
            return;
        }
        let is_unsafe = !is_safe(request.method());
        for (name, applies) in [(IF_MATCH, true), (IF_NONE_MATCH, is_unsafe)] {
            let lines = field_lines(request.headers(), &name);
            if applies
                && let Some(list) = with_tags_of_handler(lines)
                && let Some(fields) = headers_mut(&self.shared, request)
            {
                fields.insert(name, list);
            }
        }
    }

    /// Removes the range that a request wants if the response is still from a date, so that the
    /// client gets the complete response (RFC 9110 section 14.2). The client may have a part of the
    /// response as the cache coded it, and the handler would send other bytes.
    pub(super) fn remove_range_by_date(&self, request: &mut ServiceRequest) {
        let Some(compression) = self.policy().compression() else { return };
        let may_have_coded = has_range_by_date(request.headers()) && {
            let accepted = AcceptedCodings::of(request.headers());
            accepted.preferred(&compression.codings).first().is_some()
        };
        if may_have_coded && let Some(fields) = headers_mut(&self.shared, request) {
            fields.remove(RANGE);
            fields.remove(IF_RANGE);
        }
    }
}
