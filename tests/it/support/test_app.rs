//! A small application: one handler behind one cache, for all paths and methods.

use actix_web::{
    App, HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{HeaderName, HeaderValue},
    },
    web,
};
use actix_web_cache::Cache;

use super::{Client, Counter, Protocol, Server, SharedLines, conditions, serve};

pub(crate) struct TestApp {
    pub(crate) server: Server,
    pub(crate) client: Client,
    /// The number of handler calls.
    pub(crate) runs: Counter,
}

/// Serves `handler`. Its second argument is the number of the call, from 1.
pub(crate) fn test_app<F>(cache: &Cache, handler: F) -> TestApp
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
    TestApp { server, client, runs }
}

/// A handler that the request controls: `answer-status: 404` sets the status, and each line
/// `answer: name: value` adds a header field. The body has the number of the call.
pub(crate) fn requested_response(request: &HttpRequest, run: usize) -> HttpResponse {
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

/// An application with the handler [`requested_response`], which also records the conditional fields of
/// its requests.
pub(crate) fn recording_app(cache: &Cache) -> (TestApp, SharedLines) {
    let recorded = SharedLines::default();
    let handlers = recorded.clone();
    let app = test_app(cache, move |request, run| {
        handlers.add(conditions(request));
        requested_response(request, run)
    });
    (app, recorded)
}
