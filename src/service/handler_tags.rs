//! Names the entity tags of the handler in requests that name those of coded copies.

use actix_web::{
    dev::ServiceRequest,
    http::header::{IF_MATCH, IF_NONE_MATCH},
};

use super::{context::RequestContext, request::headers_mut};
use crate::semantics::{
    coded_copies::with_tags_of_handler, fields::field_lines, invalidation::is_safe,
};

impl RequestContext {
    /// Names the entity tags of the handler in `If-Match` of a request to the handler, and in
    /// `If-None-Match` of an unsafe request, beside the tags of coded copies that the client has. The
    /// handler does not know the copies, so it would refuse the request (412).
    pub(super) fn name_tags_of_handler(&self, request: &mut ServiceRequest) {
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
}
