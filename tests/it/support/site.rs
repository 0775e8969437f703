//! The smallest application: one handler behind one cache, for every path and method.

use actix_web::{
    App, HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{HeaderName, HeaderValue},
    },
    web,
};
use actix_web_cache::Cache;

use super::{Client, Counter, Notes, Protocol, Server, conditions, serve};

pub(crate) struct Site {
    pub(crate) server: Server,
    pub(crate) client: Client,
    /// How often the handler ran.
    pub(crate) runs: Counter,
}

/// Serves `handler`, which is told which run of it this is, from 1.
pub(crate) fn site<F>(cache: &Cache, handler: F) -> Site
where
    F: Fn(&HttpRequest, usize) -> HttpResponse + Clone + Send + 'static,
{
    let runs = Counter::default();
    let (cache, counter) = (cache.clone(), runs.clone());
    let server = serve(1, move || {
        let (handler, counter) = (handler.clone(), counter.clone());
        let answer = move |request: HttpRequest| {
            let response = handler(&request, counter.count());
            async move { response }
        };
        App::new().wrap(cache.clone()).default_service(web::to(answer))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    Site { server, client, runs }
}

/// A handler that answers as the request says: by `answer-status: 404`, and by a line
/// `answer: name: value` for each field. The body tells the run.
pub(crate) fn obey(request: &HttpRequest, run: usize) -> HttpResponse {
    let lines = |name| request.headers().get_all(name).map(|line| line.to_str().unwrap());
    let status = lines("answer-status").next().map_or(200, |status| status.parse().unwrap());
    let status = StatusCode::from_u16(status).unwrap();
    let mut response = match status {
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => {
            HttpResponse::new(status).map_into_boxed_body()
        }
        _ => HttpResponse::build(status).body(format!("run {run}")),
    };
    for line in lines("answer") {
        let (name, value) = line.split_once(':').unwrap();
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        response.headers_mut().append(name, HeaderValue::from_str(value.trim()).unwrap());
    }
    response
}

/// An obedient site that writes down the conditions its handler is asked under.
pub(crate) fn noting(cache: &Cache) -> (Site, Notes) {
    let notes = Notes::default();
    let handlers = notes.clone();
    let site = site(cache, move |request, run| {
        handlers.add(conditions(request));
        obey(request, run)
    });
    (site, notes)
}
