//! HTTP/2 requests of any form.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Request, body::Body, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::Server;

/// Sends a request over a new connection, as it is, and returns the body of the response.
pub(crate) async fn body_over_http2<B>(server: &Server, request: Request<B>) -> String
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(server.addr).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    connection.abort();
    String::from_utf8(body.to_vec()).unwrap()
}
