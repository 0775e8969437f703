//! An application with a given response for each path.

use actix_web::{App, HttpRequest, HttpResponse, http::StatusCode, web};
use actix_web_cache::Cache;

use super::{Counter, Server, serve};

/// The response for one path.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
}

impl Reply {
    pub(crate) fn new(status: u16, fields: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self { status, fields: fields.iter().map(owned).collect() }
    }

    /// Makes the response. Its body names the number of the handler call and the credentials of the
    /// request.
    pub(crate) fn respond(&self, request: &HttpRequest, runs: &Counter) -> HttpResponse {
        let run = runs.count();
        let mut response = HttpResponse::build(StatusCode::from_u16(self.status).unwrap());
        for (name, value) in &self.fields {
            response.append_header((name.as_str(), value.as_str()));
        }
        if matches!(self.status, 204 | 304) {
            return response.finish();
        }
        response.body(format!("run {run} for {}", identity_fields(request)))
    }
}

/// The values of all request fields that could identify a user.
pub(crate) fn identity_fields(request: &HttpRequest) -> String {
    let lines = |name: &str| {
        let lines = request.headers().get_all(name);
        lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect::<Vec<_>>().join("|")
    };
    ["cookie", "authorization", "x-api-key", "x-session"].map(lines).join("/")
}

/// Serves `replies` through a cache, the first one at `/0`, for all methods.
pub(crate) fn serve_replies(workers: usize, cache: &Cache, replies: &[Reply]) -> (Server, Counter) {
    let runs = Counter::default();
    let made = (cache.clone(), replies.to_vec(), runs.clone());
    let server = serve(workers, move || {
        let (cache, replies, runs) = made.clone();
        App::new().wrap(cache).default_service(web::to(move |request: HttpRequest| {
            let index: Option<usize> = request.path().trim_start_matches('/').parse().ok();
            let reply = index.and_then(|index| replies.get(index));
            let response = reply
                .map_or_else(|| HttpResponse::NotFound().finish(), |r| r.respond(&request, &runs));
            async move { response }
        }))
    });
    (server, runs)
}
