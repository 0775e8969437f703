//! The rules of RFC 9111 and of the policy, independent of the crate: whether a request may get the
//! response that was made for another request.

use super::cases::{Opt, Preset, Request, Setting};
use crate::support::{Directive, Meaning, RandomReply};

/// A call of the handler: the request for which the handler ran, and its response.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) request: Request,
    /// The number of the request.
    pub(super) id: usize,
    pub(super) reply: RandomReply,
    /// The status code that the handler sent.
    pub(super) status: u16,
}

impl Run {
    /// Whether the response can only update a stored response: a 304, or a response to HEAD.
    pub(super) fn is_update(&self) -> bool {
        self.status == 304 || self.request.method == "HEAD"
    }

    /// The directives that apply to the response in a cache with this setting.
    pub(super) fn directives(&self, setting: &Setting) -> &[Directive] {
        if setting.has(Opt::Targeted) && !self.reply.targeted.is_empty() {
            &self.reply.targeted
        } else {
            &self.reply.directives
        }
    }

    pub(super) fn has(&self, setting: &Setting, meaning: Meaning) -> bool {
        self.directives(setting).iter().any(|directive| directive.meaning == meaning)
    }
}

/// The statements of a response that permit sharing.
#[derive(Debug, Clone, Copy, Default)]
struct Permissions {
    /// `public`, or a positive `s-maxage`.
    shared: bool,
    must_revalidate: bool,
    /// The response states a lifetime, and neither a rule nor the handler's options set another.
    explicit: bool,
    vary_cookie: bool,
}

impl Permissions {
    fn of(run: &Run, setting: &Setting) -> Self {
        let mut found = Self::default();
        for directive in run.directives(setting) {
            match directive.meaning {
                Meaning::Public => found.shared = true,
                Meaning::SMaxAge(seconds) => {
                    found.shared |= seconds > 0;
                    found.explicit = true;
                }
                Meaning::MaxAge(_) | Meaning::NoCache => found.explicit = true,
                Meaning::NoCacheField(_) => {
                    found.explicit |= !setting.has(Opt::QualifiedDirectives);
                }
                Meaning::MustRevalidate => found.must_revalidate = true,
                _ => {}
            }
        }
        found.explicit |= run.reply.has("expires");
        // A general lifetime applies to these status codes only.
        let replaces_lifetime = setting.has(Opt::OverrideTtl) || run.reply.ttl.is_some();
        found.explicit &= !(replaces_lifetime && [200, 203, 301, 308].contains(&run.status));
        found.vary_cookie = run.reply.members("vary").iter().any(|name| name == "cookie");
        found
    }

    fn or(self, other: Self) -> Self {
        Self {
            shared: self.shared || other.shared,
            must_revalidate: self.must_revalidate || other.must_revalidate,
            explicit: self.explicit || other.explicit,
            vary_cookie: self.vary_cookie || other.vary_cookie,
        }
    }
}

/// Returns the reason why `reader` must not get a part of the response of `run`, if there is one.
/// `runs` are all calls of the handler, because an update changes a stored response.
pub(super) fn refusal(
    run: &Run,
    reader: &Request,
    runs: &[Run],
    setting: &Setting,
) -> Option<String> {
    let own = Permissions::of(run, setting);
    // An update has the fields of the stored response that it does not replace, and a stored
    // response gets the fields of its updates.
    let all = runs.iter().fold(own, |all, run| all.or(Permissions::of(run, setting)));
    let any_update = runs.iter().any(Run::is_update);
    let of_owner = if run.is_update() { all } else { own };
    let of_reader = if any_update { all } else { own };
    refusal_by_response(run, runs, setting)
        .or_else(|| refusal_by_credentials(&run.request, of_owner, setting))
        .or_else(|| refusal_by_reader(reader, of_reader, setting))
        .or_else(|| refusal_by_key(&run.request, reader, setting))
        .or_else(|| refusal_by_vary(run, reader, any_update, setting))
}

fn refusal_by_response(run: &Run, runs: &[Run], setting: &Setting) -> Option<String> {
    let is = |meaning| run.has(setting, meaning);
    // The targeted field of the stored response remains and replaces the directives of the update.
    let is_replaced = run.is_update()
        && setting.has(Opt::Targeted)
        && run.reply.targeted.is_empty()
        && runs.iter().any(|run| !run.reply.targeted.is_empty());
    let by_field = setting.has(Opt::QualifiedDirectives);
    let qualified = |directive: &Directive| matches!(directive.meaning, Meaning::PrivateField(_));
    let is_targeted = setting.has(Opt::Targeted) && !run.reply.targeted.is_empty();
    if !is_replaced {
        if run.reply.has("cache-control") && !is_targeted {
            return Some("the directives have an open quote".to_owned());
        }
        if is(Meaning::Private) {
            return Some("the response is private".to_owned());
        }
        if !by_field && run.directives(setting).iter().any(qualified) {
            return Some("a field of the response is private".to_owned());
        }
        // RFC 9111 section 5.2.2.3.
        if is(Meaning::NoStore) && !is(Meaning::MustUnderstand) {
            return Some("the response has no-store".to_owned());
        }
    }
    let sets_cookie = run.reply.has("set-cookie") || run.reply.has("set-cookie2");
    if sets_cookie && !setting.has(Opt::ReplaySetCookie) {
        return Some("the response sets a cookie".to_owned());
    }
    if run.reply.members("vary").iter().any(|name| name == "*" || name.contains(' ')) {
        return Some("the response varies on everything".to_owned());
    }
    if run.reply.refuses {
        return Some("the handler forbids storing".to_owned());
    }
    if run.status == 206 {
        return Some("the response is partial".to_owned());
    }
    let directives = run.request.lines("cache-control").join(",").to_ascii_lowercase();
    directives.contains("no-store").then(|| "the request has no-store".to_owned())
}

/// The kinds of credentials of a request that the key does not contain: `Authorization`, cookies,
/// other fields.
fn kinds(request: &Request, setting: &Setting) -> [bool; 3] {
    let is_unkeyed = |name: &str| match name {
        "authorization" => !setting.has(Opt::KeyAuthorization),
        "x-api-key" => !setting.has(Opt::KeyApiKey),
        "x-user" => !setting.has(Opt::IgnoreCredentials),
        "x-session" => setting.has(Opt::CredentialsOption),
        "x-vip" => setting.has(Opt::CredentialsWhen),
        "proxy-authorization"
        | "x-forwarded-user"
        | "remote-user"
        | "cf-access-jwt-assertion"
        | "x-ssl-client-cert" => true,
        _ => false,
    };
    let cookie_counts = |cookie: &&str| {
        !(cookie.starts_with("theme=") && setting.has(Opt::KeyTheme)
            || cookie.starts_with("_ga=") && setting.has(Opt::IgnoreAnalytics))
    };
    let cookies = request.lines("cookie");
    let has_cookies = cookies.iter().any(cookie_counts)
        && !setting.has(Opt::KeyCookie)
        && !setting.has(Opt::ShareDespiteCookies);
    let mut names = request.fields.iter().map(|(name, _)| *name);
    [
        request.has("authorization") && is_unkeyed("authorization"),
        has_cookies,
        names.any(|name| name != "authorization" && is_unkeyed(name)),
    ]
}

fn refusal_by_credentials(
    owner: &Request,
    permits: Permissions,
    setting: &Setting,
) -> Option<String> {
    let [authorization, cookies, others] = kinds(owner, setting);
    // RFC 9111 section 3.5.
    let despite_authorization = permits.shared || (permits.must_revalidate && permits.explicit);
    if authorization && !despite_authorization {
        return Some("the response was made for Authorization".to_owned());
    }
    if cookies && !permits.shared && !permits.vary_cookie {
        return Some("the response was made for cookies".to_owned());
    }
    (others && !permits.shared && !permits.explicit)
        .then(|| "the response was made for credentials".to_owned())
}

fn refusal_by_reader(reader: &Request, permits: Permissions, setting: &Setting) -> Option<String> {
    let [authorization, cookies, others] = kinds(reader, setting);
    let is_personal = authorization || (cookies && !permits.vary_cookie) || others;
    (is_personal && !permits.shared && !permits.explicit)
        .then(|| "the reader has credentials".to_owned())
}

fn refusal_by_key(owner: &Request, reader: &Request, setting: &Setting) -> Option<String> {
    let target = |request: &Request| {
        let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
        let query = if setting.has(Opt::IgnoreQuery) { "" } else { query };
        format!("{}{path}?{query}", request.host)
    };
    if target(owner) != target(reader) {
        return Some("the response is of another URL".to_owned());
    }
    let theme = |request: &Request| {
        let cookies = request.lines("cookie");
        let theme = cookies.iter().find(|cookie| cookie.starts_with("theme="));
        theme.map(|&cookie| cookie.to_owned())
    };
    if setting.has(Opt::KeyTheme) && theme(owner) != theme(reader) {
        return Some("a cookie of the key differs".to_owned());
    }
    for (option, name) in [
        (Opt::KeyAuthorization, "authorization"),
        (Opt::KeyApiKey, "x-api-key"),
        (Opt::KeyCookie, "cookie"),
        (Opt::KeyTenant, "x-tenant"),
        (Opt::KeyWith, "x-user"),
    ] {
        if setting.has(option) && owner.lines(name) != reader.lines(name) {
            return Some(format!("{name} is part of the key and differs"));
        }
    }
    // Handlers may make links from this field.
    (owner.lines("x-forwarded-host") != reader.lines("x-forwarded-host"))
        .then(|| "the forwarded host differs".to_owned())
}

fn refusal_by_vary(
    run: &Run,
    reader: &Request,
    any_update: bool,
    setting: &Setting,
) -> Option<String> {
    let value = |request: &Request, name: &str| {
        let lines = request.lines(name);
        let is_ignored = |line: &&str| {
            name == "cookie" && setting.has(Opt::IgnoreAnalytics) && line.starts_with("_ga=")
        };
        let compared: Vec<_> = lines.into_iter().filter(|line| !is_ignored(line)).collect();
        compared.join("; ")
    };
    let is_normalized = |name: &str| match name {
        "accept-language" => setting.has(Opt::Languages),
        "accept-encoding" => setting.has(Opt::Codings),
        _ => false,
    };
    // A 304 with the entity tag of another variant makes this variant answer the request (RFC 9111
    // section 4.3.4). Variants for different credentials are not offered for that.
    let other_variants = setting.preset == Preset::Rfc9111 && any_update;
    let names = run.reply.members("vary").into_iter().filter(|name| {
        let is_credential = ["cookie", "authorization", "x-api-key"].contains(&name.as_str());
        !is_normalized(name) && (is_credential || !other_variants)
    });
    names
        .filter(|name| value(&run.request, name) != value(reader, name))
        .map(|name| format!("{name} is in Vary and differs"))
        .next()
}
