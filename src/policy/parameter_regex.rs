//! The regular expressions that a path pattern accepts in `{name:expression}`.
//!
//! actix compiles such an expression with the crate `regex` or with `regex-lite`, depending on its
//! features. actix panics on an expression that this crate refuses. This module therefore checks
//! expressions before actix gets them. The module accepts a subset of the syntax that both crates
//! accept:
//!
//! * characters, `.`, `^`, `$`, and `\` before ASCII punctuation;
//! * the classes `\d`, `\s`, `\w` and their negations, alone and in brackets;
//! * brackets with characters, ranges and a leading `^`;
//! * groups `(...)`, `(?:...)`, `(?i:...)` and the flag `(?i)`;
//! * alternatives, and the repetitions `*`, `+`, `?`, `{n}`, `{n,}` and `{n,m}`, and their lazy
//!   forms.
//!
//! The crates also limit the nesting of groups and the size of a compiled expression. This module
//! estimates the size by the cost of an expression: the cost grows with each character, class and
//! repetition. The limits of this module are below those of both crates.

use std::{iter::Peekable, str::Chars};

/// The greatest depth of nested groups. The crate `regex-lite` allows 50 levels, and counts each
/// repetition as a level, too.
const MAX_DEPTH: usize = 10;

/// The greatest cost that an accepted expression may have. The cost is an estimate of the size of
/// the compiled expression. The crate `regex` limits this size to 10 MiB, and an expression of this
/// cost is always below that limit.
pub(super) const MAX_COST: usize = 6000;

/// The number that a class such as `\w` adds to the cost of an expression. The number is high,
/// because the class has hundreds of Unicode ranges, which make the compiled expression large.
const UNICODE_CLASS_COST: usize = 40;

/// The cost of `.`, or of brackets before their members are added.
const CLASS_COST: usize = 4;

/// The reason why an expression is not accepted.
pub(super) type Reason = &'static str;

const NOTHING_TO_REPEAT: Reason = "a repetition in an expression has nothing to repeat";
const UNCLOSED_GROUP: Reason = "a group in an expression is not closed";
const UNCLOSED_BRACKETS: Reason = "brackets in an expression are not closed";
const UNSUPPORTED_ESCAPE: Reason =
    "an expression has an escape other than \\d, \\s, \\w, \\D, \\S, \\W or punctuation";
const UNSUPPORTED_GROUP: Reason = "an expression has a group other than (...), (?:...) or (?i:...)";
const UNSUPPORTED_CLASS: Reason =
    "brackets in an expression have an unescaped '[', '&&', '~~', '--' or '-' beside a class";
const INVALID_COUNT: Reason = "a counted repetition is not one of {n}, {n,} or {n,m} with n <= m";
const TOO_DEEP: Reason = "groups in an expression are nested too deeply";
const TOO_LARGE: Reason = "an expression repeats too much";

/// Checks an expression, and returns its cost.
pub(super) fn check_expression(expression: &str) -> Result<usize, Reason> {
    let mut parser = Parser { chars: expression.chars().peekable(), depth: 0 };
    let cost = parser.alternatives()?;
    match parser.chars.next() {
        None => Ok(cost),
        Some(_) => Err("a group in an expression is not opened"),
    }
}

struct Parser<'a> {
    chars: Peekable<Chars<'a>>,
    depth: usize,
}

/// A part of an expression.
enum Item {
    /// A part that matches text, so that a repetition may follow it. The number is its cost: an
    /// estimate of the size of its compiled form.
    Matching(usize),
    /// An item that matches a position or sets a flag. It cannot be repeated.
    Assertion,
}

impl Parser<'_> {
    /// Reads alternatives up to the end of the group or of the expression. Returns their cost.
    fn alternatives(&mut self) -> Result<usize, Reason> {
        let mut cost = 1_usize;
        while let Some(&next) = self.chars.peek() {
            if next == ')' {
                break;
            }
            self.chars.next();
            if next == '|' {
                cost += 1;
                continue;
            }
            cost = match self.item(next)? {
                Item::Matching(item) => cost.saturating_add(self.repeated(item)?),
                Item::Assertion => cost + 1,
            };
            if cost > MAX_COST {
                return Err(TOO_LARGE);
            }
        }
        Ok(cost)
    }

    /// Reads the item that begins with `first`.
    fn item(&mut self, first: char) -> Result<Item, Reason> {
        match first {
            '(' => self.group(),
            '[' => self.brackets().map(Item::Matching),
            '\\' => {
                let class = self.escape()?.is_none();
                Ok(Item::Matching(if class { UNICODE_CLASS_COST } else { 1 }))
            }
            '.' => Ok(Item::Matching(CLASS_COST)),
            '^' | '$' => Ok(Item::Assertion),
            '*' | '+' | '?' | '{' => Err(NOTHING_TO_REPEAT),
            ']' | '}' => Err("']' and '}' in an expression must be escaped"),
            // The cost is 2 instead of 1, because a character that matches in any case stands for a
            // few characters.
            _ => Ok(Item::Matching(2)),
        }
    }

    /// Reads the character after a backslash, and returns it. Returns `None` if the escape denotes
    /// a class such as `\d`.
    fn escape(&mut self) -> Result<Option<char>, Reason> {
        match self.chars.next() {
            Some('d' | 'D' | 's' | 'S' | 'w' | 'W') => Ok(None),
            // `\<` and `\>` are refused, because they are word boundaries.
            Some(mark) if mark.is_ascii_punctuation() && !matches!(mark, '<' | '>') => {
                Ok(Some(mark))
            }
            _ => Err(UNSUPPORTED_ESCAPE),
        }
    }

    /// Reads a group after its opening parenthesis.
    fn group(&mut self) -> Result<Item, Reason> {
        if self.chars.next_if_eq(&'?').is_some() {
            let folds_case = self.chars.next_if_eq(&'i').is_some();
            match self.chars.next() {
                Some(':') => {}
                Some(')') if folds_case => return Ok(Item::Assertion),
                _ => return Err(UNSUPPORTED_GROUP),
            }
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(TOO_DEEP);
        }
        let cost = self.alternatives()?;
        self.depth -= 1;
        match self.chars.next() {
            Some(')') => Ok(Item::Matching(cost)),
            _ => Err(UNCLOSED_GROUP),
        }
    }

    /// Reads a class in brackets after the opening bracket. Returns the cost of the class.
    fn brackets(&mut self) -> Result<usize, Reason> {
        let mut cost = CLASS_COST;
        self.chars.next_if_eq(&'^');
        // The previous member of the class, if it is a character that can begin a range.
        let mut range_start = None;
        let mut first = true;
        loop {
            let (member, escaped) = match self.chars.next().ok_or(UNCLOSED_BRACKETS)? {
                ']' if first => return Err("brackets in an expression are empty"),
                ']' => return Ok(cost),
                '[' => return Err(UNSUPPORTED_CLASS),
                '\\' => (self.escape()?, true),
                plain => (Some(plain), false),
            };
            let doubled = member.is_some_and(|member| self.chars.peek() == Some(&member));
            if !escaped && doubled && matches!(member, Some('&' | '~' | '-')) {
                return Err(UNSUPPORTED_CLASS);
            }
            cost += if member.is_none() { UNICODE_CLASS_COST } else { 2 };
            let dash = member == Some('-') && !escaped;
            if dash && !first && self.chars.peek() != Some(&']') {
                self.range_end(range_start)?;
                range_start = None;
            } else {
                range_start = member;
            }
            first = false;
        }
    }

    /// Reads the last character of a range, after its dash.
    fn range_end(&mut self, start: Option<char>) -> Result<(), Reason> {
        let end = match self.chars.next().ok_or(UNCLOSED_BRACKETS)? {
            '[' | '-' => return Err(UNSUPPORTED_CLASS),
            mark @ ('&' | '~') if self.chars.peek() == Some(&mark) => {
                return Err(UNSUPPORTED_CLASS);
            }
            '\\' => self.escape()?,
            plain => Some(plain),
        };
        match (start, end) {
            (Some(start), Some(end)) if start <= end => Ok(()),
            (Some(_), Some(_)) => Err("a range in an expression ends before it begins"),
            _ => Err(UNSUPPORTED_CLASS),
        }
    }

    /// Reads the repetition after an item, if any. Returns the cost of the item with its
    /// repetition.
    fn repeated(&mut self, item: usize) -> Result<usize, Reason> {
        let is_repetition = |next: &char| matches!(next, '*' | '+' | '?' | '{');
        let times = match self.chars.next_if(is_repetition) {
            None => return Ok(item),
            Some('{') => self.count()?,
            Some('?') => 1,
            Some(_) => 2,
        };
        // A question mark after a repetition makes the repetition lazy.
        self.chars.next_if_eq(&'?');
        if self.chars.peek().is_some_and(is_repetition) {
            return Err(NOTHING_TO_REPEAT);
        }
        Ok(item.saturating_mul(times).saturating_add(1))
    }

    /// Reads a counted repetition after its opening brace. Returns the number of copies of the item
    /// in the compiled expression.
    fn count(&mut self) -> Result<usize, Reason> {
        let least = self.number()?;
        let most = match self.chars.next() {
            Some('}') => return Ok(least),
            Some(',') if self.chars.next_if_eq(&'}').is_some() => return Ok(least + 1),
            Some(',') => self.number()?,
            _ => return Err(INVALID_COUNT),
        };
        if self.chars.next() == Some('}') && least <= most { Ok(most) } else { Err(INVALID_COUNT) }
    }

    fn number(&mut self) -> Result<usize, Reason> {
        let mut digits = String::new();
        while let Some(digit) = self.chars.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        let number = digits.parse().map_err(|_| INVALID_COUNT)?;
        if number <= MAX_COST { Ok(number) } else { Err(TOO_LARGE) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_expressions_are_accepted() {
        for expression in [
            "",
            "[0-9]+",
            r"\d{4}-\d{2}",
            "[a-z0-9-]+",
            r"[\w.-]+",
            "[^/]+",
            "(en|de|fr)",
            "(?:a|b)?",
            "(?i:readme)",
            "(?i)readme",
            ".*?",
            "a{2,}?",
            r"[ -~]",
            r"\.",
            "[-a]",
            "[a-]",
            r"[^\]\[]",
            "^a|b$",
            "é+",
        ] {
            assert!(check_expression(expression).is_ok(), "{expression}");
        }
    }

    #[test]
    fn unsupported_expression_is_refused_with_a_reason() {
        for (expression, reason) in [
            ("*", NOTHING_TO_REPEAT),
            ("a**", NOTHING_TO_REPEAT),
            ("a{2}{3}", NOTHING_TO_REPEAT),
            ("^*", NOTHING_TO_REPEAT),
            ("(?i)*", NOTHING_TO_REPEAT),
            ("(a", UNCLOSED_GROUP),
            ("a)", "a group in an expression is not opened"),
            ("a)|(b", "a group in an expression is not opened"),
            ("[a", UNCLOSED_BRACKETS),
            ("[", UNCLOSED_BRACKETS),
            ("[]", "brackets in an expression are empty"),
            ("[z-a]", "a range in an expression ends before it begins"),
            (r"[\d-a]", UNSUPPORTED_CLASS),
            (r"[a-\d]", UNSUPPORTED_CLASS),
            ("[a-c-e]", UNSUPPORTED_CLASS),
            ("[[:alpha:]]", UNSUPPORTED_CLASS),
            ("[a&&b]", UNSUPPORTED_CLASS),
            ("[!-&&]", UNSUPPORTED_CLASS),
            ("[--a]", UNSUPPORTED_CLASS),
            (r"\pL", UNSUPPORTED_ESCAPE),
            (r"\b", UNSUPPORTED_ESCAPE),
            (r"\<", UNSUPPORTED_ESCAPE),
            (r"a\", UNSUPPORTED_ESCAPE),
            ("(?P<name>a)", UNSUPPORTED_GROUP),
            ("(?x: a)", UNSUPPORTED_GROUP),
            ("(?=a)", UNSUPPORTED_GROUP),
            ("(?", UNSUPPORTED_GROUP),
            ("a{", INVALID_COUNT),
            ("a{,3}", INVALID_COUNT),
            ("a{3,2}", INVALID_COUNT),
            ("a{2,3", INVALID_COUNT),
            ("a{99999999999999999999}", INVALID_COUNT),
            ("a{10000}", TOO_LARGE),
            (r"\w{200}", TOO_LARGE),
            ("(a{100}){100}", TOO_LARGE),
        ] {
            assert_eq!(check_expression(expression), Err(reason), "{expression}");
        }
        let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
        assert!(check_expression(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(check_expression(&nested(MAX_DEPTH + 1)), Err(TOO_DEEP));
    }
}
