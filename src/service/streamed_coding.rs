//! Codes the responses that leave the cache without a coded copy, for clients that accept a content
//! coding ([`Policy::compress`](crate::Policy::compress)).

use actix_web::{
    HttpResponse,
    body::MessageBody,
    dev::{RequestHead, ServiceRequest, ServiceResponse},
    http::header::ACCEPT_ENCODING,
};

use super::context::RequestContext;
use crate::{
    entry::response::StoredResponse,
    response::{
        body::CacheBody, representation::StreamedCoding, streamed_coding::code_while_sending,
    },
    semantics::{
        accept_encoding::AcceptedCodings,
        coded_copies::forbids_transformation,
        streamed_coding::{Content, VaryOrigin, vary_on_coding, weaken_tag_of_coded},
    },
};

impl RequestContext {
    /// Codes a response of the handler while it is sent to the client, if the client accepts that and
    /// the policy codes such responses.
    pub(crate) fn code_while_sending<B: MessageBody>(
        &self,
        response: ServiceResponse<CacheBody<B>>,
        vary: VaryOrigin,
    ) -> ServiceResponse<CacheBody<B>> {
        if self.policy().compression().is_none() {
            return response;
        }
        let (request, response) = response.into_parts();
        let response = self.code_response(request.head(), response, vary);
        ServiceResponse::new(request, response)
    }

    /// Codes the response of a leader while it is sent to the client of a follower. `draft` is the
    /// response that is being stored.
    pub(super) fn code_followed<B: MessageBody>(
        &self,
        request: &ServiceRequest,
        response: HttpResponse<CacheBody<B>>,
        draft: &StoredResponse,
    ) -> HttpResponse<CacheBody<B>> {
        let mut selecting = draft.selecting.iter().map(|(name, _)| name);
        let vary = match selecting.any(|name| *name == ACCEPT_ENCODING) {
            true => VaryOrigin::Handler,
            false => VaryOrigin::Cache,
        };
        self.code_response(request.head(), response, vary)
    }

    /// Codes a response to a request with this head, as
    /// [`code_while_sending`](Self::code_while_sending) does.
    fn code_response<B: MessageBody>(
        &self,
        request: &RequestHead,
        mut response: HttpResponse<CacheBody<B>>,
        vary: VaryOrigin,
    ) -> HttpResponse<CacheBody<B>> {
        let status = response.status();
        let Some(compression) = self.policy().codes_while_sending(status, response.headers(), vary)
        else {
            return response;
        };
        let content =
            Content::of(&request.method, status, response.body().size(), response.headers());
        match content {
            Content::Empty => return response,
            Content::Present(Some(length)) if length < compression.min_size as u64 => {
                return response;
            }
            Content::Present(_) | Content::Described => vary_on_coding(response.headers_mut()),
        }
        // RFC 9111 section 5.2.1.6.
        if StreamedCoding::by(request.version) == StreamedCoding::Impossible
            || forbids_transformation(&request.headers)
        {
            return response;
        }
        let coding = AcceptedCodings::of(&request.headers).preferred(&compression.codings).first();
        match (coding, content) {
            (Some(coding), Content::Present(_)) => {
                code_while_sending(&request.method, response, coding)
            }
            (Some(_), Content::Described) => {
                weaken_tag_of_coded(&request.headers, response.headers_mut());
                response
            }
            (Some(_), Content::Empty) | (None, _) => response,
        }
    }
}
