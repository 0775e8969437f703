//! Requests that stand in for others: where the real one is with the handler, or was lost with it.

use actix_web::{
    HttpMessage, HttpRequest,
    dev::{RequestHead, ServiceRequest},
    http::{Method, Uri, Version, header::HeaderMap},
    test::TestRequest,
};

/// What middlewares further out may look at in the request of a response.
#[derive(Debug, Clone)]
pub(crate) struct Mirror {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    peer: Option<std::net::SocketAddr>,
}

impl Mirror {
    pub(crate) fn of(request: &RequestHead) -> Self {
        Self {
            method: request.method.clone(),
            uri: request.uri.clone(),
            version: request.version,
            headers: request.headers.clone(),
            peer: request.peer_addr,
        }
    }

    /// A request with the same head, and nothing that routing added.
    pub(crate) fn into_request(self) -> HttpRequest {
        // The one public way to make a request.
        let mut made = TestRequest::default().to_srv_request();
        let head = made.head_mut();
        head.method = self.method;
        head.uri = self.uri;
        head.version = self.version;
        head.headers = self.headers;
        head.peer_addr = self.peer;
        made.into_parts().0
    }

    /// The same, with the extensions of a request that goes on without them.
    pub(crate) fn taking_extensions(self, from: &ServiceRequest) -> HttpRequest {
        let made = self.into_request();
        std::mem::swap(&mut *made.extensions_mut(), &mut *from.extensions_mut());
        made
    }
}
