//! The reverse proxy example where things go wrong, or are asked for that it does not do.

use std::{
    io::{BufReader, Write as _},
    net::TcpListener,
    sync::{Mutex, mpsc},
};

use hyper::Method;

use crate::support::{
    Client, Counter, Origin, Program, Protocol, Proxy, RawMessage, ask, example, get,
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An answer of the proxy's own, with nothing of the origin in it.
fn assert_own(answer: &RawMessage, status: &str, case: &str) {
    assert_eq!(answer.status(), status, "{case}");
    assert_eq!(answer.text().lines().count(), 1, "{case}: {:?}", answer.text());
    let mut names: Vec<_> = answer.fields.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let want = ["cache-status", "connection", "content-length", "content-type", "date"];
    assert_eq!(names, want, "{case}");
}

#[test]
fn an_origin_that_fails_before_its_head_ends_gives_502() {
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Proxy::of(refused, &[]);
    assert_own(&proxy.get("/"), "502", "refused");
    for (case, answer) in [
        ("closed", ""),
        ("closed within the head", "HTTP/1.1 200 OK\r\nX-Secret: 1\r\n"),
        ("no HTTP", "SSH-2.0-OpenSSH_9.9\r\n"),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        ("another protocol", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\n\r\n"),
    ] {
        let origin = Origin::start(|_| answer.as_bytes().to_vec());
        let proxy = Proxy::of(origin.addr, &[]);
        assert_own(&proxy.get("/"), "502", case);
        let post = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
        assert_own(&ask(proxy.addr, post).expect(case), "502", case);
        assert_eq!(origin.requests().len(), 2, "{case}: nothing is sent twice");
    }
    // To close a connection without reading what has come resets it.
    let origin = Origin::accept(|stream| drop(stream.peek(&mut [0])));
    assert_own(&Proxy::of(origin.addr, &[]).get("/"), "502", "reset");
}

#[test]
fn an_origin_that_is_silent_gives_504() {
    for beginning in ["", "HTTP/1.1 200 OK\r\nX-Secret: 1\r\n"] {
        let (end, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let origin = Origin::accept(move |mut stream| {
            RawMessage::request(&mut BufReader::new(&stream)).expect("a request");
            stream.write_all(beginning.as_bytes()).unwrap();
            // Until the test is over.
            let _ = wait.lock().unwrap().recv();
        });
        let proxy = Proxy::of(origin.addr, &["--origin-timeout-ms", "50"]);
        assert_own(&proxy.get("/"), "504", beginning);
        drop(end);
    }
}

#[actix_web::test]
async fn a_body_cut_short_reaches_clients_broken_and_is_not_stored() {
    for (framing, broken, whole) in [
        ("Content-Length: 6", "one", "onetwo"),
        ("Transfer-Encoding: chunked", "3\r\none\r\n", "6\r\nonetwo\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "6\r\none", "6\r\nonetwo\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "3\r\none\r\nx\r\n", "6\r\nonetwo\r\n0\r\n\r\n"),
    ] {
        let times = Counter::default();
        let origin = Origin::start(move |_| {
            let body = if times.count() <= 2 { broken } else { whole };
            format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}").into_bytes()
        });
        let proxy = Proxy::of(origin.addr, &[]);
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let client = Client::new(proxy.addr, protocol);
            let answer = client.send_body(Method::GET, "/", &[("host", "a")], "").await;
            assert!(answer.is_err(), "{framing} {broken:?} by {protocol:?}: {answer:?}");
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
fn any_status_passes_and_rfc_9111_stores_it_if_it_states_a_lifetime() {
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
            let got = again.cache_status();
            assert!(got.starts_with(second), "{status} under {preset}: {got}");
        }
    }
}

#[test]
fn bodies_over_the_limit_pass_and_are_not_stored() {
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
fn nobody_is_upgraded_and_no_tunnel_is_made() {
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
    assert_eq!(ask(proxy.addr, connect).expect("an answer").status(), "501");
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn clients_of_http_1_0_get_no_chunks() {
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
fn bad_arguments_are_told_with_usage_and_code_2() {
    let run = |args: &[&str]| example("reverse_proxy").args(args).output().unwrap();
    let origin = ["--origin", "http://127.0.0.1:1"];
    for (args, complaint) in [
        (&[][..], "--origin is missing"),
        (&["--origin"], "missing argument"),
        (&["--origin", "https://a"], "expected http://HOST:PORT"),
        (&["--origin", "a:80"], "expected http://HOST:PORT"),
        (&["--origin", "http://a/path"], "expected http://HOST:PORT"),
        (&["--origin", "http://me:secret@a"], "expected http://HOST:PORT"),
        (&["--listen", "here"], "here"),
        (&["--preset", "fast"], "unknown preset \"fast\""),
        (&["--store", "disk"], "unknown store \"disk\""),
        (&["--store", "rediss"], "this is no way to Redis"),
        (&["--store", "tiered+redis://:secret@h:port"], "this is no way to Redis"),
        (&["--store", "tiered+http://:secret@h"], "unknown store \"tiered+http\""),
        (&["--store", "redis://h", "--namespace", "a{"], "has no braces"),
        (&["--store", "tiered+redis://h", "--memory-bytes", "1"], "could keep nothing"),
        (&["--memory-bytes", "1"], "could keep nothing"),
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
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
        assert!(told.contains(complaint), "{args:?}: {told}");
        assert!(told.contains("\nusage: reverse_proxy --origin"), "{args:?}: {told}");
        assert!(output.stdout.is_empty(), "{args:?}");
        let is_store = args.contains(&"--store");
        assert!(!is_store || !told.contains("secret"), "{args:?}: {told}");
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
fn one_line_tells_the_address_and_nothing_follows() {
    let origin = Origin::start(|_| OK.to_vec());
    let mut command = example("reverse_proxy");
    command.args(["--listen", "127.0.0.1:0", "--origin", &format!("http://{}", origin.addr)]);
    let program = Program::start(&mut command);
    let line = program.line();
    let addr = line.strip_prefix("listening on ").expect("the address").parse().expect(&line);
    assert_eq!(ask(addr, get("/")).expect("an answer").text(), "ok");
    assert_eq!(program.stop(), [""; 0]);
}
