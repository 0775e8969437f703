//! An application whose response contains each part of the request that a response could depend on.

use std::net::SocketAddr;

use actix_web::{App, HttpRequest, HttpResponse, web};
use actix_web_cache::Cache;

use crate::support::{Client, Protocol, Server, raw, serve};

/// Sends a request on a new connection and returns the response as text.
pub(super) fn wire(addr: SocketAddr, target: &str, fields: &[&str], body: &str) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let request = format!("GET {target} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n{body}");
    String::from_utf8_lossy(&raw(addr, request.as_bytes())).into_owned()
}

pub(super) fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// Returns each part of the target, and the host as each actix-web function reports it.
fn echo(request: &HttpRequest, _: usize) -> HttpResponse {
    let connection = request.connection_info();
    let (host, scheme) = (connection.host(), connection.scheme());
    let link = request.url_for_static("page").map(|url| url.to_string());
    let sent = request.headers().get("host").map(|host| String::from_utf8_lossy(host.as_bytes()));
    HttpResponse::Ok().body(format!(
        "{} {:?} {host} {scheme} {link:?} {sent:?} {:?}",
        request.path(),
        request.uri().query(),
        request.uri().authority(),
    ))
}

/// Serves the echo behind a cache, with a named route for links.
pub(super) fn echo_site(cache: &Cache) -> (Server, Client) {
    let cache = cache.clone();
    let server = serve(1, move || {
        let page = || web::to(async |request| echo(&request, 1));
        App::new()
            .wrap(cache.clone())
            .service(web::resource("/page").name("page").route(page()))
            .default_service(page())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    (server, client)
}
