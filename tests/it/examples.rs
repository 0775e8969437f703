//! The examples keep what they print: each is started, and what it says to try is tried.

use std::{fs, path::Path, process::Command};

use hyper::Method;

use crate::support::{Answer, Client, Program, Protocol, example};
#[cfg(feature = "redis")]
use crate::{
    redis_store::until_hit,
    support::{RedisServer, secs},
};

/// Its own tests run here, the suite for stores among them: cargo runs none of examples.
#[path = "../../examples/custom_store.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is a program of its own")]
mod custom_store;

/// A line that an example prints: `curl -i URL   # FIELD: WORDS`, or with `-H 'Host: HOST'` in it.
struct Try {
    host: Option<String>,
    path: String,
    field: String,
    words: String,
}

/// An example, and what it says to try.
struct Example {
    program: Program,
    client: Client,
    tries: Vec<Try>,
}

impl Example {
    fn start(name: &str, tries: usize) -> Self {
        Self::of(&mut example(name), tries)
    }

    fn of(command: &mut Command, tries: usize) -> Self {
        let program = Program::start(command);
        let addr = program.addr();
        let mut found = Vec::new();
        while found.len() < tries {
            let line = program.line();
            if let Some(command) = line.trim().strip_prefix("curl -i ") {
                found.push(Try::read(command, &format!("http://{addr}")));
            }
        }
        Self { program, client: Client::new(addr, Protocol::Http1), tries: found }
    }

    /// The next line it prints that has `words` in it and is no advice.
    fn next_line_with(&mut self, words: &str) -> String {
        loop {
            let line = self.program.line();
            if line.contains(words) && !line.starts_with([' ', 'W']) {
                return line.trim().to_owned();
            }
        }
    }

    /// Tries all in order; each answer has the words in its field.
    async fn keeps_its_word(&self) -> Vec<Answer> {
        let mut answers = Vec::new();
        for Try { host, path, field, words } in &self.tries {
            let host: Vec<_> = host.iter().map(|host| ("host", host.as_str())).collect();
            let answer = self.client.send(Method::GET, path, &host).await;
            let value = answer.field(field).unwrap_or_default();
            assert!(value.contains(words), "{path}: {field}: {value}, which lacks {words:?}");
            answers.push(answer);
        }
        answers
    }
}

impl Try {
    fn read(command: &str, base: &str) -> Self {
        let (url, comment) = command.split_once('#').expect("what to look at");
        let (field, words) = comment.split_once(": ").expect("a field and what is in it");
        let (host, url) = match url.strip_prefix("-H 'Host: ").map(|rest| rest.split_once("' ")) {
            Some(found) => found.map(|(host, url)| (Some(host.to_owned()), url)).expect("a host"),
            None => (None, url),
        };
        let url = url.trim().trim_matches('\'');
        Self {
            host,
            path: url.strip_prefix(base).expect("a URL of the example").to_owned(),
            field: field.trim().to_owned(),
            words: words.trim().to_owned(),
        }
    }
}

#[actix_web::test]
async fn quickstart_shows_a_miss_that_was_stored_and_a_hit_with_the_same_body() {
    let example = Example::start("quickstart", 2);
    let answers = example.keeps_its_word().await;
    let [miss, hit] = &answers[..] else { panic!("two lines to try") };
    assert_eq!(miss.cache_status(), "fwd=uri-miss; stored");
    assert!(hit.is_hit(), "{}", hit.cache_status());
    assert_eq!(miss.text(), "made by run 1 of the handler\n");
    assert_eq!(hit.body, miss.body);
    assert_eq!(hit.field("cache-control").as_deref(), Some("max-age=60"));
    assert_eq!(hit.field("expires"), miss.field("expires"));
    assert!(hit.field("expires").is_some());
    let age: u64 = hit.field("age").expect("Age").parse().expect("seconds");
    assert!(age < 60, "{age}");
    assert_eq!(miss.field("age"), None);
}

#[actix_web::test]
async fn scope_shows_lifetimes_from_application_scope_route_and_handler() {
    let example = Example::start("scope", 5);
    example.keeps_its_word().await;
    let breaking = example.client.get("/news?breaking").await;
    assert_eq!(breaking.cache_status(), "fwd=uri-miss; detail=handler");
    for path in ["/", "/api/list", "/about", "/news"] {
        let again = example.client.get(path).await;
        assert!(again.is_hit(), "{path}: {}", again.cache_status());
    }
}

#[actix_web::test]
async fn rules_shows_each_kind_of_rule_and_a_mistake_that_is_refused() {
    let program = Program::start(&mut example("rules"));
    let advice = program.line();
    assert!(advice.contains("\"health\" does not begin with '/'"), "{advice}");
    drop(program);
    let example = Example::start("rules", 8);
    let answers = example.keeps_its_word().await;
    assert_eq!(answers[2].status, 404);
    for path in ["/posts/1", "/nothing"] {
        assert!(example.client.get(path).await.is_hit(), "{path}");
    }
    let health = example.client.get("/health").await;
    assert_eq!(health.cache_status(), "fwd=bypass; detail=rule");
    assert_eq!(health.field("cache-control"), None);
}

#[actix_web::test]
async fn conditional_shows_one_body_made_once_and_a_304_for_who_has_it() {
    let mut example = Example::start("conditional", 2);
    let [made, confirmed] = &example.keeps_its_word().await[..] else { panic!("two to try") };
    assert_eq!(confirmed.body, made.body);
    assert_eq!(confirmed.field("age"), None, "the handler has just confirmed it");
    for (tag, status) in [("\"version-1\"", 304), ("\"version-0\"", 200)] {
        let page = example.client.get_with("/page", &[("if-none-match", tag)]).await;
        assert_eq!(page.status, status, "{tag}");
    }
    let lines: Vec<_> = (0..3).map(|_| example.next_line_with(": ")).collect();
    assert_eq!(lines, ["report: made", "report: not modified", "page: made"]);
}

#[actix_web::test]
async fn headers_only_shows_what_may_and_what_may_not_be_kept() {
    let example = Example::start("headers_only", 2);
    let answers = example.keeps_its_word().await;
    let [logo, account] = &answers[..] else { panic!("two lines to try") };
    let may = logo.field("cache-control").unwrap();
    assert!(may.contains("stale-while-revalidate=60"), "{may}");
    let must_not = account.field("cache-control").unwrap();
    assert!(must_not.contains("private") && account.field("expires").is_some(), "{must_not}");
    let page = example.client.get("/").await;
    assert_eq!(page.field("cache-control"), None);
    assert_eq!(page.field("cache-status"), None, "nothing is stored");
}

#[actix_web::test]
async fn custom_store_shows_a_hit_after_a_miss() {
    let answers = Example::start("custom_store", 2).keeps_its_word().await;
    assert_eq!(answers[0].text(), "kept in a map\n");
    assert_eq!(answers[1].body, answers[0].body);
}

#[actix_web::test]
async fn invalidation_shows_what_a_write_reaches() {
    let example = Example::start("invalidation", 4);
    for (at, Try { path, field, words, .. }) in example.tries.iter().enumerate() {
        if at == 2 {
            for path in ["/", "/feed/1", "/posts/2"] {
                assert!(example.client.get(path).await.is_stored(), "{path}");
            }
            let write = example.client.send_body(Method::PUT, "/posts/1", &[], "A new title");
            assert_eq!(write.await.unwrap().text(), "version 1\n");
        }
        let answer = example.client.get(path).await;
        assert!(answer.field(field).unwrap().contains(words), "{path}: {}", answer.cache_status());
    }
    assert!(example.client.get("/").await.text().contains("A new title"));
    assert!(example.client.get("/posts/2").await.is_hit(), "another post");
}

#[test]
fn invalidation_reads_nothing_stale_while_others_write() {
    let program = Program::start(example("invalidation").args(["--load", "3000"]));
    program.addr();
    let found = program.line();
    let numbers: Vec<usize> =
        found.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    let [reads, hits, writes, stale] = numbers[..] else { panic!("{found}") };
    assert!(reads + writes == 3000 && hits > 0 && writes > 0, "{found}");
    assert_eq!(stale, 0, "{found}");
}

/// Two processes of an example on one Redis; the first has kept its word.
#[cfg(feature = "redis")]
async fn two_on_one_redis(name: &str, redis: &RedisServer) -> [Example; 2] {
    let both = [(); 2].map(|()| Example::of(example(name).env("REDIS_URL", redis.url()), 2));
    // The first line only: what it stores is on its way when the second could be tried.
    let Try { path, words, .. } = &both[0].tries[0];
    let made = both[0].client.get_with(path, &SHOP).await;
    assert!(made.cache_status().contains(words), "{}", made.cache_status());
    for example in &both {
        until_hit(&example.client, path, &SHOP).await;
        let hit = example.client.get_with(path, &SHOP).await;
        assert_eq!(hit.body, made.body, "made by the first, for both");
    }
    both
}

#[cfg(feature = "redis")]
const SHOP: [(&str, &str); 1] = [("host", "shop")];

#[cfg(feature = "redis")]
#[actix_web::test]
async fn redis_shows_one_processes_page_and_its_purge_at_the_other() {
    let redis = RedisServer::start();
    let [one, other] = two_on_one_redis("redis", &redis).await;
    assert_eq!(other.client.send(Method::POST, "/publish", &[]).await.text(), "published\n");
    let anew = one.client.get_with("/news", &SHOP).await;
    assert!(!anew.is_hit(), "{}", anew.cache_status());
    let stats = one.client.get("/stats").await;
    assert_eq!(stats.cache_status(), "fwd=bypass; detail=rule");
    assert!(stats.text().contains("lookups: ") && stats.text().contains("is_open: false"));
}

#[cfg(feature = "redis")]
#[actix_web::test]
async fn tiered_shows_hits_in_memory_and_a_purge_by_another_process_within_a_second() {
    let redis = RedisServer::start();
    let [one, other] = two_on_one_redis("tiered", &redis).await;
    let near_hits = async || {
        let stats = one.client.get("/stats").await.text().to_owned();
        let (_, hits) = stats.split_once("near_hits: ").expect("near_hits");
        hits.split(',').next().unwrap().parse::<u64>().unwrap()
    };
    let before = near_hits().await;
    assert!(one.client.get_with("/price/tea", &SHOP).await.is_hit());
    assert!(near_hits().await > before, "from memory");
    assert_eq!(other.client.send(Method::PUT, "/prices", &[]).await.text(), "changed\n");
    let gone = async {
        while one.client.get_with("/price/tea", &SHOP).await.is_hit() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(secs(1), gone).await.is_ok(), "served for longer than a second");
}

#[test]
fn the_table_of_examples_names_each_of_them() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let table = fs::read_to_string(directory.join("README.md")).unwrap();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let listed = name == "README" || table.contains(&format!("--example {name}"));
        assert!(listed, "{name} is missing in examples/README.md");
    }
}
