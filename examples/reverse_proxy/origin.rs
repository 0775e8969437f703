//! The client of the origin. Each request has a new connection, because an idle one may be closed at any
//! time.

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

/// The time limit of connecting, unless the origin's time limit is shorter.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The size of the buffer for a response, in bytes. It limits the size of the response head, too.
const MAX_BUFFER: usize = 32 * 1024;

/// The server to which requests are forwarded.
pub(crate) struct Origin {
    /// The value of `Host` if the client sent none.
    pub(crate) authority: String,
    host: String,
    port: u16,
    response_timeout: Duration,
}

/// The reason for which the origin did not respond.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection failed, or the origin sent an invalid response.
    Broken(Box<dyn Error>),
    /// The time limit passed.
    TimedOut,
}

impl Origin {
    pub(crate) fn new(url: &str, response_timeout: Duration) -> Result<Self, Box<dyn Error>> {
        let invalid = || format!("invalid --origin {url:?}: expected http://HOST:PORT");
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let authority = uri.authority().ok_or_else(invalid)?;
        let has_no_path =
            matches!(uri.path_and_query().map(|path| path.as_str()), None | Some("/"));
        if uri.scheme_str() != Some("http") || !has_no_path || authority.as_str().contains('@') {
            return Err(invalid().into());
        }
        // Without the brackets of an IPv6 address.
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self { authority: authority.to_string(), host, port, response_timeout })
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// The time limit counts from `last_sent`, the time at which the last chunk of the request body was
    /// sent: the origin may read the whole body before it responds.
    pub(crate) async fn send<B>(
        &self,
        request: Request<B>,
        last_sent: &Cell<Instant>,
    ) -> Result<Response<Incoming>, Failure>
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let limit = self.response_timeout.min(CONNECT_LIMIT);
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        let stream = timeout(limit, connect).await.map_err(|_| Failure::TimedOut)??;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::Builder::new()
            // RFC 9112 section 5: a proxy accepts these errors in responses.
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .max_headers(1024)
            // Otherwise, each response whose client reads slowly would fill a buffer of 400 KiB.
            .max_buf_size(MAX_BUFFER)
            .handshake(TokioIo::new(stream))
            .await?;
        // The task ends with the response body, or when the client closes its connection.
        rt::spawn(connection);
        Ok(self.wait(sender.send_request(request), last_sent).await??)
    }

    async fn wait<T>(
        &self,
        response: impl Future<Output = T>,
        last_sent: &Cell<Instant>,
    ) -> Result<T, Failure> {
        let mut response = pin!(response);
        loop {
            let since = last_sent.get();
            match timeout_at(since + self.response_timeout, response.as_mut()).await {
                Ok(response) => return Ok(response),
                Err(_) if last_sent.get() > since => {}
                Err(_) => return Err(Failure::TimedOut),
            }
        }
    }
}

impl Failure {
    /// The response to the client. It has no content of the origin.
    pub(crate) fn response(&self) -> HttpResponse {
        log::info!("{self}");
        let (status, text) = match self {
            Self::Broken(_) => (StatusCode::BAD_GATEWAY, "the origin did not respond\n"),
            Self::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "the origin timed out\n"),
        };
        HttpResponse::build(status).content_type("text/plain; charset=utf-8").body(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) => write!(f, "the origin did not respond: {error}"),
            Self::TimedOut => f.write_str("the origin timed out"),
        }
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}
