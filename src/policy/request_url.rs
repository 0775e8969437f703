//! Reads the URL of a request, for the cache key and for invalidation.

use actix_web::{
    dev::ServiceRequest,
    http::{Version, header::HOST},
};

use crate::entry::url::UrlTarget;

/// The error for a request that names several hosts, or a host that is not readable text, or an
/// HTTP/1 request with a host in its target. Handlers may disagree about the host of such a request,
/// so the cache does not handle it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AmbiguousHost;

/// Returns the scheme of the connection. The scheme in the request target and in header fields is
/// not used, because a client can send any scheme there.
pub(crate) fn scheme(request: &ServiceRequest) -> &'static str {
    if request.app_config().secure() { "https" } else { "http" }
}

/// Returns the host of a request: `Host`, or `:authority` in HTTP/2.
///
/// A request can lack a host, as in HTTP/1.0 and in tests. The result is then the host name in the
/// configuration of the server, which handlers also find in `ConnectionInfo`.
pub(super) fn host(request: &ServiceRequest) -> Result<&str, AmbiguousHost> {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    // RFC 9112 section 3.2.2: a request target in absolute form can name another host than `Host`.
    // Even if both are equal, handlers find a URL there that other requests do not have.
    if authority.is_some() && request.version() < Version::HTTP_2 {
        return Err(AmbiguousHost);
    }
    let mut lines = request.headers().get_all(HOST);
    let Some(line) = lines.next() else {
        return Ok(authority.unwrap_or_else(|| request.app_config().host()));
    };
    let host = line.to_str().map_err(|_| AmbiguousHost)?;
    let agrees = authority.is_none_or(|authority| authority.eq_ignore_ascii_case(host));
    if lines.next().is_some() || !agrees {
        return Err(AmbiguousHost);
    }
    Ok(host)
}

/// Returns the URLs that can be the target of a request. There are several if the request has
/// several lines of `Host`. A host in the request target counts only if there is no `Host`: with
/// its help, a client could invalidate the pages of another host.
pub(crate) fn target_urls(request: &ServiceRequest) -> Vec<UrlTarget> {
    let uri = request.uri();
    let lines = request.headers().get_all(HOST).filter_map(|line| line.to_str().ok());
    let mut hosts: Vec<_> = lines.collect();
    if hosts.is_empty() {
        let authority = uri.authority().filter(|_| request.version() >= Version::HTTP_2);
        let own = || request.app_config().host();
        hosts.push(authority.map_or_else(own, |authority| authority.as_str()));
    }
    hosts.dedup_by(|one, other| one.eq_ignore_ascii_case(other));
    let target = |host: &str| UrlTarget {
        host: host.to_owned(),
        path: uri.path().to_owned(),
        query: uri.query().map(str::to_owned),
    };
    hosts.into_iter().map(target).collect()
}
