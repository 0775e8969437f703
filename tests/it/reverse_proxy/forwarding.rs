//! The reverse proxy forwards requests and responses unchanged, chunk by chunk, without the fields of
//! one connection (RFC 9110, section 7.6.1).

use std::{
    convert::Infallible,
    io::{BufReader, Read as _, Write as _},
    sync::{Mutex, mpsc},
    time::Duration,
};

use futures_util::{FutureExt as _, stream};
use http_body_util::StreamBody;
use hyper::{
    Method, Request,
    body::{Bytes, Frame},
};
use hyper_util::{client::legacy, rt::TokioExecutor};
use tokio::{sync::oneshot, time::timeout};

use crate::{
    reverse_proxy::OK,
    support::{Client, Origin, Protocol, Proxy, RawMessage, ask, connect, get},
};

/// The time limit for a message to arrive.
const TIME_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn origin_gets_methods_and_targets_unchanged() {
    let origin = Origin::start(|_| OK.to_vec());
    let proxy = Proxy::of(origin.addr, &[]);
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "M-SEARCH", "get"] {
        let request = format!("{method} /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(ask(proxy.addr, request).expect(method).text(), "ok");
        assert_eq!(origin.last().start, format!("{method} /x HTTP/1.1"));
    }
    let long = format!("/{}", "long/".repeat(2000));
    for target in [
        "/?",
        "/a?",
        "/a/../b",
        "/a/./b",
        "/..",
        "//a//b",
        "/%2e%2e/%2F",
        "/%7Ea/~a",
        "/%zz%",
        "/%00",
        "/a|b",
        "/a{b}",
        "/a\\b",
        "/a;b=c,d",
        "/a?b={c}|d\\e&&=?/../",
        "/a?b'c",
        "/a?%3F+%2B",
        "/a:b@c!$&'()*+",
        &long,
    ] {
        assert_eq!(proxy.get(target).text(), "ok", "{target}");
        assert_eq!(origin.last().start, format!("GET {target} HTTP/1.1"));
    }
    for (target, want) in [
        ("OPTIONS *", "OPTIONS * HTTP/1.1"),
        ("GET http://example.com/a/../b?c", "GET /a/../b?c HTTP/1.1"),
        ("GET http://example.com", "GET / HTTP/1.1"),
        ("GET /in?absolute#fragment", "GET /in?absolute HTTP/1.1"),
    ] {
        let request =
            format!("{target} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n");
        assert_eq!(ask(proxy.addr, request).expect(target).text(), "ok");
        assert_eq!(origin.last().start, want);
    }
}

#[test]
fn origin_gets_end_to_end_fields_but_no_connection_fields() {
    let origin = Origin::start(|_| OK.to_vec());
    let proxy = Proxy::of(origin.addr, &[]);
    let request =
        b"GET /fields HTTP/1.1\r\nHost: Example.com:81\r\nX-Twice: 1\r\nCookie: a=b; c=d\r\n\
        X-Obs: \xfc\xff\r\nX-Twice: 2, 3\r\nX-Empty:\r\nAccept-Encoding: gzip, br\r\nVia: 1.0 x\r\n\
        Connection: close, X-Named, host, content-length\r\nConnection: x-Too\r\nX-Named: no\r\n\
        X-Too: no\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n\
        Trailer: x-t\r\nUpgrade: foo\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(ask(proxy.addr, request).expect("a response").text(), "ok");
    let mut forwarded = origin.last();
    assert_eq!(forwarded.body, b"hi");
    forwarded.fields.sort();
    let fields: Vec<_> =
        forwarded.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        fields,
        [
            ("accept-encoding", "gzip, br"),
            ("connection", "close"),
            ("content-length", "2"),
            ("cookie", "a=b; c=d"),
            ("host", "Example.com:81"),
            ("via", "1.0 x"),
            ("x-empty", ""),
            ("x-obs", "\u{fc}\u{ff}"),
            ("x-twice", "1"),
            ("x-twice", "2, 3"),
        ]
    );
}

#[test]
fn client_gets_end_to_end_fields_but_no_connection_fields() {
    let origin = Origin::start(|request| {
        let fields = "Connection: close, X-Named\r\nX-Named: no\r\nKeep-Alive: timeout=5\r\n\
            Proxy-Connection: close\r\nTE: trailers\r\nTrailer: x-t\r\nUpgrade: foo\r\n\
            X-Twice: 1\r\nX-Twice: 2, 3\r\nX-Spaced : 1\r\nX-Folded: a\r\n b\r\nDate: yesterday\r\n\
            Set-Cookie2: kept\r\nLink: </a>\r\n";
        // A response with `Set-Cookie2` is not stored.
        let fields = match request.start.split(' ').nth(1) {
            Some("/passed") => fields.to_owned(),
            _ => fields.replace("Set-Cookie2: kept\r\n", ""),
        };
        let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\nX-Obs: ");
        [head.as_bytes(), b"\xfc\r\n\r\nok"].concat()
    });
    let proxy = Proxy::of(origin.addr, &[]);
    for (path, want) in
        [("/passed", "detail=set-cookie"), ("/stored", "; stored"), ("/stored", "hit; ttl=")]
    {
        let answer = proxy.get(path);
        let status = answer.cache_status();
        assert!(status.contains(want), "{path}: {status}");
        for (name, lines) in [
            ("x-twice", &["1", "2, 3"][..]),
            ("x-spaced", &["1"]),
            ("x-folded", &["a b"]),
            ("x-obs", &["\u{fc}"]),
            ("link", &["</a>"]),
            ("date", &["yesterday"]),
            ("content-length", &["2"]),
            ("connection", &["close"]),
        ] {
            assert_eq!(answer.lines(name), lines, "{name} {want}");
        }
        for name in ["x-named", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"] {
            assert_eq!(answer.field(name), None, "{name} {want}");
        }
    }
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn fields_named_by_connection_do_not_select_the_stored_response() {
    let origin = Origin::start(|request| {
        let language = request.field("accept-language").unwrap_or_else(|| "none".to_owned());
        let length = language.len();
        format!(
            "HTTP/1.1 200 OK\r\nVary: Accept-Language\r\nContent-Length: {length}\r\n\r\n{language}"
        )
        .into_bytes()
    });
    let proxy = Proxy::of(origin.addr, &[]);
    let german = |connection: &str| {
        format!(
            "GET /page HTTP/1.1\r\nHost: a\r\nAccept-Language: de\r\nConnection: {connection}\r\n\r\n"
        )
    };
    // The proxy removes `Accept-Language` here, so the response is for requests without it.
    let removed = ask(proxy.addr, german("close, accept-language")).expect("a response");
    assert_eq!(removed.text(), "none");
    let sent = ask(proxy.addr, german("close")).expect("a response");
    assert_eq!(sent.text(), "de");
}

#[test]
fn origin_gets_request_bodies_with_their_framing() {
    let origin = Origin::start(|_| OK.to_vec());
    let proxy = Proxy::of(origin.addr, &[]);
    for (method, framing, sent, length, coding, body) in [
        ("POST", "Content-Length: 5", "hello", Some("5"), None, "hello"),
        ("POST", "Content-Length: 0", "", Some("0"), None, ""),
        ("POST", "X-None: 1", "", None, None, ""),
        ("DELETE", "Content-Length: 5", "hello", Some("5"), None, "hello"),
        ("GET", "Content-Length: 5", "hello", Some("5"), None, "hello"),
        (
            "POST",
            "Transfer-Encoding: chunked",
            "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
            None,
            Some("chunked"),
            "abcde",
        ),
        (
            "DELETE",
            "Transfer-Encoding: chunked",
            "3\r\nabc\r\n0\r\n\r\n",
            None,
            Some("chunked"),
            "abc",
        ),
        ("GET", "Transfer-Encoding: chunked", "1\r\na\r\n0\r\n\r\n", None, Some("chunked"), "a"),
        ("M-SEARCH", "Transfer-Encoding: chunked", "0\r\n\r\n", None, Some("chunked"), ""),
    ] {
        let case = format!("{method} {framing}");
        let head = format!("{method} /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{framing}");
        let answer = ask(proxy.addr, format!("{head}\r\n\r\n{sent}")).expect(&case);
        assert_eq!(answer.text(), "ok", "{case}");
        let forwarded = origin.last();
        assert_eq!(forwarded.field("content-length").as_deref(), length, "{case}");
        assert_eq!(forwarded.field("transfer-encoding").as_deref(), coding, "{case}");
        assert_eq!(forwarded.text(), body, "{case}");
    }
}

#[actix_web::test]
async fn http2_request_keeps_body_and_gets_one_cookie_line() {
    let origin = Origin::start(|_| OK.to_vec());
    let proxy = Proxy::of(origin.addr, &[]);
    let client = Client::new(proxy.addr, Protocol::Http2);
    let cookies = [("cookie", "a=b"), ("cookie", "c=d"), ("x-twice", "1"), ("x-twice", "2")];
    let answer = client.send(Method::GET, "/h2?x", &cookies).await;
    assert_eq!(answer.text(), "ok");
    // RFC 9113, section 8.2.3: cookie lines of HTTP/2 are joined for HTTP/1.1.
    let forwarded = origin.last();
    assert_eq!(forwarded.start, "GET /h2?x HTTP/1.1");
    assert_eq!(forwarded.lines("cookie"), ["a=b; c=d"]);
    assert_eq!(forwarded.lines("x-twice"), ["1", "2"]);
    assert_eq!(forwarded.field("host"), Some(proxy.addr.to_string()));
    assert_eq!(forwarded.field("transfer-encoding"), None);
    for method in [Method::POST, Method::DELETE] {
        let answer = client.send_body(method.clone(), "/h2", &[], "hello").await.expect("ok");
        assert_eq!(answer.text(), "ok");
        assert_eq!(origin.last().text(), "hello", "{method}");
    }
    assert_eq!(client.head("/h2").await.field("content-length").as_deref(), Some("2"));
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n";
    let origin = Origin::start(move |_| [both, "2\r\nok\r\n0\r\n\r\n"].concat().into_bytes());
    let proxy = Proxy::of(origin.addr, &[]);
    let answer = Client::new(proxy.addr, Protocol::Http2).get("/").await;
    assert_eq!(
        (answer.text(), answer.field("content-length")),
        ("ok", None),
        "the chunked framing counts"
    );
}

#[test]
fn response_bodies_of_any_framing_are_stored() {
    let origin = Origin::start(|request| {
        let head = "HTTP/1.1 200 OK\r\nX-End: 1\r\n";
        let rest = match request.start.split(' ').nth(1).expect("a target") {
            "/sized" => "Content-Length: 5\r\n\r\nhello",
            "/empty" => "Content-Length: 0\r\n\r\n",
            "/chunked" => "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            "/empty-chunked" => "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "/both" => "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            "/until-close" => "\r\nhello",
            "/http-1.0" => return b"HTTP/1.0 200 OK\r\n\r\nhello".to_vec(),
            other => panic!("{other}"),
        };
        format!("{head}{rest}").into_bytes()
    });
    let proxy = Proxy::of(origin.addr, &[]);
    for (path, length, body) in [
        ("/sized", Some("5"), "hello"),
        ("/empty", Some("0"), ""),
        ("/chunked", None, "hello"),
        ("/empty-chunked", None, ""),
        ("/both", None, "x"),
        ("/until-close", None, "hello"),
        ("/http-1.0", None, "hello"),
    ] {
        let before = origin.requests().len();
        let miss = proxy.get(path);
        assert_eq!(miss.cache_status(), "fwd=uri-miss; stored", "{path}");
        assert_eq!((miss.text(), miss.field("content-length").as_deref()), (body, length));
        let hit = proxy.get(path);
        assert!(hit.cache_status().starts_with("hit"), "{path}: {}", hit.cache_status());
        assert_eq!((hit.text(), hit.field("content-length")), (body, Some(body.len().to_string())));
        assert_eq!(origin.requests().len(), before + 1, "{path}");
    }
}

#[test]
fn response_without_body_ends_with_its_head() {
    let origin = Origin::start(|request| {
        match request.start.split(' ').nth(1).expect("a target") {
            "/204" => "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
            "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 12\r\n\r\n",
            "/sized" => "HTTP/1.1 200 OK\r\nContent-Length: 1234567890123\r\nX-A: 1\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n",
        }
        .as_bytes()
        .to_vec()
    });
    let proxy = Proxy::of(origin.addr, &[]);
    for (method, path, status, length) in [
        ("GET", "/204", "204", None),
        ("DELETE", "/204", "204", None),
        ("GET", "/304", "304", Some("12")),
        ("HEAD", "/304", "304", Some("12")),
        ("HEAD", "/sized", "200", Some("1234567890123")),
        ("HEAD", "/unsized", "200", None),
    ] {
        let case = format!("{method} {path}");
        // Two requests on one connection: the second response begins right after the first head.
        let request = |end: &str| format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{end}\r\n");
        let mut stream = connect(proxy.addr);
        let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
        for end in ["", "Connection: close\r\n"] {
            stream.write_all(request(end).as_bytes()).expect(&case);
            let head = RawMessage::head(&mut reader).expect(&case);
            assert_eq!(head.status(), status, "{case}");
            assert_eq!(head.field("content-length").as_deref(), length, "{case}");
            assert_eq!(head.field("transfer-encoding"), None, "{case}");
        }
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).expect(&case);
        assert!(rest.is_empty(), "{case}: {rest:?}");
    }
}

#[test]
fn response_chunk_is_forwarded_before_the_next_is_sent() {
    for (framing, first, last) in [
        ("Content-Length: 6", "one", "two"),
        ("Transfer-Encoding: chunked", "3\r\none\r\n", "3\r\ntwo\r\n0\r\n\r\n"),
        ("X-Until: close", "one", "two"),
    ] {
        let (received, is_received) = mpsc::channel::<()>();
        let is_received = Mutex::new(is_received);
        let origin = Origin::accept(move |mut stream| {
            RawMessage::request(&mut BufReader::new(&stream)).expect("a request");
            write!(stream, "HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{first}").expect(framing);
            let is_received = is_received.lock().unwrap().recv_timeout(TIME_LIMIT);
            is_received.expect("the client has the first chunk");
            stream.write_all(last.as_bytes()).expect(framing);
        });
        let proxy = Proxy::of(origin.addr, &[]);
        let mut stream = connect(proxy.addr);
        stream.write_all(get("/").as_bytes()).expect(framing);
        let mut reader = BufReader::new(stream);
        let head = RawMessage::head(&mut reader).expect(framing);
        assert_eq!(head.cache_status(), "fwd=uri-miss; stored", "{framing}");
        let mut body = Vec::new();
        while !body.ends_with(b"one") {
            let mut byte = [0];
            reader.read_exact(&mut byte).expect(framing);
            body.extend(byte);
        }
        received.send(()).expect(framing);
        reader.read_to_end(&mut body).expect(framing);
        assert!(String::from_utf8_lossy(&body).contains("two"), "{framing}");
        assert_eq!(proxy.get("/").text(), "onetwo", "{framing}: the stored body");
    }
}

#[test]
fn request_chunk_is_forwarded_before_the_next_is_sent() {
    let (received, is_received) = mpsc::channel();
    let received = Mutex::new(received);
    let origin = Origin::accept(move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        RawMessage::head(&mut reader).expect("a head");
        for part in [b"one", b"two"] {
            let mut got = [0; 3];
            reader.read_exact(&mut got).expect("a part");
            assert_eq!(&got, part);
            received.lock().unwrap().send(()).unwrap();
        }
        stream.write_all(OK).unwrap();
    });
    let proxy = Proxy::of(origin.addr, &[]);
    let mut stream = connect(proxy.addr);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 6\r\n\r\none";
    stream.write_all(head.as_bytes()).unwrap();
    is_received.recv_timeout(TIME_LIMIT).expect("the origin has the first part");
    stream.write_all(b"two").unwrap();
    is_received.recv_timeout(TIME_LIMIT).expect("the origin has the second part");
    assert_eq!(RawMessage::head(&mut BufReader::new(stream)).expect("a response").status(), "200");
}

#[actix_web::test]
async fn http2_body_without_length_is_forwarded_as_it_comes() {
    let (coding_sender, coding_receiver) = oneshot::channel();
    let coding_sender = Mutex::new(Some(coding_sender));
    let origin = Origin::accept(move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let head = RawMessage::head(&mut reader).expect("a head");
        let coding = head.field("transfer-encoding");
        coding_sender.lock().unwrap().take().unwrap().send(coding).unwrap();
        let mut rest = [0; 15];
        reader.read_exact(&mut rest).expect("a chunk and the end");
        assert_eq!(&rest, b"5\r\nhello\r\n0\r\n\r\n");
        stream.write_all(OK).unwrap();
    });
    let proxy = Proxy::of(origin.addr, &[]);
    // The body has one chunk, which is sent only when the head has reached the origin.
    let chunk = coding_receiver.map(|coding| {
        assert_eq!(coding.expect("the origin has the head").as_deref(), Some("chunked"));
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"hello")))
    });
    let body = StreamBody::new(stream::once(chunk.boxed()));
    let client = legacy::Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let request = Request::post(format!("http://{}/", proxy.addr)).body(body).unwrap();
    let answer = timeout(TIME_LIMIT, client.request(request)).await.expect("a response in time");
    assert_eq!(answer.expect("a response").status(), 200);
}
