//! Under the default policy nothing is ever stored that is somebody's, by the plainest reading of
//! the fields: what no quoted string is near.

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

/// Words that mean something, in any order, or anything.
#[derive(Debug, Arbitrary)]
enum Value<'a> {
    Words(Vec<(Word, Glue)>),
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
enum Glue {
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

impl Glue {
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
                let text = words.iter().flat_map(|(word, glue)| [word.text(), glue.text()]);
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

/// Values that cannot stand in a message are not sent.
fn can_be_sent(value: &[u8]) -> bool {
    value.iter().all(|&byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7f))
}

/// The lines of a field without a quote.
fn plain<'a>(fields: &'a [Field], name: &str) -> impl Iterator<Item = String> + use<'a> {
    let found = fields.iter().filter({
        let name = name.to_owned();
        move |(found, _)| *found == name
    });
    let lines = found.map(|(_, value)| String::from_utf8_lossy(value).to_ascii_lowercase());
    lines.filter(|line| !line.contains('"'))
}

fn says(fields: &[Field], name: &str, word: &str) -> bool {
    plain(fields, name).any(|line| line.split(',').any(|member| member.trim() == word))
}

/// Whether it can be read anywhere in the field, in whatever form.
fn mentions(fields: &[Field], name: &str, word: &str) -> bool {
    let lines = fields.iter().filter(|(found, _)| *found == name);
    let mut lines = lines.map(|(_, value)| String::from_utf8_lossy(value).to_ascii_lowercase());
    lines.any(|line| line.contains(word))
}

fuzz_target!(|exchange: Exchange<'_>| {
    let request: Vec<Field> =
        exchange.request.iter().map(|(field, value)| (field.name(), value.bytes())).collect();
    let response: Vec<Field> =
        exchange.response.iter().map(|(field, value)| (field.name(), value.bytes())).collect();
    if !request.iter().chain(&response).all(|(_, value)| can_be_sent(value)) {
        return;
    }
    let status = 100 + exchange.status % 500;
    if !is_stored_by_default(&request, status, &response) {
        return;
    }
    let has = |fields: &[Field], name: &str| fields.iter().any(|(found, _)| *found == name);
    let control = "cache-control";
    assert!(status >= 200 && status != 206 && status != 304);
    assert!(!says(&request, control, "no-store"));
    let despite = mentions(&response, control, "must-understand");
    assert!(!says(&response, control, "no-store") || despite);
    assert!(!says(&response, control, "private"));
    assert!(!has(&response, "set-cookie"));
    assert!(!says(&response, "vary", "*"));
    let shares = mentions(&response, control, "public") || mentions(&response, control, "s-maxage");
    let must = mentions(&response, control, "must-revalidate");
    assert!(!has(&request, "authorization") || shares || must);
    let cookies = plain(&request, "cookie")
        .any(|line| line.split(';').any(|pair| pair.contains('=') && !pair.trim().is_empty()));
    assert!(!cookies || shares || mentions(&response, "vary", "cookie"));
});
