//! The handler: requests to the origin, and its answers back, as they are and as they come.

use std::{cell::Cell, error::Error, rc::Rc};

use actix_web::{
    HttpRequest, HttpResponse,
    body::{self, BodyStream, BoxBody, SizedStream},
    error::PayloadError,
    http::{
        ConnectionType, Method, StatusCode, Version,
        header::{CONTENT_LENGTH, COOKIE, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING},
    },
    web::{Bytes, Data, Payload},
};
use futures_util::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    stream::{self, LocalBoxStream},
};
use http_body_util::{BodyDataStream, Either, Empty, StreamBody};
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming},
};
use tokio::time::Instant;

use crate::origin::{Failure, Origin};

/// When a request's body last moved on.
type Moved = Rc<Cell<Instant>>;

type BoxError = Box<dyn Error + Send + Sync>;

/// What comes of a request's body.
type Chunks = LocalBoxStream<'static, Result<Bytes, PayloadError>>;

pub(crate) async fn forward(
    request: HttpRequest,
    payload: Payload,
    origin: Data<Origin>,
) -> HttpResponse {
    if request.method() == Method::CONNECT {
        return refuse(StatusCode::NOT_IMPLEMENTED, "this proxy makes no tunnels\n");
    }
    let moved = Moved::new(Cell::new(Instant::now()));
    let Ok(outgoing) = outgoing(&request, payload, &origin, Rc::clone(&moved)) else {
        return refuse(StatusCode::BAD_REQUEST, "this request cannot be passed on\n");
    };
    let answer = match origin.send(outgoing, &moved).await {
        Ok(response) => answer(&request, response),
        Err(failure) => Err(failure),
    };
    answer.unwrap_or_else(|failure| failure.answer())
}

fn refuse(status: StatusCode, text: &'static str) -> HttpResponse {
    HttpResponse::build(status).content_type("text/plain; charset=utf-8").body(text)
}

/// The request as the origin gets it.
fn outgoing(
    request: &HttpRequest,
    payload: Payload,
    origin: &Origin,
    moved: Moved,
) -> Result<Request<impl Body<Data = Bytes, Error = BoxError> + use<>>, hyper::http::Error> {
    // Both as they came: a URL parser would tidy the target up.
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let mut outgoing = Request::builder()
        .method(request.method().as_str())
        .uri(target)
        .header("connection", "close");
    let fields = request.headers();
    if !fields.contains_key(HOST) {
        // HTTP/2 names it elsewhere, HTTP/1.0 need not.
        let named = request.uri().authority().map(|authority| authority.as_str());
        outgoing = outgoing.header("host", named.unwrap_or(&origin.authority));
    }
    // RFC 9113 section 8.2.3: what HTTP/2 may send in pieces is one line in HTTP/1.1.
    let cookies: Vec<_> = fields.get_all(COOKIE).map(HeaderValue::as_bytes).collect();
    if !cookies.is_empty() {
        outgoing = outgoing.header("cookie", cookies.join(&b"; "[..]));
    }
    for (name, value) in fields.iter().filter(|(name, _)| *name != COOKIE) {
        outgoing = outgoing.header(name.as_str(), value.as_bytes());
    }
    let announced = fields.contains_key(CONTENT_LENGTH) || fields.contains_key(TRANSFER_ENCODING);
    let body = if announced { Some(payload.boxed_local()) } else { unannounced(request, payload) };
    if body.is_some() && !announced {
        outgoing = outgoing.header("transfer-encoding", "chunked");
    }
    outgoing.body(match body {
        None => Either::Left(Empty::new()),
        Some(chunks) => Either::Right(StreamBody::new(chunks.map_ok(move |chunk| {
            moved.set(Instant::now());
            Frame::data(chunk)
        }))),
    })
}

/// A body whose length or coding the request does not tell: in HTTP/2 there may be one.
fn unannounced(request: &HttpRequest, mut payload: Payload) -> Option<Chunks> {
    if request.version() != Version::HTTP_2 {
        return None;
    }
    match payload.next().now_or_never() {
        Some(None) => None,
        Some(Some(first)) => Some(stream::iter([first]).chain(payload).boxed_local()),
        None => Some(payload.boxed_local()),
    }
}

/// The answer as the client gets it.
fn answer(request: &HttpRequest, response: Response<Incoming>) -> Result<HttpResponse, Failure> {
    let (head, body) = response.into_parts();
    let status = StatusCode::from_u16(head.status.as_u16())?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::Broken("it changes the protocol unasked".into()));
    }
    let mut answer = HttpResponse::new(status);
    for (name, value) in &head.headers {
        // How the body is framed here is the server's business.
        if name != hyper::header::TRANSFER_ENCODING {
            let name = HeaderName::from_bytes(name.as_str().as_bytes())?;
            answer.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes())?);
        }
    }
    let told = head.headers.get(hyper::header::CONTENT_LENGTH);
    let told = told.and_then(|length| length.to_str().ok()?.parse().ok());
    let length = if request.method() == Method::HEAD { told } else { body.size_hint().exact() };
    let body = match (status, length) {
        // These end with their heads; a `Content-Length` among their fields stays.
        (StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED, _) => BoxBody::new(body::None::new()),
        (_, None) if request.method() == Method::HEAD => BoxBody::new(body::None::new()),
        (_, Some(length)) => BoxBody::new(SizedStream::new(length, BodyDataStream::new(body))),
        (_, None) => {
            answer.headers_mut().remove(CONTENT_LENGTH);
            if request.version() < Version::HTTP_11 {
                // Knows no chunks: such a body ends with its connection.
                answer.head_mut().no_chunking(true);
                answer.head_mut().set_connection_type(ConnectionType::Close);
            }
            BoxBody::new(BodyStream::new(BodyDataStream::new(body)))
        }
    };
    Ok(answer.set_body(body))
}
