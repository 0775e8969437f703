//! The examples that run alone.

use std::{fs, path::Path};

use hyper::Method;

use crate::{
    compression::get_coded,
    examples::runner::{Example, Suggestion},
    support::{Client, Program, Protocol, example},
};

#[actix_web::test]
async fn quickstart_shows_stored_miss_and_hit_with_same_body() {
    let example = Example::start("quickstart", 2);
    let answers = example.check_suggestions().await;
    let [miss, hit] = &answers[..] else { panic!("not two suggestions") };
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
    example.check_suggestions().await;
    let breaking = example.client.get("/news?breaking").await;
    assert_eq!(breaking.cache_status(), "fwd=uri-miss; detail=handler");
    for path in ["/", "/api/list", "/about", "/news"] {
        let again = example.client.get(path).await;
        assert!(again.is_hit(), "{path}: {}", again.cache_status());
    }
}

#[actix_web::test]
async fn rules_shows_each_kind_of_rule_and_a_rejected_pattern() {
    let program = Program::start(&mut example("rules"));
    let advice = program.line();
    assert!(advice.contains("\"health\" of a rule does not begin with '/'"), "{advice}");
    drop(program);
    let example = Example::start("rules", 8);
    let answers = example.check_suggestions().await;
    assert_eq!(answers[2].status, 404);
    for path in ["/posts/1", "/nothing"] {
        assert!(example.client.get(path).await.is_hit(), "{path}");
    }
    let health = example.client.get("/health").await;
    assert_eq!(health.cache_status(), "fwd=bypass; detail=rule");
    assert_eq!(health.field("cache-control"), None);
}

#[actix_web::test]
async fn conditional_shows_one_run_and_304_for_matching_etag() {
    let mut example = Example::start("conditional", 2);
    let [made, validated] = &example.check_suggestions().await[..] else {
        panic!("not two suggestions")
    };
    assert_eq!(validated.body, made.body);
    assert_eq!(validated.field("age"), None, "the handler has validated it just now");
    for (tag, status) in [("\"version-1\"", 304), ("\"version-0\"", 200)] {
        let page = example.client.get_with("/page", &[("if-none-match", tag)]).await;
        assert_eq!(page.status, status, "{tag}");
    }
    let lines: Vec<_> = (0..3).map(|_| example.next_line_with(": ")).collect();
    assert_eq!(lines, ["report: made", "report: not modified", "page: made"]);
}

#[actix_web::test]
async fn headers_only_shows_cacheable_and_private_responses() {
    let example = Example::start("headers_only", 2);
    let answers = example.check_suggestions().await;
    let [logo, account] = &answers[..] else { panic!("not two suggestions") };
    let cacheable = logo.field("cache-control").unwrap();
    assert!(cacheable.contains("stale-while-revalidate=60"), "{cacheable}");
    let private = account.field("cache-control").unwrap();
    assert!(private.contains("private") && account.field("expires").is_some(), "{private}");
    let page = example.client.get("/").await;
    assert_eq!(page.field("cache-control"), None);
    assert_eq!(page.field("cache-status"), None, "nothing is stored");
}

#[actix_web::test]
async fn custom_store_shows_a_hit_after_a_miss() {
    let answers = Example::start("custom_store", 2).check_suggestions().await;
    assert_eq!(answers[0].text(), "kept in a map\n");
    assert_eq!(answers[1].body, answers[0].body);
}

#[actix_web::test]
async fn invalidation_shows_pages_purged_by_a_write() {
    let example = Example::start("invalidation", 4);
    for (index, Suggestion { path, field, text, .. }) in example.suggestions.iter().enumerate() {
        if index == 2 {
            for path in ["/", "/feed/1", "/posts/2"] {
                assert!(example.client.get(path).await.is_stored(), "{path}");
            }
            let write = example.client.send_body(Method::PUT, "/posts/1", &[], "A new title");
            assert_eq!(write.await.unwrap().text(), "version 1\n");
        }
        let answer = example.client.get(path).await;
        assert!(answer.field(field).unwrap().contains(text), "{path}: {}", answer.cache_status());
    }
    assert!(example.client.get("/").await.text().contains("A new title"));
    assert!(example.client.get("/posts/2").await.is_hit(), "the write purged another post");
}

#[test]
fn invalidation_under_load_reads_no_outdated_page() {
    let program = Program::start(example("invalidation").args(["--load", "3000"]));
    program.addr();
    let result = program.line();
    let numbers: Vec<usize> =
        result.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    let [reads, hits, writes, outdated] = numbers[..] else { panic!("{result}") };
    assert!(reads + writes == 3000 && hits > 0 && writes > 0, "{result}");
    assert_eq!(outdated, 0, "{result}");
}

#[test]
fn readme_of_examples_lists_every_example() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let table = fs::read_to_string(directory.join("README.md")).unwrap();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let listed =
            ["README", "Cargo"].contains(&name) || table.contains(&format!("--example {name}"));
        assert!(listed, "{name} is missing from examples/README.md");
    }
}

#[actix_web::test]
async fn static_files_shows_lifetimes_of_browsers_and_coded_copies() {
    let program = Program::start(&mut example("static_files"));
    let client = Client::new(program.addr(), Protocol::Http1);
    let page = client.get("/").await;
    assert!(page.status == 200 && page.text().contains("<title>A small site</title>"));
    assert_eq!(page.field("cache-control").as_deref(), Some("no-cache"));
    let asset = client.get("/assets/site.5f2c.css").await;
    assert_eq!(asset.status, 200);
    let forever = asset.field("cache-control").unwrap();
    assert!(forever.contains("max-age=31536000") && forever.contains("immutable"), "{forever}");
    for path in ["/", "/assets/site.5f2c.css"] {
        let copy = get_coded(&client, path, "br").await;
        assert!(copy.is_hit(), "{}", copy.cache_status());
        let tag = copy.field("etag").unwrap();
        let fields = [("accept-encoding", "br"), ("if-none-match", &*tag)];
        let known = client.get_with(path, &fields).await;
        assert_eq!((known.status.as_u16(), known.field("etag")), (304, Some(tag)), "{path}");
    }
    assert_eq!(client.get("/nothing").await.status, 404);
}
