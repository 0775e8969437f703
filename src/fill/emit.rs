//! Writes the tags of responses that are not stored into response fields. A CDN in front of the
//! application may store these responses, and needs the tags for its purges.

use actix_web::{HttpMessage, dev::ServiceResponse, http::header::HeaderMap};

use super::candidate::Candidate;
use crate::{
    entry::response::StoredResponse,
    named_options::NamedOptions,
    options::handler_tags,
    policy::{compiled::CompiledPolicy, response_tags::RequestTags},
    semantics::{client_lifetime::forbid_sharing, tags::TagsTooLong},
};

/// Writes the tags of a response that is not stored into the fields that the policy names for them.
/// If the tags are too long, forbids the CDN to store the response.
pub(crate) fn emit_tags<B>(
    policy: &CompiledPolicy,
    options: &NamedOptions,
    request_tags: &RequestTags,
    response: &mut ServiceResponse<B>,
) {
    if !policy.emits_tags() {
        return;
    }
    let handler_tags =
        handler_tags(&response.request().extensions(), &response.response().extensions(), |name| {
            options.find(name)
        });
    let emitted = policy.emitted_tags(request_tags, &handler_tags, response.headers(), None);
    let fields = response.headers_mut();
    match emitted {
        Ok(emitted) => {
            for (name, value) in emitted {
                fields.insert(name, value);
            }
        }
        Err(TagsTooLong) => {
            log::debug!(
                "the tags are too long for a CDN, which is forbidden to store the response"
            );
            forbid_sharing(fields);
        }
    }
}

impl Candidate {
    /// Writes the tags that a stored response lists, and those of the 304 that validated it, into
    /// `fields`. These are the fields of the response after the validation, if the result is not
    /// stored.
    pub(crate) fn emit_known_tags(
        &self,
        stored: &StoredResponse,
        not_modified: &HeaderMap,
        fields: &mut HeaderMap,
    ) {
        let known = self.policy().emitted_tags(&self.request_tags, &[], not_modified, Some(stored));
        match known {
            Ok(known) => known.into_iter().for_each(|(name, value)| {
                fields.insert(name, value);
            }),
            Err(TagsTooLong) => forbid_sharing(fields),
        }
    }
}
