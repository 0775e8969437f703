//! The choice of a coding over sockets: no client gets a coding that it refuses.

use std::net::SocketAddr;

use actix_web_cache::Rule;
use proptest::{collection::vec, prelude::*, sample::select};

use super::{CODINGS, Site, compressing, decoded, page, policy, streamed};
use crate::support::{builder, random_cases, raw};

#[actix_web::test]
async fn client_that_refuses_the_uncoded_page_gets_a_coding_or_the_answer_of_the_handler() {
    let (builder, _) = compressing();
    let site = Site::new(&builder.build().unwrap());
    site.client.get("/").await;
    let first = site.get("/", "gzip, identity;q=0").await;
    assert!(first.is_hit() && streamed(&first, "gzip", "hit") == page().as_bytes());
    let coded = site.get_coded("/", "gzip").await;
    let refusing = site.get("/", "gzip, identity;q=0").await;
    assert_eq!((refusing.is_hit(), &refusing.body), (true, &coded.body));
    let none = site.get("/", "x-own, *;q=0").await;
    assert_eq!(none.cache_status(), "fwd=bypass; stored; detail=accept-encoding");
    assert_eq!(site.runs.get(), 2);
}

/// Joins the chunks of a body (RFC 9112 section 7.1).
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut joined = Vec::new();
    loop {
        let at = body.windows(2).position(|bytes| bytes == b"\r\n").unwrap();
        let length = std::str::from_utf8(&body[..at]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return joined;
        }
        joined.extend_from_slice(&body[at + 2..][..length]);
        body = &body[at + 2 + length + 2..];
    }
}

/// Returns the weight that a list gives to a coding, by a slow reading of RFC 9110 section 12.5.3.
fn weight(list: &[(&str, &str)], coding: &str) -> Option<f32> {
    let find = |name: &str| list.iter().find(|(found, _)| *found == name);
    let (_, weight) = find(coding).or_else(|| find("*"))?;
    Some(if weight.is_empty() { 1.0 } else { weight.parse().unwrap() })
}

/// The coding that the cache should choose if it has all copies; `None` for none.
fn expected(list: &[(&str, &str)]) -> Option<&'static str> {
    let identity = weight(list, "identity").unwrap_or(0.0);
    let weights = CODINGS.map(|coding| (coding, weight(list, coding).unwrap_or(0.0)));
    let best = weights.map(|(_, weight)| weight).into_iter().fold(0.0, f32::max);
    let acceptable = |(_, weight): &(&str, f32)| *weight > 0.0 && *weight >= identity;
    let found = weights.into_iter().filter(acceptable).find(|(_, weight)| *weight == best);
    found.map(|(coding, _)| coding)
}

#[actix_web::test]
async fn coding_is_the_one_that_the_reference_chooses() {
    let (builder, _) = compressing();
    let site = Site::new(&builder.build().unwrap());
    for coding in CODINGS {
        site.get_coded("/", coding).await;
    }
    compare_with_reference(site.server.addr, true);
}

/// The choice is the same for a page that is not stored.
#[actix_web::test]
async fn coding_of_a_page_that_is_not_stored_is_the_one_that_the_reference_chooses() {
    let builder = builder().0.policy(policy()).rule(Rule::prefix("/").bypass());
    let site = Site::new(&builder.build().unwrap());
    compare_with_reference(site.server.addr, false);
}

fn compare_with_reference(addr: SocketAddr, is_stored: bool) {
    let names = select(vec!["br", "gzip", "zstd", "identity", "*", "deflate"]);
    let weights = select(vec!["", "0", "0.0", "0.3", "0.5", "0.500", "1", "1.000"]);
    let lists = vec((names, weights), 0..6);
    let cases = random_cases(500, &lists, |list| {
        let member = |(name, weight): &(&str, &str)| match weight.is_empty() {
            true => (*name).to_owned(),
            false => format!("{name};q={weight}"),
        };
        let members: Vec<_> = list.iter().map(member).collect();
        let field = members.join(", ");
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {addr}\r\nAccept-Encoding: {field}\r\nConnection: close\r\n\r\n"
        );
        let answer = raw(addr, request.as_bytes());
        let at = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let (head, body) =
            (String::from_utf8_lossy(&answer[..at]).to_lowercase(), &answer[at + 4..]);
        let line = head.lines().find_map(|line| line.strip_prefix("content-encoding: "));
        let want = expected(&list);
        prop_assert_eq!(line, want, "{}", field);
        match want {
            Some(coding) if is_stored => {
                prop_assert!(decoded(coding, body) == page().as_bytes());
            }
            Some(coding) => {
                prop_assert!(decoded(coding, &unchunked(body)) == page().as_bytes());
            }
            None if weight(&list, "identity") == Some(0.0) => {
                prop_assert_eq!(head.contains("detail=accept-encoding"), is_stored, "{}", head);
            }
            None => prop_assert!(body == page().as_bytes()),
        }
        Ok(())
    });
    assert!(cases >= 500);
}
