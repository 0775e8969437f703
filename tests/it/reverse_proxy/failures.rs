//! The reverse proxy with failing origins, bodies that are not stored, protocols that it does not
//! support, and bad arguments.

use std::{
    io::{BufReader, Write as _},
    net::TcpListener,
    sync::{Mutex, mpsc},
};

use hyper::Method;

use crate::{
    reverse_proxy::OK,
    support::{Client, Counter, Origin, Program, Protocol, Proxy, RawMessage, ask, example, get},
};

/// Asserts that the proxy generated the response, without fields of the origin.
fn assert_generated(answer: &RawMessage, status: &str, case: &str) {
    assert_eq!(answer.status(), status, "{case}");
    assert_eq!(answer.text().lines().count(), 1, "{case}: {:?}", answer.text());
    let mut names: Vec<_> = answer.fields.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let want = ["cache-status", "connection", "content-length", "content-type", "date"];
    assert_eq!(names, want, "{case}");
}

#[test]
fn origin_failure_before_end_of_head_gives_502() {
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Proxy::of(refused, &[]);
    assert_generated(&proxy.get("/"), "502", "refused");
    for (case, answer) in [
        ("closed", ""),
        ("closed within the head", "HTTP/1.1 200 OK\r\nX-Secret: 1\r\n"),
        ("no HTTP", "SSH-2.0-OpenSSH_9.9\r\n"),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        ("another protocol", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\n\r\n"),
    ] {
        let origin = Origin::start(|_| answer.as_bytes().to_vec());
        let proxy = Proxy::of(origin.addr, &[]);
        assert_generated(&proxy.get("/"), "502", case);
        let post = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
        assert_generated(&ask(proxy.addr, post).expect(case), "502", case);
        assert_eq!(origin.requests().len(), 2, "{case}: a request was sent twice");
    }
    // Closing a socket with unread data resets the connection.
    let origin = Origin::accept(|stream| drop(stream.peek(&mut [0])));
    assert_generated(&Proxy::of(origin.addr, &[]).get("/"), "502", "reset");
}

#[test]
fn silent_origin_gives_504() {
    for beginning in ["", "HTTP/1.1 200 OK\r\nX-Secret: 1\r\n"] {
        let (test, end_of_test) = mpsc::channel::<()>();
        let end_of_test = Mutex::new(end_of_test);
        let origin = Origin::accept(move |mut stream| {
            RawMessage::request(&mut BufReader::new(&stream)).expect("a request");
            stream.write_all(beginning.as_bytes()).unwrap();
            let _ = end_of_test.lock().unwrap().recv();
        });
        let proxy = Proxy::of(origin.addr, &["--origin-timeout-ms", "50"]);
        assert_generated(&proxy.get("/"), "504", beginning);
        drop(test);
    }
}

#[actix_web::test]
async fn truncated_body_is_an_error_for_clients_and_is_not_stored() {
    for (framing, truncated, complete) in [
        ("Content-Length: 6", "one", "onetwo"),
        ("Transfer-Encoding: chunked", "3\r\none\r\n", "6\r\nonetwo\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "6\r\none", "6\r\nonetwo\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "3\r\none\r\nx\r\n", "6\r\nonetwo\r\n0\r\n\r\n"),
    ] {
        let requests = Counter::default();
        let origin = Origin::start(move |_| {
            let body = if requests.count() <= 2 { truncated } else { complete };
            format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}").into_bytes()
        });
        let proxy = Proxy::of(origin.addr, &[]);
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let client = Client::new(proxy.addr, protocol);
            let answer = client.send_body(Method::GET, "/", &[("host", "a")], "").await;
            assert!(answer.is_err(), "{framing} {truncated:?} by {protocol:?}: {answer:?}");
        }
        let client = Client::new(proxy.addr, Protocol::Http1);
        for want in ["fwd=uri-miss; stored", "hit; ttl="] {
            let answer = client.get_with("/", &[("host", "a")]).await;
            assert!(answer.cache_status().starts_with(want), "{}", answer.cache_status());
            assert_eq!(answer.text(), "onetwo");
        }
    }
}

#[test]
fn any_status_is_forwarded_and_stored_with_explicit_lifetime_under_rfc9111_preset() {
    let origin = Origin::start(|request| {
        let status = request.start.split(['/', ' ']).nth(2).expect("a status");
        format!("HTTP/1.1 {status} Odd\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\nok")
            .into_bytes()
    });
    for (preset, second) in [("default", "fwd=uri-miss; detail=status"), ("rfc9111", "hit")] {
        let proxy = Proxy::of(origin.addr, &["--preset", preset]);
        for status in ["299", "399", "418", "499", "503", "599", "600", "999"] {
            let path = format!("/{status}");
            let first = proxy.get(&path);
            assert_eq!((first.status(), first.text()), (status, "ok"));
            let again = proxy.get(&path);
            assert_eq!((again.status(), again.text()), (status, "ok"));
            let cache_status = again.cache_status();
            assert!(cache_status.starts_with(second), "{status} under {preset}: {cache_status}");
        }
    }
}

#[test]
fn body_over_the_size_limit_is_forwarded_but_not_stored() {
    let origin = Origin::start(|request| {
        let framing = request.start.split(['/', ' ']).nth(2).unwrap_or_default();
        let body = "x".repeat(1000);
        match framing {
            "sized" => format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{body}"),
            _ => format!("HTTP/1.1 200 OK\r\n\r\n{body}"),
        }
        .into_bytes()
    });
    let proxy = Proxy::of(origin.addr, &["--max-body-bytes", "999", "--store", "memory"]);
    for (path, want) in [("/sized", "fwd=uri-miss; detail=too-large"), ("/unsized", "fwd=uri-miss")]
    {
        for _ in 0..2 {
            let answer = proxy.get(path);
            assert!(answer.cache_status().starts_with(want), "{}", answer.cache_status());
            assert_eq!(answer.body.len(), 1000, "{path}");
        }
    }
    assert_eq!(origin.requests().len(), 4);
}

#[test]
fn upgrade_and_connect_are_not_supported() {
    let origin = Origin::start(|_| OK.to_vec());
    let proxy = Proxy::of(origin.addr, &[]);
    for protocol in ["websocket", "h2c"] {
        let upgrade = format!(
            "GET /{protocol} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        );
        let answer = ask(proxy.addr, upgrade).expect(protocol);
        assert_eq!((answer.status(), answer.text()), ("200", "ok"), "{protocol}");
        assert_eq!(origin.last().field("upgrade"), None, "{protocol}");
        assert_eq!(origin.last().field("connection").as_deref(), Some("close"), "{protocol}");
    }
    let connect = "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n";
    assert_eq!(ask(proxy.addr, connect).expect("a response").status(), "501");
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn http10_client_gets_no_chunked_body() {
    let origin = Origin::start(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_vec()
    });
    let proxy = Proxy::of(origin.addr, &[]);
    for fields in ["", "Host: a\r\n", "Host: b\r\nConnection: keep-alive\r\n"] {
        let answer = ask(proxy.addr, format!("GET / HTTP/1.0\r\n{fields}\r\n")).expect(fields);
        assert_eq!(answer.field("transfer-encoding"), None, "{fields}");
        assert_eq!(answer.text(), "ok", "{fields}");
        assert!(origin.last().field("host").is_some(), "{fields}");
    }
}

#[test]
fn bad_argument_exits_with_code_2_and_prints_usage() {
    let run = |args: &[&str]| example("reverse_proxy").args(args).output().unwrap();
    let origin = ["--origin", "http://127.0.0.1:1"];
    for (args, message) in [
        (&[][..], "--origin is missing"),
        (&["--origin"], "missing argument"),
        (&["--origin", "https://a"], "expected http://HOST:PORT"),
        (&["--origin", "a:80"], "expected http://HOST:PORT"),
        (&["--origin", "http://a/path"], "expected http://HOST:PORT"),
        (&["--origin", "http://me:secret@a"], "expected http://HOST:PORT"),
        (&["--listen", "here"], "here"),
        (&["--preset", "fast"], "unknown preset \"fast\""),
        (&["--store", "disk"], "unknown store \"disk\""),
        (&["--store", "rediss"], "invalid Redis URL"),
        (&["--store", "tiered+redis://:secret@h:port"], "invalid Redis URL"),
        (&["--store", "tiered+http://:secret@h"], "unknown store \"tiered+http\""),
        (&["--store", "redis://h", "--namespace", "a{"], "invalid Redis namespace"),
        (&["--store", "tiered+redis://h", "--memory-bytes", "1"], "near_bytes is too small"),
        (&["--memory-bytes", "1"], "too small for any entry"),
        (&["--max-body-bytes", "0"], "max_body_size is 0"),
        (&["--workers", "0"], "0"),
        (&["--threads", "1"], "--threads"),
        (&["http://127.0.0.1:1"], "unexpected argument"),
    ] {
        let mut all = args.to_vec();
        if !args.is_empty() && args[0] != "--origin" {
            all.extend(origin);
        }
        let output = run(&all);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(message), "{args:?}: {stderr}");
        assert!(stderr.contains("\nusage: reverse_proxy --origin"), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{args:?}");
        let is_store = args.contains(&"--store");
        assert!(!is_store || !stderr.contains("secret"), "{args:?}: {stderr}");
    }
    let help = run(&["--help"]);
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("--origin-timeout-ms N") && help.contains("Upgrade"), "{help}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let output = run(&["--listen", &taken, origin[0], origin[1]]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn proxy_prints_its_address_and_nothing_else() {
    let origin = Origin::start(|_| OK.to_vec());
    let mut command = example("reverse_proxy");
    command.args(["--listen", "127.0.0.1:0", "--origin", &format!("http://{}", origin.addr)]);
    let program = Program::start(&mut command);
    let line = program.line();
    let addr = line.strip_prefix("listening on ").expect("an address").parse().expect(&line);
    assert_eq!(ask(addr, get("/")).expect("a response").text(), "ok");
    assert_eq!(program.stop(), [""; 0]);
}
