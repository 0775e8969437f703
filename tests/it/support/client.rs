//! HTTP clients.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Method, Request, StatusCode, header::HeaderName};
use hyper_util::{client::legacy, rt::TokioExecutor};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// A client of one server. It shares no connections with other clients.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    addr: SocketAddr,
    inner: legacy::Client<legacy::connect::HttpConnector, Full<Bytes>>,
}

/// A complete response.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    pub(crate) fn new(addr: SocketAddr, protocol: Protocol) -> Self {
        let inner = legacy::Client::builder(TokioExecutor::new())
            .http2_only(protocol == Protocol::Http2)
            .build_http();
        Self { addr, inner }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[]).await
    }

    pub(crate) async fn get_with(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, path, fields).await
    }

    pub(crate) async fn head(&self, path: &str) -> Answer {
        self.send(Method::HEAD, path, &[]).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.send_body(method, path, fields, "").await.expect("a complete response")
    }

    /// Sends a request and reads the response. Returns an error if the connection or the body ends early.
    pub(crate) async fn send_body(
        &self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
        body: &'static str,
    ) -> Result<Answer, Box<dyn std::error::Error>> {
        let response = self.start(method, path, fields, body).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    /// Sends a request and waits for the response head. The caller reads the body.
    pub(crate) async fn start(
        &self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
        body: &'static str,
    ) -> Result<hyper::Response<hyper::body::Incoming>, Box<dyn std::error::Error>> {
        let mut request =
            Request::builder().method(method).uri(format!("http://{}{path}", self.addr));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from_static(body.as_bytes())))?;
        Ok(tokio::time::timeout(Duration::from_secs(30), self.inner.request(request)).await??)
    }
}

impl Answer {
    /// The values of all lines of a field, joined by commas.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let name: HeaderName = name.parse().unwrap();
        let lines: Vec<_> =
            self.headers.get_all(name).iter().map(|line| line.to_str().unwrap()).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    /// The parameters that this cache wrote into `Cache-Status`.
    pub(crate) fn cache_status(&self) -> String {
        let field = self.field("cache-status").unwrap_or_default();
        field.strip_prefix("actix-web-cache; ").unwrap_or(&field).to_owned()
    }

    pub(crate) fn is_hit(&self) -> bool {
        self.cache_status().starts_with("hit")
    }

    pub(crate) fn is_stored(&self) -> bool {
        self.cache_status().ends_with("; stored")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Sends bytes on a new connection and returns all bytes until the server closes it. The request should
/// have `Connection: close`.
pub(crate) fn raw(addr: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request).unwrap();
    let mut response = Vec::new();
    // The server may reset the connection after the response.
    let _ = stream.read_to_end(&mut response);
    response
}
