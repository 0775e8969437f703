//! Copies of requests. A reply to a client needs a copy while the handler still has the original
//! request, or after the original was dropped with an error of the handler.

use std::net::SocketAddr;

use actix_http::Request;
use actix_service::{IntoServiceFactory as _, Service as _, ServiceFactory as _};
use actix_web::{
    App, HttpRequest,
    dev::{AppConfig, Path, ServiceRequest, Url},
    http::{Method, Uri, Version, header::HeaderMap},
};
use futures_util::FutureExt as _;

/// The parts of a request that outer middlewares may read when they handle the response.
#[derive(Debug, Clone)]
pub(crate) struct StandIn {
    method: Method,
    version: Version,
    headers: HeaderMap,
    peer: Option<SocketAddr>,
    uri: Uri,
    routing: Routing,
}

/// The state of actix-web's routing when the request reached the cache: the part of the path that
/// was matched, with its parameters, and the part that was still to be matched.
#[derive(Debug, Clone)]
pub(crate) struct Routing(Path<Url>);

impl Routing {
    /// Copies the routing of a request.
    pub(crate) fn of(request: &ServiceRequest) -> Self {
        Self(request.match_info().clone())
    }

    /// Restores the routing of a request that inner services have handled, and its original URI, so
    /// that the inner services can route the request again. Inner middlewares may have rewritten the
    /// URI.
    pub(crate) fn reset(self, request: &mut ServiceRequest, uri: Uri) {
        request.head_mut().uri = uri;
        *request.match_info_mut() = self.0;
    }
}

impl StandIn {
    pub(crate) fn of(request: &ServiceRequest) -> Self {
        let head = request.head();
        Self {
            method: head.method.clone(),
            version: head.version,
            headers: head.headers.clone(),
            peer: head.peer_addr,
            uri: head.uri.clone(),
            routing: Routing::of(request),
        }
    }

    /// Makes a request with the head and the route parameters of the original, and without its
    /// extensions and application data. Returns `None` if actix-web makes no request.
    pub(crate) fn into_request(self) -> Option<HttpRequest> {
        let mut request = Request::new();
        let head = request.head_mut();
        head.method = self.method;
        head.uri = self.uri;
        head.version = self.version;
        head.headers = self.headers;
        head.peer_addr = self.peer;
        // Only an application makes requests of this type, so an empty application makes this one.
        // Each of its futures is ready at once.
        let factory = App::new().into_factory();
        let application = factory.new_service(AppConfig::default()).now_or_never()?.ok()?;
        let response = application.call(request).now_or_never()?.ok()?;
        let (request, _) = response.into_parts();
        let mut request = ServiceRequest::from_request(request);
        *request.match_info_mut() = self.routing.0;
        Some(request.into_parts().0)
    }
}
