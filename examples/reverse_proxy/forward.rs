//! The handler: forwards requests to the origin and its responses to the client, unchanged and streamed.

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

/// The time at which the last chunk of a request body was sent.
type LastSent = Rc<Cell<Instant>>;

type BoxError = Box<dyn Error + Send + Sync>;

/// The chunks of a request body.
type Chunks = LocalBoxStream<'static, Result<Bytes, PayloadError>>;

pub(crate) async fn forward(
    request: HttpRequest,
    payload: Payload,
    origin: Data<Origin>,
) -> HttpResponse {
    if request.method() == Method::CONNECT {
        return refuse(StatusCode::NOT_IMPLEMENTED, "CONNECT is not supported\n");
    }
    let last_sent = LastSent::new(Cell::new(Instant::now()));
    let Ok(outgoing) = outgoing(&request, payload, &origin, Rc::clone(&last_sent)) else {
        return refuse(StatusCode::BAD_REQUEST, "the request cannot be forwarded\n");
    };
    let forwarded = match origin.send(outgoing, &last_sent).await {
        Ok(response) => client_response(&request, response),
        Err(failure) => Err(failure),
    };
    forwarded.unwrap_or_else(|failure| failure.response())
}

fn refuse(status: StatusCode, text: &'static str) -> HttpResponse {
    HttpResponse::build(status).content_type("text/plain; charset=utf-8").body(text)
}

/// Builds the request to the origin.
fn outgoing(
    request: &HttpRequest,
    payload: Payload,
    origin: &Origin,
    last_sent: LastSent,
) -> Result<Request<impl Body<Data = Bytes, Error = BoxError> + use<>>, hyper::http::Error> {
    // Path and query unchanged: a URL parser would normalize them.
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let mut outgoing = Request::builder()
        .method(request.method().as_str())
        .uri(target)
        .header("connection", "close");
    let fields = request.headers();
    if !fields.contains_key(HOST) {
        // HTTP/2 has the host in `:authority`, HTTP/1.0 may have none.
        let named = request.uri().authority().map(|authority| authority.as_str());
        outgoing = outgoing.header("host", named.unwrap_or(&origin.authority));
    }
    // RFC 9113 section 8.2.3: HTTP/2 may split Cookie into several lines, HTTP/1.1 must not.
    let cookies: Vec<_> = fields.get_all(COOKIE).map(HeaderValue::as_bytes).collect();
    if !cookies.is_empty() {
        outgoing = outgoing.header("cookie", cookies.join(&b"; "[..]));
    }
    for (name, value) in fields.iter().filter(|(name, _)| *name != COOKIE) {
        outgoing = outgoing.header(name.as_str(), value.as_bytes());
    }
    let has_framing_field =
        fields.contains_key(CONTENT_LENGTH) || fields.contains_key(TRANSFER_ENCODING);
    let body = if has_framing_field {
        Some(payload.boxed_local())
    } else {
        body_without_length(request, payload)
    };
    if body.is_some() && !has_framing_field {
        outgoing = outgoing.header("transfer-encoding", "chunked");
    }
    outgoing.body(match body {
        None => Either::Left(Empty::new()),
        Some(chunks) => Either::Right(StreamBody::new(chunks.map_ok(move |chunk| {
            last_sent.set(Instant::now());
            Frame::data(chunk)
        }))),
    })
}

/// The body of a request without `Content-Length` and `Transfer-Encoding`. HTTP/2 allows such bodies.
fn body_without_length(request: &HttpRequest, mut payload: Payload) -> Option<Chunks> {
    if request.version() != Version::HTTP_2 {
        return None;
    }
    match payload.next().now_or_never() {
        Some(None) => None,
        Some(Some(first)) => Some(stream::iter([first]).chain(payload).boxed_local()),
        None => Some(payload.boxed_local()),
    }
}

/// Builds the response to the client.
fn client_response(
    request: &HttpRequest,
    response: Response<Incoming>,
) -> Result<HttpResponse, Failure> {
    let (head, body) = response.into_parts();
    let status = StatusCode::from_u16(head.status.as_u16())?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::Broken("unexpected 101 Switching Protocols".into()));
    }
    let mut forwarded = HttpResponse::new(status);
    for (name, value) in &head.headers {
        // actix-http frames the body itself.
        if name != hyper::header::TRANSFER_ENCODING {
            let name = HeaderName::from_bytes(name.as_str().as_bytes())?;
            forwarded.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes())?);
        }
    }
    let declared = head.headers.get(hyper::header::CONTENT_LENGTH);
    let declared = declared.and_then(|length| length.to_str().ok()?.parse().ok());
    let length = if request.method() == Method::HEAD { declared } else { body.size_hint().exact() };
    let body = match (status, length) {
        // These have no body. Their `Content-Length` field stays.
        (StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED, _) => BoxBody::new(body::None::new()),
        (_, None) if request.method() == Method::HEAD => BoxBody::new(body::None::new()),
        (_, Some(length)) => BoxBody::new(SizedStream::new(length, BodyDataStream::new(body))),
        (_, None) => {
            forwarded.headers_mut().remove(CONTENT_LENGTH);
            if request.version() < Version::HTTP_11 {
                // HTTP/1.0 has no chunked coding: the end of the connection ends the body.
                forwarded.head_mut().no_chunking(true);
                forwarded.head_mut().set_connection_type(ConnectionType::Close);
            }
            BoxBody::new(BodyStream::new(BodyDataStream::new(body)))
        }
    };
    Ok(forwarded.set_body(body))
}
