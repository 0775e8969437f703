//! Starts an example, and sends the requests that its output suggests.

use std::process::Command;

use hyper::Method;

use crate::support::{Answer, Client, Program, Protocol, example};

/// A request that an example suggests in its output: `curl -i URL   # FIELD: TEXT`, optionally with
/// `-H 'Host: HOST'` before the URL. The response has `TEXT` in `FIELD`.
pub(super) struct Suggestion {
    host: Option<String>,
    pub(super) path: String,
    pub(super) field: String,
    pub(super) text: String,
}

/// A running example, and the requests that it suggests.
pub(super) struct Example {
    program: Program,
    pub(super) client: Client,
    pub(super) suggestions: Vec<Suggestion>,
}

impl Example {
    /// Starts an example, and reads this many suggestions.
    pub(super) fn start(name: &str, suggestions: usize) -> Self {
        Self::start_command(&mut example(name), suggestions)
    }

    pub(super) fn start_command(command: &mut Command, suggestions: usize) -> Self {
        let program = Program::start(command);
        let addr = program.addr();
        let mut found = Vec::new();
        while found.len() < suggestions {
            let line = program.line();
            if let Some(command) = line.trim().strip_prefix("curl -i ") {
                found.push(Suggestion::parse(command, &format!("http://{addr}")));
            }
        }
        Self { program, client: Client::new(addr, Protocol::Http1), suggestions: found }
    }

    /// The next line of its output that contains `text` and is no part of the instructions.
    pub(super) fn next_line_with(&mut self, text: &str) -> String {
        loop {
            let line = self.program.line();
            if line.contains(text) && !line.starts_with([' ', 'W']) {
                return line.trim().to_owned();
            }
        }
    }

    /// Sends all suggested requests in order, and checks their responses.
    pub(super) async fn check_suggestions(&self) -> Vec<Answer> {
        let mut answers = Vec::new();
        for Suggestion { host, path, field, text } in &self.suggestions {
            let host: Vec<_> = host.iter().map(|host| ("host", host.as_str())).collect();
            let answer = self.client.send(Method::GET, path, &host).await;
            let value = answer.field(field).unwrap_or_default();
            assert!(value.contains(text), "{path}: {text:?} is not in {field}: {value}");
            answers.push(answer);
        }
        answers
    }
}

impl Suggestion {
    fn parse(command: &str, base: &str) -> Self {
        let (url, comment) = command.split_once('#').expect("a comment");
        let (field, text) = comment.split_once(": ").expect("a field and a part of its value");
        let (host, url) = match url.strip_prefix("-H 'Host: ").map(|rest| rest.split_once("' ")) {
            Some(found) => found.map(|(host, url)| (Some(host.to_owned()), url)).expect("a host"),
            None => (None, url),
        };
        let url = url.trim().trim_matches('\'');
        Self {
            host,
            path: url.strip_prefix(base).expect("a URL of the example").to_owned(),
            field: field.trim().to_owned(),
            text: text.trim().to_owned(),
        }
    }
}
