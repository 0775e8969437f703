//! Path patterns with parameters, as in [`web::resource`](actix_web::web::resource):
//! `/posts/{id}`, `/posts/{id:\d+}`, `/files/{tail}*`.

use actix_web::dev::{Path, ResourceDef};

use super::{
    check::decoded,
    parameter_regex::{MAX_COST, check_expression},
};

/// The largest number of parameters in a pattern. actix panics on a pattern with more parameters.
const MAX_PARAMETERS: usize = 16;

/// A valid pattern that is compiled for matching.
#[derive(Debug, Clone)]
pub(super) struct PathPattern {
    resource: ResourceDef,
    parameters: Vec<String>,
}

impl PathPattern {
    /// Compiles a pattern. The error is the reason why the pattern is not valid.
    ///
    /// `ResourceDef::new` panics on a pattern that it cannot compile. This function therefore
    /// checks the pattern first, by rules that are at least as strict as those of actix.
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        let parameters = parse_parameters(pattern)?;
        Ok(Self { resource: ResourceDef::new(pattern), parameters })
    }

    /// Returns the names of the pattern's parameters.
    pub(super) fn parameters(&self) -> &[String] {
        &self.parameters
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        self.resource.is_match(path)
    }

    /// Returns the value of a parameter in a path; `None` if the path does not match the pattern.
    pub(super) fn parameter(&self, path: &str, name: &str) -> Option<String> {
        let mut path = Path::new(path);
        self.resource.capture_match_info(&mut path);
        path.get(name).map(str::to_owned)
    }
}

/// Returns the names of a pattern's parameters, or the reason why the pattern is not valid.
pub(super) fn parse_parameters(pattern: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::<String>::new();
    let mut cost = pattern.len();
    let mut rest = pattern;
    let mut has_tail = false;
    while let Some((before, after)) = rest.split_once('{') {
        check_literal(before)?;
        let (parameter, after) = split_at_closing_brace(after)?;
        let (name, expression) = match parameter.split_once(':') {
            Some((name, expression)) => (name, Some(expression)),
            None => (parameter, None),
        };
        check_name(name)?;
        if names.len() == MAX_PARAMETERS {
            return Err(format!("it has more than {MAX_PARAMETERS} parameters"));
        }
        if names.iter().any(|known| known == name) {
            return Err(format!("two parameters have the name {name:?}"));
        }
        has_tail = after == "*";
        if let Some(expression) = expression {
            if has_tail {
                return Err(format!(
                    "the tail parameter {name:?} has an expression: write {{{name}}}* without \
                     one, or {{{name}:.*}} without the star"
                ));
            }
            let added = check_expression(expression).map_err(|reason| {
                format!("parameter {name:?}: {reason}; for more, use Rule::regex or Rule::when")
            })?;
            cost = cost.saturating_add(added);
        }
        names.push(name.to_owned());
        rest = after;
    }
    if !has_tail {
        check_literal(rest)?;
        if rest.ends_with('*') {
            return Err(match pattern.strip_suffix("/*").filter(|prefix| !prefix.contains('{')) {
                Some(prefix) => {
                    let prefix = if prefix.is_empty() { "/" } else { prefix };
                    format!(
                        "a tail has no name: write {{tail}}* instead of *, or use \
                         Rule::prefix({prefix:?}) for all paths below it"
                    )
                }
                None => "a tail has no name: write {tail}* instead of *".to_owned(),
            });
        }
    }
    if cost > MAX_COST {
        return Err("it is too long, or its expressions repeat too much".to_owned());
    }
    Ok(names)
}

/// Checks text of a pattern that is outside of parameters.
fn check_literal(text: &str) -> Result<(), String> {
    if text.contains('}') {
        return Err("a brace is not opened".to_owned());
    }
    if text.contains('?') {
        return Err("paths are compared without the query: use Policy::query to choose the \
                    parameters in the cache key, or Rule::when to match requests by their query"
            .to_owned());
    }
    if text.split('/').any(|segment| segment == "*") && !text.ends_with('*') {
        return Err("`*` matches no other text: write a parameter, such as {name}".to_owned());
    }
    match decoded(&format!("/{text}")) {
        Some(decoded) => Err(format!(
            "paths are decoded before they are compared: write {:?} instead of {text:?}",
            decoded.get(1..).unwrap_or_default()
        )),
        None => Ok(()),
    }
}

/// Splits the text after an opening brace at the matching closing brace. A brace after a backslash
/// counts like any other brace, as in actix.
fn split_at_closing_brace(text: &str) -> Result<(&str, &str), String> {
    let mut depth = 1_usize;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let (parameter, rest) = text.split_at_checked(index).unwrap_or((text, ""));
            return Ok((parameter, rest.get(1..).unwrap_or_default()));
        }
    }
    Err("a brace is not closed".to_owned())
}

/// Checks the name of a parameter. actix uses this name for a capture group in a regular
/// expression.
fn check_name(name: &str) -> Result<(), String> {
    let mut characters = name.chars();
    let Some(first) = characters.next() else {
        return Err("a parameter has no name".to_owned());
    };
    let valid = (first == '_' || first.is_ascii_alphabetic())
        && characters.all(|next| next == '_' || next.is_ascii_alphanumeric());
    if valid {
        Ok(())
    } else {
        Err(format!("the parameter name {name:?} is not made of letters, digits and underscores"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pattern_matches_and_finds_parameters_as_in_actix() {
        for (pattern, path, parameters) in [
            ("/", "/", &[][..]),
            ("/posts/{id}", "/posts/1", &[("id", "1")][..]),
            ("/{a}/{b}/c", "/x/y/c", &[("a", "x"), ("b", "y")]),
            ("/files/{tail}*", "/files/a/b", &[("tail", "a/b")]),
            (r"/{year:\d{4}}-{month:\d{2}}", "/2024-05", &[("year", "2024"), ("month", "05")]),
            ("/{a:[xy]{1,2}}/{b:(?:1|2)}", "/xy/2", &[("a", "xy"), ("b", "2")]),
            ("/{_a1:é+}", "/éé", &[("_a1", "éé")]),
            ("/a*/{b}", "/a*/1", &[("b", "1")]),
        ] {
            let compiled = PathPattern::new(pattern).unwrap();
            assert!(compiled.matches(path), "{pattern}");
            let names: Vec<_> = parameters.iter().map(|(name, _)| *name).collect();
            assert_eq!(compiled.parameters(), names, "{pattern}");
            for (name, value) in parameters {
                let got = compiled.parameter(path, name);
                assert_eq!(got.as_deref(), Some(*value), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn invalid_pattern_is_refused_with_a_reason() {
        let many = |count: usize| (0..count).map(|n| format!("/{{p{n}}}")).collect::<String>();
        assert!(PathPattern::new(&many(16)).is_ok());
        for (pattern, reason) in [
            ("/posts/{id", "a brace is not closed"),
            ("/posts/{id:[}", "brackets in an expression are not closed"),
            ("/posts/{id:[{}", "a brace is not closed"),
            ("/posts/id}", "a brace is not opened"),
            ("/{a}}", "a brace is not opened"),
            ("/posts/{}", "a parameter has no name"),
            ("/posts/{:a}", "a parameter has no name"),
            ("/posts/{a b}", "\"a b\" is not made of"),
            ("/posts/{1}", "\"1\" is not made of"),
            ("/posts/{a{b}}", "\"a{b}\" is not made of"),
            ("/posts/{ä}", "\"ä\" is not made of"),
            ("/{id}/{id}", "two parameters have the name \"id\""),
            ("/{tail:.*}*", "has an expression"),
            ("/files/*", "use Rule::prefix(\"/files\")"),
            ("/*", "use Rule::prefix(\"/\")"),
            ("/{a}/*", "a tail has no name: write {tail}* instead of *"),
            ("/*/{a}", "`*` matches no other text"),
            ("/a?b={c}", "without the query"),
            ("/a/{c}?b", "without the query"),
            ("/%61/{c}", "write \"/a/\" instead of"),
            ("/{a}/b*", "a tail has no name"),
            ("/{a:(}", "is not closed"),
            ("/{a:x)|(y}", "is not opened"),
            (r"/{a:\pL}", "use Rule::regex"),
            ("/{a:(?P<b>x)}", "use Rule::regex"),
            (&many(17), "it has more than 16 parameters"),
            (&"/x".repeat(5000), "too long"),
            (r"/{a:\w{140}}/{b:\w{140}}", "repeat too much"),
        ] {
            let error = PathPattern::new(pattern).expect_err(pattern);
            assert!(error.contains(reason), "{pattern}: {error}");
        }
    }

    proptest! {
        /// `ResourceDef::new` panics on a pattern that is invalid for actix, so `PathPattern` must
        /// not accept such a pattern.
        #[test]
        fn accepted_pattern_never_panics(
            pattern in prop_oneof![
                r"[/a*{}:\[\]()?+.|\\^&~!dw0-9,-]{0,16}",
                any::<String>(),
            ],
            expression in prop_oneof![
                r"[ab*{}\[\]()?+.|\\^$&~!dDwWsi:,0-3-]{0,14}",
                r"(\(|\[|\)|\]|\^|-|a|b|\\w|\\d|\\-|\\\]|\||\*|\+|\?|\{2\}|\{1,3\}|\(\?:|\(\?i\)|&|~|é){0,10}",
            ],
        ) {
            for text in [pattern.clone(), format!("/{{id:{expression}}}"), format!("/{{id:{expression}}}/{{a}}*")] {
                if let Ok(compiled) = PathPattern::new(&text) {
                    compiled.matches("/a");
                    for name in compiled.parameters() {
                        compiled.parameter("/a", name);
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// `ResourceDef::new` panics on a pattern whose compiled regular expression is too large.
        /// `PathPattern` must not accept such a pattern. The patterns of this test have expressions
        /// with costs up to the limit `MAX_COST` and beyond.
        #[test]
        fn expensive_accepted_pattern_never_panics(
            item in proptest::sample::select(vec![
                r"\w", r"\W", ".", "[^a]", r"[\w.-]", r"[^\d\s/]", r"\d", r"\s", "a", "é",
                r"(\w*|\W+)", r"(?i:\w)", "(?i:[^a-z])", "(?i:[a-zé-ü])", "a?", "(a|b)", "()",
            ]),
            count in 1..MAX_COST,
        ) {
            for count in [count, count / 10, count / 60] {
                if let Ok(compiled) = PathPattern::new(&format!("/{{id:{item}{{{count}}}}}")) {
                    compiled.matches("/a");
                }
            }
        }
    }
}
