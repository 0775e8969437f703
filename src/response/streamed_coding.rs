//! Codes responses while they are sent to clients.

use actix_web::{
    HttpResponse,
    body::MessageBody,
    http::{Method, StatusCode},
};

use super::{body::CacheBody, representation::Representation};
use crate::{
    entry::content_coding::ContentCoding,
    semantics::{
        body::declared_length,
        streamed_coding::{VaryOrigin, describe_coding},
    },
};

/// Whether the cache still has to decide if it codes a response while it sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodingDecision {
    /// The response is coded, if it should be.
    Made,
    /// The decision is due, by the fields of the response.
    Due(VaryOrigin),
}

/// Codes the body of a response while a client receives it. A response to HEAD gets the fields that a
/// response to GET would have.
pub(crate) fn code_while_sending<B: MessageBody>(
    method: &Method,
    response: HttpResponse<CacheBody<B>>,
    coding: ContentCoding,
) -> HttpResponse<CacheBody<B>> {
    response.map_body(|head, body| {
        let coded = if *method == Method::HEAD {
            Ok(CacheBody::omitted())
        } else {
            let length = declared_length(body.size(), head.headers());
            body.coded(coding, length)
        };
        if coded.is_ok() {
            describe_coding(head.headers_mut(), coding);
            // The handler may have stated a length, which the coded body does not have.
            head.no_chunking(false);
        }
        coded.unwrap_or_else(|uncoded| uncoded)
    })
}

impl Representation {
    /// Codes the complete response to a request, if the representation is one that is coded while it is
    /// sent.
    pub(crate) fn code_while_sending<B: MessageBody>(
        &self,
        method: &Method,
        response: HttpResponse<CacheBody<B>>,
    ) -> HttpResponse<CacheBody<B>> {
        match self {
            Self::Streamed(coding) if response.status() != StatusCode::NOT_MODIFIED => {
                code_while_sending(method, response, *coding)
            }
            Self::Streamed(_) | Self::Stored | Self::Copy(_) | Self::OfClient(_) => response,
        }
    }
}
