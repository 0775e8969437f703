//! Requests that stand in for others: where the real one is with the handler, or was lost with it.

use actix_web::{
    HttpRequest,
    dev::{Path, ServiceRequest, Url},
    http::{Method, Uri, Version, header::HeaderMap},
    test::TestRequest,
};

/// What middlewares further out may look at in the request of a response.
#[derive(Debug, Clone)]
pub(crate) struct StandIn {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    peer: Option<std::net::SocketAddr>,
    /// How far routing had come, and the parameters it had found.
    route: Path<Url>,
}

impl StandIn {
    pub(crate) fn of(request: &ServiceRequest) -> Self {
        let head = request.head();
        Self {
            method: head.method.clone(),
            uri: head.uri.clone(),
            version: head.version,
            headers: head.headers.clone(),
            peer: head.peer_addr,
            route: request.match_info().clone(),
        }
    }

    /// Lets a request that was routed be routed again from here: what is further in may have
    /// consumed its path, found parameters in it, or written it anew.
    pub(crate) fn unroute(self, request: &mut ServiceRequest) {
        request.head_mut().uri = self.uri;
        *request.match_info_mut() = self.route;
    }

    /// A request with the same head and parameters, and nothing else that routing added.
    pub(crate) fn into_request(self) -> HttpRequest {
        // The one public way to make a request.
        let mut made = TestRequest::default().to_srv_request();
        *made.match_info_mut() = self.route;
        let head = made.head_mut();
        head.method = self.method;
        head.uri = self.uri;
        head.version = self.version;
        head.headers = self.headers;
        head.peer_addr = self.peer;
        made.into_parts().0
    }
}
