//! Pages that are functions of their URL, of the request fields in their `Vary`, of the fields in
//! the cache key, and of a counter that POST raises.

use std::{cell::RefCell, collections::HashMap, rc::Rc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, StatusCode, header::HeaderMap},
};
use tokio::task::yield_now;

use super::cases::{Case, Opt, Page, Personal, Tag};
use crate::support::{START, secs};

/// The pages of one application, and their counters.
#[derive(Debug)]
pub(super) struct Pages {
    pages: Vec<Page>,
    /// Whether all pages depend on `X-Tenant`, which is then part of the key.
    by_tenant: bool,
    /// Whether the parameter [`TRACKING`] has no effect on any page, and is not part of the key.
    ignores_tracking: bool,
    /// The counters, by host, page and query.
    counters: RefCell<HashMap<(String, usize, String), u64>>,
}

/// A parameter of queries, with its equals sign.
const TRACKING: &str = "utm=";

/// A page as one request gets it.
struct View {
    body: String,
    tag: Option<String>,
    modified: Option<String>,
}

impl Pages {
    pub(super) fn new(case: &Case) -> Rc<Self> {
        Rc::new(Self {
            pages: case.pages.clone(),
            by_tenant: case.has(Opt::KeyTenant),
            ignores_tracking: case.has(Opt::IgnoreTracking),
            counters: RefCell::default(),
        })
    }

    /// Answers a request.
    pub(super) async fn respond(&self, request: HttpRequest) -> HttpResponse {
        let number: usize = request.match_info().query("page").parse().unwrap();
        let host = request.headers().get("host").unwrap().to_str().unwrap().to_ascii_lowercase();
        let query = request.query_string();
        let query = query
            .split('&')
            .filter(|parameter| !(self.ignores_tracking && parameter.starts_with(TRACKING)));
        let url = (host, number, query.collect::<Vec<_>>().join("&"));
        if request.method() == Method::POST {
            return self.change(&request, &url);
        }
        let page = &self.pages[number];
        let count = self.counters.borrow().get(&url).copied().unwrap_or_default();
        let tenant = request.headers().get("x-tenant").filter(|_| self.by_tenant);
        let view = page.view(&request, &format!("{url:?} {count} {tenant:?}"), count);
        yield_now().await;
        let status = if count % 2 == 1 { page.other_status } else { page.status };
        let mut response = page.answer(&request, &view, status);
        if status == 301 {
            response.headers_mut().insert("location".parse().unwrap(), "/0".parse().unwrap());
        }
        response
    }

    /// Raises the counter of a page, and that of the page that the request names, unless the
    /// request asks for an error.
    fn change(&self, request: &HttpRequest, url: &(String, usize, String)) -> HttpResponse {
        let line = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let status: u16 = line("x-status").unwrap().parse().unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        let mut response = HttpResponse::new(status);
        if status.is_client_error() || status.is_server_error() {
            return response;
        }
        let mut counters = self.counters.borrow_mut();
        *counters.entry(url.clone()).or_default() += 1;
        if let Some(other) = line("x-also") {
            *counters.entry((url.0.clone(), other.parse().unwrap(), String::new())).or_default() +=
                1;
            let name = if status == 303 { "location" } else { "content-location" };
            response
                .headers_mut()
                .insert(name.parse().unwrap(), format!("/{other}").parse().unwrap());
        }
        response
    }
}

impl Page {
    /// The page for a request. `state` names its URL and its counter.
    fn view(&self, request: &HttpRequest, state: &str, count: u64) -> View {
        let lines = |name: &str| {
            let lines = request.headers().get_all(name);
            lines.map(|line| line.to_str().unwrap()).collect::<Vec<_>>().join("; ")
        };
        let mut text = state.to_owned();
        for name in self.vary {
            text += &format!(" {name}={}", lines(name));
        }
        let personal = match self.personal {
            Personal::No => None,
            Personal::Cookie | Personal::PrivateCookie | Personal::VaryCookie => Some("cookie"),
            Personal::Authorization => Some("authorization"),
            Personal::ApiKey => Some("x-api-key"),
        };
        text += &personal.map(lines).unwrap_or_default();
        let hash = text
            .bytes()
            .fold(7_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let tag = match self.tag {
            Tag::None => None,
            Tag::Strong => Some(format!("\"{hash}\"")),
            Tag::Weak => Some(format!("W/\"{hash}\"")),
        };
        let modified =
            std::time::UNIX_EPOCH + Duration::from_secs(START) - secs(100_000) + secs(count * 10);
        let modified = self.has_date.then(|| httpdate::fmt_http_date(modified));
        View { body: text.repeat(self.repeats), tag, modified }
    }

    /// Applies the conditions and the range of a request (RFC 9110 sections 13.2.2 and 14.2).
    fn answer(&self, request: &HttpRequest, view: &View, status: u16) -> HttpResponse {
        let line = |name| request.headers().get(name).map(|value| value.to_str().unwrap());
        let full = || self.response(view, status);
        if status != 200 {
            return full().set_body(view.body.clone()).map_into_boxed_body();
        }
        let opaque = |tag: &str| tag.trim_start_matches("W/").to_owned();
        let weak_match = |list: &str| {
            let known = |tag: &String| list.split(", ").any(|one| opaque(one) == opaque(tag));
            list == "*" || view.tag.as_ref().is_some_and(known)
        };
        if let Some(list) = line("if-match") {
            let strong =
                |tag: &String| tag.starts_with('"') && list.split(", ").any(|one| one == tag);
            if list != "*" && !view.tag.as_ref().is_some_and(strong) {
                return HttpResponse::new(StatusCode::PRECONDITION_FAILED);
            }
        }
        let is_known = match (line("if-none-match"), line("if-modified-since")) {
            (Some(list), _) => weak_match(list),
            (None, Some(since)) => view.modified.as_ref().is_some_and(|modified| {
                let date = |text| httpdate::parse_http_date(text).ok();
                date(since).is_some_and(|since| date(modified).is_some_and(|own| own <= since))
            }),
            (None, None) => false,
        };
        if is_known {
            let mut response = full();
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response.headers_mut().retain(|name, _| !name.as_str().starts_with("content-"));
            return response.map_into_boxed_body();
        }
        let applies = line("if-range")
            .is_none_or(|tag| tag.starts_with('"') && view.tag.as_deref() == Some(tag));
        let range = line("range").filter(|_| applies && request.method() == Method::GET);
        let length = view.body.len();
        let range = range.map(|range| {
            let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
            match (first.parse::<usize>(), last.parse::<usize>()) {
                (Ok(first), Ok(last)) => first..(last + 1).min(length),
                (Ok(first), Err(_)) => first..length,
                (Err(_), last) => length.saturating_sub(last.unwrap())..length,
            }
        });
        match range {
            None => full().set_body(view.body.clone()).map_into_boxed_body(),
            Some(range) if range.start >= length || range.is_empty() => {
                let mut response = HttpResponse::new(StatusCode::RANGE_NOT_SATISFIABLE);
                let field = format!("bytes */{length}").parse().unwrap();
                response.headers_mut().insert("content-range".parse().unwrap(), field);
                response
            }
            Some(range) => {
                let mut response = full();
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let field = format!("bytes {}-{}/{length}", range.start, range.end - 1);
                let field = field.parse().unwrap();
                response.headers_mut().insert("content-range".parse().unwrap(), field);
                response.set_body(view.body[range].to_owned()).map_into_boxed_body()
            }
        }
    }

    /// The response without its body.
    fn response(&self, view: &View, status: u16) -> HttpResponse<()> {
        let mut response = HttpResponse::with_body(StatusCode::from_u16(status).unwrap(), ());
        let fields: &mut HeaderMap = response.headers_mut();
        let mut add = |name: &str, value: &str| {
            fields.append(name.parse().unwrap(), value.parse().unwrap());
        };
        add("content-type", "text/plain");
        add("x-page", "a");
        add("x-page", "b");
        let cookie = (self.personal == Personal::VaryCookie).then_some("cookie");
        for name in self.vary.iter().copied().chain(cookie) {
            add("vary", name);
        }
        let private = (self.personal == Personal::PrivateCookie).then_some("private");
        for directive in self.directives.iter().copied().chain(private) {
            add("cache-control", directive);
        }
        if let Some(tag) = &view.tag {
            add("etag", tag);
        }
        if let Some(modified) = &view.modified {
            add("last-modified", modified);
        }
        response
    }

    pub(super) fn states_lifetime(&self) -> bool {
        self.directives.iter().any(|directive| directive.contains('='))
    }
}
