//! Random exchanges, made of fields and directives that origins and clients send.

use std::time::{Duration, UNIX_EPOCH};

use proptest::{
    collection::vec,
    prelude::{Just, Strategy, prop_oneof},
    sample::select,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preset {
    Explicit,
    Rfc9111,
}

/// Two requests for one URL, and the response to the first.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) preset: Preset,
    pub(super) first: Message,
    pub(super) status: u16,
    pub(super) response: Message,
    /// The seconds that the handler takes.
    pub(super) delay: u64,
    /// The seconds from the response to the second request.
    pub(super) elapsed: u64,
    pub(super) second: Message,
    /// Whether the second request is a HEAD request.
    pub(super) head: bool,
}

impl Case {
    /// Applies a change to every directive of every message.
    pub(super) fn each_directive(&mut self, mut change: impl FnMut(&mut String)) {
        for message in [&mut self.first, &mut self.response, &mut self.second] {
            message.directives.iter_mut().for_each(&mut change);
        }
    }
}

/// The fields of a message. Its directives are sent in Cache-Control.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) directives: Vec<String>,
    /// The text between directives. Without it, each directive has a line of its own.
    separator: Option<&'static str>,
    pub(super) fields: Vec<(&'static str, Text)>,
}

impl Message {
    /// The field lines that are sent. Dates are relative to `start`.
    pub(super) fn lines(&self, start: u64) -> Vec<(&'static str, String)> {
        let control = match self.separator {
            Some(_) if self.directives.is_empty() => vec![],
            Some(separator) => vec![self.directives.join(separator)],
            None => self.directives.clone(),
        };
        let control = control.into_iter().map(|line| ("cache-control", line));
        control.chain(self.fields.iter().map(|(name, text)| (*name, text.at(start)))).collect()
    }

    /// Whether the message has a directive, with or without argument.
    pub(super) fn has_directive(&self, name: &str) -> bool {
        self.directives.iter().any(|directive| directive.split('=').next() == Some(name))
    }

    /// The argument of a directive, in seconds.
    pub(super) fn seconds(&self, name: &str) -> Option<u64> {
        let of = |directive: &String| directive.strip_prefix(name)?.strip_prefix('=')?.parse().ok();
        self.directives.iter().find_map(of)
    }

    /// Keeps one directive of each name: the shortest lifetime, otherwise the first directive.
    pub(super) fn remove_repeated_directives(&mut self) {
        let mut kept: Vec<String> = Vec::new();
        for directive in std::mem::take(&mut self.directives) {
            let name = |text: &str| text.split('=').next().map(|name| name.trim().to_owned());
            let lifetime = |text: &str| {
                let argument = text.split_once('=').map_or("", |(_, argument)| argument);
                argument.trim_matches('"').parse().unwrap_or(0_u64)
            };
            match kept.iter_mut().find(|known| name(known) == name(&directive)) {
                Some(known) if directive.contains("max") => {
                    if lifetime(&directive) < lifetime(known) {
                        *known = directive;
                    }
                }
                Some(_) => {}
                None => kept.push(directive),
            }
        }
        self.directives = kept;
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.fields.retain(|(found, _)| *found != name);
    }

    /// Joins all lines of a field into one line, with `between` between its members.
    pub(super) fn join(
        &mut self,
        name: &'static str,
        separator: &str,
        between: &str,
        member: impl Fn(&str) -> String,
    ) {
        let lines = self.fields.iter().filter(|(found, _)| *found == name);
        let lines: Vec<_> = lines.map(|(_, text)| text.at(0)).collect();
        if lines.is_empty() {
            return;
        }
        let all = lines.join(separator);
        let members: Vec<_> = all.split(separator).map(|text| member(text.trim())).collect();
        self.remove(name);
        self.fields.push((name, Text::Plain(members.join(between))));
    }
}

/// The value of a field.
#[derive(Debug, Clone)]
pub(super) enum Text {
    Plain(String),
    /// A date this many seconds after the first request.
    Date(i64, Format),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Format {
    Imf,
    Rfc850,
    Asctime,
}

impl Text {
    pub(super) fn at(&self, start: u64) -> String {
        let (offset, format) = match self {
            Self::Plain(text) => return text.clone(),
            Self::Date(offset, format) => (offset, format),
        };
        let moment = UNIX_EPOCH + Duration::from_secs(start.saturating_add_signed(*offset));
        // Sun, 06 Nov 1994 08:49:37 GMT
        let imf = httpdate::fmt_http_date(moment);
        let (name, day, month, year, time) =
            (&imf[..3], &imf[5..7], &imf[8..11], &imf[12..16], &imf[17..25]);
        match format {
            Format::Imf => imf,
            Format::Rfc850 => {
                let names =
                    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
                let name = names.iter().find(|full| full.starts_with(name)).unwrap();
                format!("{name}, {day}-{month}-{} {time} GMT", &year[2..])
            }
            Format::Asctime => {
                format!("{name} {month} {:>2} {time} {year}", day.trim_start_matches('0'))
            }
        }
    }
}

/// Numbers of seconds, both lifetimes and elapsed times.
fn seconds() -> impl Strategy<Value = u64> {
    prop_oneof![select(vec![0, 1, 5, 10, 60, 61, 100]), 0..200_u64]
}

fn argument(name: &'static str) -> impl Strategy<Value = String> {
    seconds().prop_map(move |seconds| format!("{name}={seconds}"))
}

fn word(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(words).prop_map(str::to_owned)
}

fn response_directive() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => argument("max-age"),
        3 => argument("s-maxage"),
        2 => argument("stale-while-revalidate"),
        1 => argument("stale-if-error"),
        1 => seconds().prop_map(|seconds| format!("max-age=\"{seconds}\"")),
        5 => word(&["public", "must-revalidate", "must-understand", "immutable", "no-transform"]),
        2 => word(&["proxy-revalidate", "no-cache=\"x-a\"", "private=\"set-cookie\"", "ext"]),
        2 => word(&["no-store", "private", "no-cache", "No-Store", "PRIVATE", "private; public"]),
        2 => word(&["Max-Age=60", "PUBLIC", "S-MaxAge=50", "max-age=99999999999999999999"]),
        1 => word(&["max-age=x", "max-age", "max-age=", "max-age=-1", "max-age=+9", "max-age = 60"]),
        1 => word(&["s-maxage=soon", "s-maxage", "max-age=1.5", "max-age=\"5", "", "=", "a=b=c"]),
        1 => word(&["ext=\"a, no-store, b\"", "ext=\"private, no-cache\"", "ext=\"max-age=0,\""]),
    ]
}

fn request_directive() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => argument("max-age"),
        3 => argument("max-stale"),
        2 => argument("min-fresh"),
        1 => word(&["max-stale", "no-cache", "no-store", "only-if-cached", "No-Cache", "ext"]),
        1 => word(&["max-age=x", "max-age=\"5\"", "min-fresh=", "Max-Stale=20", "max-stale=x"]),
    ]
}

fn plain(
    name: &'static str,
    values: &'static [&'static str],
) -> impl Strategy<Value = (&'static str, Text)> {
    word(values).prop_map(move |value| (name, Text::Plain(value)))
}

fn date(
    name: &'static str,
    offsets: std::ops::Range<i64>,
) -> impl Strategy<Value = (&'static str, Text)> {
    let formats = select(vec![Format::Imf, Format::Imf, Format::Rfc850, Format::Asctime]);
    (offsets, formats).prop_map(move |(offset, format)| (name, Text::Date(offset, format)))
}

fn response_field() -> impl Strategy<Value = (&'static str, Text)> {
    prop_oneof![
        4 => date("expires", -100..300),
        1 => plain("expires", &["0", "-1", "soon", ""]),
        2 => plain("vary", &["accept", "Accept-Language", "cookie", "accept, accept-language"]),
        1 => plain("vary", &["*", "accept, *", "authorization", "Cookie, Accept", "not a name"]),
        1 => plain("set-cookie", &["sid=1", "a=1; Max-Age=5"]),
        1 => plain("pragma", &["no-cache", "x"]),
        1 => plain("etag", &["\"a\"", "W/\"a\""]),
    ]
}

fn at_most_one<T: Clone + std::fmt::Debug>(
    often: u32,
    of: impl Strategy<Value = T>,
) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![10 - often => Just(vec![]), often => of.prop_map(|one| vec![one])]
}

/// The fields that a response has at most once.
fn single_fields() -> impl Strategy<Value = Vec<(&'static str, Text)>> {
    let age = prop_oneof![
        seconds().prop_map(|age| ("age", Text::Plain(age.to_string()))),
        plain("age", &["x", "-1", "5, 500", "\"5\""]),
    ];
    let dates = prop_oneof![
        3 => date("date", -100..3),
        1 => date("date", 3..100),
        1 => plain("date", &["yesterday"]),
    ];
    let modified = date("last-modified", -3000..10);
    let targeted =
        plain("cdn-cache-control", &["max-age=60", "public, max-age=30", "no-store", "private"]);
    let timed = (at_most_one(4, dates), at_most_one(2, age), at_most_one(4, modified));
    (timed, at_most_one(1, targeted))
        .prop_map(|((date, age, modified), targeted)| [date, age, modified, targeted].concat())
}

fn request_field() -> impl Strategy<Value = (&'static str, Text)> {
    prop_oneof![
        3 => plain("accept", &["a, b", "a,b", "a", "b"]),
        3 => plain("accept-language", &["de", "DE", "de, en", "de,en"]),
        1 => plain("cookie", &["sid=1", "sid=2", "a=1; b=2"]),
        1 => plain("pragma", &["no-cache"]),
    ]
}

fn separator() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![4 => Just(Some(", ")), 1 => Just(Some(",")), 1 => Just(Some(" ,\t")), 1 => Just(None)]
}

fn request(directives: usize) -> impl Strategy<Value = Message> {
    let authorization = plain("authorization", &["Basic YQ==", "Bearer b"]);
    let directives = vec(request_directive(), 0..=directives);
    let fields = vec(request_field(), 0..3);
    (directives, separator(), fields, at_most_one(1, authorization)).prop_map(
        |(directives, separator, fields, authorization)| {
            let fields = [fields, authorization].concat();
            Message { directives, separator, fields }
        },
    )
}

fn response() -> impl Strategy<Value = Message> {
    let directives = vec(response_directive(), 0..4);
    (directives, separator(), vec(response_field(), 0..3), single_fields()).prop_map(
        |(directives, separator, fields, single)| {
            let fields = [fields, single].concat();
            Message { directives, separator, fields }
        },
    )
}

fn status() -> impl Strategy<Value = u16> {
    prop_oneof![
        6 => Just(200),
        1 => select(vec![203, 204, 301, 302, 303, 307, 308, 404, 410, 501]),
        1 => select(vec![206, 304, 400, 403, 418, 500, 503, 599]),
    ]
}

/// Both requests. The second one has the fields of the first, equivalent fields, or unrelated ones.
fn requests() -> impl Strategy<Value = (Message, Message)> {
    let likeness = prop_oneof![4 => Just(0), 3 => Just(1), 3 => Just(2)];
    (request(0), request(2), likeness).prop_map(|(first, mut second, likeness)| {
        if likeness > 0 {
            second.fields.clone_from(&first.fields);
        }
        for (name, text) in second.fields.iter_mut().filter(|_| likeness == 2) {
            if name.starts_with("accept") {
                *text = Text::Plain(text.at(0).replace(", ", " ,").replace("de", "De"));
            }
        }
        (first, second)
    })
}

pub(super) fn case() -> impl Strategy<Value = Case> {
    let preset = select(vec![Preset::Explicit, Preset::Rfc9111]);
    let moments = (prop_oneof![4 => Just(0), 1 => 0..4_u64], seconds());
    let head = proptest::bool::weighted(0.08);
    (preset, requests(), status(), response(), moments, head).prop_map(
        |(preset, (first, second), status, response, (delay, elapsed), head)| Case {
            preset,
            first,
            status,
            response,
            delay,
            elapsed,
            second,
            head,
        },
    )
}
