//! An HTTP/1.1 connection whose bytes the test writes and reads.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// An open connection. Dropping it closes it.
pub(crate) struct Wire(BufReader<TcpStream>);

/// A response. Its head determines the length of the body.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) status: u16,
    /// Status line and fields, as sent.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Wire {
    pub(crate) fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// A second handle of the connection, to write while the test reads.
    pub(crate) fn writer(&self) -> TcpStream {
        let writer = self.0.get_ref().try_clone().unwrap();
        writer.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        writer
    }

    /// Sends bytes and ignores errors, for a connection that the server may have closed.
    pub(crate) fn send_anyway(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.0.get_mut().write_all(bytes.as_ref());
    }

    /// Sends a GET request. `fields` are complete lines with CRLF.
    pub(crate) fn get(&mut self, path: &str, fields: &str) -> Message {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: t\r\n{fields}\r\n"));
        self.receive()
    }

    /// Sends a HEAD request and reads the head of the response.
    pub(crate) fn head(&mut self, path: &str) -> Message {
        self.send(format!("HEAD {path} HTTP/1.1\r\nHost: t\r\n\r\n"));
        self.receive_head().expect("a response")
    }

    pub(crate) fn receive(&mut self) -> Message {
        self.receive_or_end().expect("a response")
    }

    /// Reads a response, or returns `None` if the server closed the connection.
    pub(crate) fn receive_or_end(&mut self) -> Option<Message> {
        let mut message = self.receive_head()?;
        if matches!(message.status, 100..200 | 204 | 304) {
            return Some(message);
        }
        if message.line("transfer-encoding") == Some("chunked") {
            message.body = self.chunks();
        } else if let Some(length) = message.line("content-length") {
            message.body = vec![0; length.parse().unwrap()];
            self.0.read_exact(&mut message.body).unwrap();
        } else {
            message.body = self.rest();
        }
        Some(message)
    }

    /// Returns the bytes that arrive first, without taking them from the connection.
    pub(crate) fn first_bytes(&mut self) -> &[u8] {
        self.0.fill_buf().unwrap()
    }

    /// Reads all bytes until the server closes the connection.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // The server may reset the connection after the response.
        let _ = self.0.read_to_end(&mut rest);
        rest
    }

    fn receive_head(&mut self) -> Option<Message> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if self.0.read_until(b'\n', &mut head).unwrap_or(0) == 0 {
                assert!(head.is_empty(), "a head that breaks off: {}", head.escape_ascii());
                return None;
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        assert!(head.starts_with("HTTP/1."), "not the head of a response: {head}");
        let status = head[9..12].parse().unwrap();
        Some(Message { status, head, body: Vec::new() })
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let mut size = String::new();
            self.0.read_line(&mut size).unwrap();
            let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
            let start = body.len();
            body.resize(start + size + 2, 0);
            self.0.read_exact(&mut body[start..]).unwrap();
            assert!(body.ends_with(b"\r\n"), "a chunk that does not end");
            body.truncate(start + size);
            if size == 0 {
                return body;
            }
        }
    }
}

impl Message {
    /// The values of all lines of a field, in order.
    pub(crate) fn lines(&self, name: &str) -> Vec<&str> {
        let split = |line: &'_ str| line.find(": ").map(|at| (at, at + 2));
        self.head
            .lines()
            .filter_map(|line| split(line).map(|(end, start)| (&line[..end], &line[start..])))
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    /// The value of a field that must not have more than one line.
    pub(crate) fn line(&self, name: &str) -> Option<&str> {
        let lines = self.lines(name);
        assert!(lines.len() <= 1, "{name} more than once: {}", self.head);
        lines.first().copied()
    }

    pub(crate) fn is_hit(&self) -> bool {
        self.line("cache-status").is_some_and(|status| status.contains("; hit"))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}
