//! The origin: one connection a request, so that no idle one is ever found closed.

use std::{cell::Cell, error::Error, fmt, future::Future, pin::pin, time::Duration};

use actix_web::{HttpResponse, http::StatusCode, rt};
use hyper::{
    Request, Response, Uri,
    body::{Body, Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

/// A connection that takes longer is not going to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Where requests go.
pub(crate) struct Origin {
    /// What `Host` says where the client says nothing.
    pub(crate) authority: String,
    host: String,
    port: u16,
    patience: Duration,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection, or one that broke, or bytes that are no answer.
    Broken(Box<dyn Error>),
    /// Nothing came for too long.
    Silent,
}

impl Origin {
    pub(crate) fn new(url: &str, patience: Duration) -> Result<Self, Box<dyn Error>> {
        let complaint = || format!("--origin {url:?} is not like http://HOST:PORT");
        let uri: Uri = url.parse().map_err(|_| complaint())?;
        let authority = uri.authority().ok_or_else(complaint)?;
        let bare = matches!(uri.path_and_query().map(|path| path.as_str()), None | Some("/"));
        if uri.scheme_str() != Some("http") || !bare || authority.as_str().contains('@') {
            return Err(complaint().into());
        }
        // Without the brackets of an IPv6 address.
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self { authority: authority.to_string(), host, port, patience })
    }

    /// Sends a request and waits for the head of its answer. `moved` is when the request's body
    /// last moved on: while it does, the origin cannot be expected to answer.
    pub(crate) async fn send<B>(
        &self,
        request: Request<B>,
        moved: &Cell<Instant>,
    ) -> Result<Response<Incoming>, Failure>
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let limit = self.patience.min(CONNECT_LIMIT);
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        let stream = timeout(limit, connect).await.map_err(|_| Failure::Silent)??;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::Builder::new()
            // RFC 9112 section 5: what a proxy forgives in responses.
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .max_headers(1024)
            .handshake(TokioIo::new(stream))
            .await?;
        // It ends with the body of its one answer, or when nobody waits for that any more.
        rt::spawn(connection);
        Ok(self.wait(sender.send_request(request), moved).await??)
    }

    async fn wait<T>(
        &self,
        answer: impl Future<Output = T>,
        moved: &Cell<Instant>,
    ) -> Result<T, Failure> {
        let mut answer = pin!(answer);
        loop {
            let since = moved.get();
            match timeout_at(since + self.patience, answer.as_mut()).await {
                Ok(answer) => return Ok(answer),
                Err(_) if moved.get() > since => {}
                Err(_) => return Err(Failure::Silent),
            }
        }
    }
}

impl Failure {
    /// What the client is told; nothing of it is the origin's.
    pub(crate) fn answer(&self) -> HttpResponse {
        log::info!("{self}");
        let (status, text) = match self {
            Self::Broken(_) => (StatusCode::BAD_GATEWAY, "the origin gave no answer\n"),
            Self::Silent => (StatusCode::GATEWAY_TIMEOUT, "the origin is silent\n"),
        };
        HttpResponse::build(status).content_type("text/plain; charset=utf-8").body(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) => write!(f, "the origin gave no answer: {error}"),
            Self::Silent => f.write_str("the origin is silent"),
        }
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}
