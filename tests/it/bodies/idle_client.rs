//! Clients that send a request and do not read the response until the test wants to.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::support::secs;

/// A client whose small buffers take up little of the response.
pub(super) struct IdleClient {
    stream: TcpStream,
    /// The bytes of the response that the client has read.
    message: Vec<u8>,
}

impl IdleClient {
    /// Sends a GET request, and reads nothing.
    pub(super) async fn get(addr: SocketAddr, path: &str) -> Self {
        Self::get_from(Ipv4Addr::LOCALHOST, addr, path, "").await
    }

    /// Sends a GET request with further header lines from this address of the client, and reads
    /// nothing.
    pub(super) async fn get_from(
        client: Ipv4Addr,
        addr: SocketAddr,
        path: &str,
        fields: &str,
    ) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind((client, 0).into()).unwrap();
        let mut stream = socket.connect(addr).await.unwrap();
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{fields}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        Self { stream, message: Vec::new() }
    }

    /// Reads the head of the response, and as little as possible of the body.
    pub(super) async fn read_head(&mut self) -> String {
        let head = async {
            loop {
                if let Some(end) = end_of_head(&self.message) {
                    return String::from_utf8(self.message[..end].to_vec()).unwrap();
                }
                self.message.push(self.stream.read_u8().await.unwrap());
            }
        };
        timeout(secs(20), head).await.expect("a response")
    }

    /// Reads the response to its end, and returns its body without the framing of chunks.
    pub(super) async fn read_body(mut self) -> Vec<u8> {
        let rest = self.stream.read_to_end(&mut self.message);
        timeout(secs(60), rest).await.unwrap().unwrap();
        let (head, mut rest) = self.message.split_at(end_of_head(&self.message).unwrap());
        if !head.windows(7).any(|name| name.eq_ignore_ascii_case(b"chunked")) {
            return rest.to_vec();
        }
        let mut body = Vec::new();
        loop {
            let line = rest.windows(2).position(|two| two == b"\r\n").expect("a chunk's length");
            let length = std::str::from_utf8(&rest[..line]).unwrap();
            let length = usize::from_str_radix(length, 16).unwrap();
            body.extend_from_slice(&rest[line + 2..line + 2 + length]);
            rest = &rest[line + 2 + length + 2..];
            if length == 0 {
                assert!(rest.is_empty());
                return body;
            }
        }
    }
}

fn end_of_head(message: &[u8]) -> Option<usize> {
    message.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}
