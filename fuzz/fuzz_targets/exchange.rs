//! The default policy stores no response that is meant for one client.
//!
//! The assertions use a simple parser, which ignores lines with quoted strings.

#![no_main]

use actix_web_cache::fuzzing::is_stored_by_default;
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Exchange<'a> {
    request: Vec<(RequestField, Value<'a>)>,
    status: u16,
    response: Vec<(ResponseField, Value<'a>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Arbitrary)]
enum RequestField {
    Authorization,
    CacheControl,
    Cookie,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Arbitrary)]
enum ResponseField {
    Age,
    CacheControl,
    Date,
    ETag,
    Expires,
    LastModified,
    Pragma,
    SetCookie,
    Vary,
}

/// A field value: known words in any order, or any bytes.
#[derive(Debug, Arbitrary)]
enum Value<'a> {
    Words(Vec<(Word, Separator)>),
    Bytes(&'a [u8]),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Word {
    NoStore,
    Private,
    NoCache,
    Public,
    MaxAge,
    SMaxAge,
    MustRevalidate,
    Qualified,
    Extension,
    Star,
    Cookie,
    Accept,
    Date,
    Tag,
    Zero,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Separator {
    Comma,
    CommaSpace,
    Semicolon,
    Space,
    Quote,
    Equals,
}

impl Word {
    const fn text(self) -> &'static str {
        match self {
            Self::NoStore => "No-Store",
            Self::Private => "private",
            Self::NoCache => "no-cache",
            Self::Public => "public",
            Self::MaxAge => "max-age=60",
            Self::SMaxAge => "s-maxage=60",
            Self::MustRevalidate => "must-revalidate",
            Self::Qualified => "private=\"x-a\"",
            Self::Extension => "ext=\"a, b\"",
            Self::Star => "*",
            Self::Cookie => "Cookie",
            Self::Accept => "accept",
            Self::Date => "Sun, 06 Nov 2094 08:49:37 GMT",
            Self::Tag => "\"a\"",
            Self::Zero => "0",
        }
    }
}

impl Separator {
    const fn text(self) -> &'static str {
        match self {
            Self::Comma => ",",
            Self::CommaSpace => ", ",
            Self::Semicolon => "; ",
            Self::Space => " ",
            Self::Quote => "\"",
            Self::Equals => "=",
        }
    }
}

impl Value<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Words(words) => {
                let text =
                    words.iter().flat_map(|(word, separator)| [word.text(), separator.text()]);
                text.collect::<String>().into_bytes()
            }
            Self::Bytes(bytes) => bytes.to_vec(),
        }
    }
}

impl RequestField {
    const fn name(self) -> &'static str {
        match self {
            Self::Authorization => "authorization",
            Self::CacheControl => "cache-control",
            Self::Cookie => "cookie",
            Self::Other => "x-other",
        }
    }
}

impl ResponseField {
    const fn name(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::CacheControl => "cache-control",
            Self::Date => "date",
            Self::ETag => "etag",
            Self::Expires => "expires",
            Self::LastModified => "last-modified",
            Self::Pragma => "pragma",
            Self::SetCookie => "set-cookie",
            Self::Vary => "vary",
        }
    }
}

type Field = (&'static str, Vec<u8>);

/// Returns whether HTTP allows a field value.
fn is_valid(value: &[u8]) -> bool {
    value.iter().all(|&byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7f))
}

/// Returns the lines of a field that have no quotes, in lower case.
fn unquoted_lines<'a>(fields: &'a [Field], name: &str) -> impl Iterator<Item = String> + use<'a> {
    let found = fields.iter().filter({
        let name = name.to_owned();
        move |(found, _)| *found == name
    });
    let lines = found.map(|(_, value)| String::from_utf8_lossy(value).to_ascii_lowercase());
    lines.filter(|line| !line.contains('"'))
}

/// Returns whether a member of the list in a field is this word.
fn has_member(fields: &[Field], name: &str, word: &str) -> bool {
    unquoted_lines(fields, name).any(|line| line.split(',').any(|member| member.trim() == word))
}

/// Returns whether a field contains this text anywhere.
fn contains(fields: &[Field], name: &str, word: &str) -> bool {
    let lines = fields.iter().filter(|(found, _)| *found == name);
    let mut lines = lines.map(|(_, value)| String::from_utf8_lossy(value).to_ascii_lowercase());
    lines.any(|line| line.contains(word))
}

fuzz_target!(|exchange: Exchange<'_>| {
    let request: Vec<Field> =
        exchange.request.iter().map(|(field, value)| (field.name(), value.bytes())).collect();
    let response: Vec<Field> =
        exchange.response.iter().map(|(field, value)| (field.name(), value.bytes())).collect();
    if !request.iter().chain(&response).all(|(_, value)| is_valid(value)) {
        return;
    }
    let status = 100 + exchange.status % 500;
    if !is_stored_by_default(&request, status, &response) {
        return;
    }
    let has = |fields: &[Field], name: &str| fields.iter().any(|(found, _)| *found == name);
    let control = "cache-control";
    assert!(status >= 200 && status != 206 && status != 304);
    assert!(!has_member(&request, control, "no-store"));
    let must_understand = contains(&response, control, "must-understand");
    assert!(!has_member(&response, control, "no-store") || must_understand);
    assert!(!has_member(&response, control, "private"));
    assert!(!has(&response, "set-cookie"));
    assert!(!has_member(&response, "vary", "*"));
    let shared = contains(&response, control, "public") || contains(&response, control, "s-maxage");
    let must_revalidate = contains(&response, control, "must-revalidate");
    assert!(!has(&request, "authorization") || shared || must_revalidate);
    let has_cookies = unquoted_lines(&request, "cookie")
        .any(|line| line.split(';').any(|pair| pair.contains('=') && !pair.trim().is_empty()));
    assert!(!has_cookies || shared || contains(&response, "vary", "cookie"));
});
