//! Exchanges that share a response only because of one option or one statement of the response.

use super::cases::{Opt, Request, Setting};
use crate::support::{Meaning, RandomReply, Value, directive};

/// Two requests, and two applications for them: one of them lets the second request get the
/// response to the first.
#[derive(Debug, Clone)]
pub(super) struct Loosening {
    pub(super) first: Request,
    pub(super) second: Request,
    pub(super) loose: (Setting, RandomReply),
    pub(super) strict: (Setting, RandomReply),
}

type Fields<'a> = &'a [(&'static str, &'a str)];

fn request(fields: Fields<'_>) -> Request {
    Request::get(fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
}

fn reply(directives: &[Meaning], fields: &[(&'static str, Value)]) -> RandomReply {
    let mut reply = RandomReply::plain(directives.iter().copied().map(directive).collect());
    reply.fields = fields.to_vec();
    reply
}

/// The exchanges that an option loosens.
fn by_option() -> Vec<Loosening> {
    let minute = &[Meaning::MaxAge(60)][..];
    let sets_cookie = &[("set-cookie", Value::Marked("sid="))][..];
    let none: Fields<'_> = &[];
    let cases: [(Opt, [Fields<'_>; 2], RandomReply); 10] = [
        (
            Opt::IgnoreAnalytics,
            [&[("cookie", "_ga=alice")], &[("cookie", "_ga=bob")]],
            reply(minute, &[]),
        ),
        (Opt::KeyTheme, [&[("cookie", "theme=dark")]; 2], reply(minute, &[])),
        (Opt::KeyCookie, [&[("cookie", "sid=group")]; 2], reply(minute, &[])),
        (Opt::KeyAuthorization, [&[("authorization", "Bearer group")]; 2], reply(minute, &[])),
        (Opt::KeyApiKey, [&[("x-api-key", "group")]; 2], reply(&[], &[])),
        (Opt::IgnoreCredentials, [&[("x-user", "alice")], &[("x-user", "bob")]], reply(&[], &[])),
        (
            Opt::ShareDespiteCookies,
            [&[("cookie", "sid=alice")], &[("cookie", "sid=bob")]],
            reply(minute, &[]),
        ),
        (Opt::ReplaySetCookie, [none, none], reply(minute, sets_cookie)),
        (
            Opt::QualifiedDirectives,
            [none, none],
            reply(&[Meaning::MaxAge(60), Meaning::PrivateField("x-c")], &[]),
        ),
        (Opt::Targeted, [none, none], {
            let mut reply = reply(&[Meaning::Private], &[]);
            reply.targeted = minute.iter().copied().map(directive).collect();
            reply
        }),
    ];
    let cases = cases.into_iter().map(|(option, [first, second], reply)| Loosening {
        first: request(first),
        second: request(second),
        loose: (Setting::new(vec![option]), reply.clone()),
        strict: (Setting::new(vec![]), reply),
    });
    cases.collect()
}

/// The exchanges that a statement of the response loosens.
fn by_response() -> Vec<Loosening> {
    use Meaning::{MaxAge, MustRevalidate, MustUnderstand, NoStore, Public, SMaxAge};
    let authorization: [Fields<'_>; 2] =
        [&[("authorization", "Bearer alice")], &[("authorization", "Bearer bob")]];
    let cookies: [Fields<'_>; 2] = [&[("cookie", "sid=alice")], &[("cookie", "sid=bob")]];
    let api_keys: [Fields<'_>; 2] = [&[("x-api-key", "alice")], &[("x-api-key", "bob")]];
    let same_cookie: [Fields<'_>; 2] = [&[("cookie", "sid=group")]; 2];
    let plain = |directives: &[Meaning]| reply(directives, &[]);
    let by_cookie = &[("vary", Value::Plain("Cookie"))][..];
    let cases = [
        (authorization, plain(&[MaxAge(60), Public]), plain(&[MaxAge(60)])),
        (authorization, plain(&[SMaxAge(60)]), plain(&[SMaxAge(0), MaxAge(60)])),
        (authorization, plain(&[MaxAge(60), MustRevalidate]), plain(&[MustRevalidate])),
        (cookies, plain(&[MaxAge(60), Public]), plain(&[MaxAge(60), MustRevalidate])),
        (cookies, plain(&[SMaxAge(60)]), plain(&[MaxAge(60)])),
        (same_cookie, reply(&[MaxAge(60)], by_cookie), plain(&[MaxAge(60)])),
        (api_keys, plain(&[MaxAge(60)]), plain(&[])),
        (api_keys, plain(&[Public]), plain(&[MustRevalidate])),
        ([&[], &[]], plain(&[MaxAge(60), NoStore, MustUnderstand]), plain(&[MaxAge(60), NoStore])),
        (
            [&[("x-b", "1")], &[("x-b", "2")]],
            plain(&[MaxAge(60)]),
            reply(&[MaxAge(60)], &[("vary", Value::Plain("accept, X-B"))]),
        ),
    ];
    let cases = cases.into_iter().map(|([first, second], loose, strict)| Loosening {
        first: request(first),
        second: request(second),
        loose: (Setting::new(vec![]), loose),
        strict: (Setting::new(vec![]), strict),
    });
    cases.collect()
}

pub(super) fn loosenings() -> Vec<Loosening> {
    [by_option(), by_response()].concat()
}
