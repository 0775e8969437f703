//! Tags (surrogate keys) that policies give to responses.

use actix_web::dev::ServiceRequest;
use percent_encoding::percent_decode_str;

use super::{error::ConfigError, values::RequestText};

/// A setting of a policy that gives responses a tag.
#[derive(Debug, Clone)]
pub(super) enum Tagging {
    /// A text. In the policy of a rule, the text can contain path parameters in braces, such as
    /// `post:{id}`.
    Text(String),
    /// A function that computes the tag from a request.
    Computed(RequestText),
}

impl Tagging {
    /// Returns whether the tag contains a path parameter.
    pub(super) fn has_parameter(&self) -> bool {
        matches!(self, Self::Text(text) if text.contains('{'))
    }

    /// Parses the text of a tag, which can contain path parameters in braces. `parameters` are the
    /// names of the parameters in the path of the rule to which the policy belongs.
    pub(super) fn compile(&self, parameters: &[String]) -> Result<CompiledTagging, ConfigError> {
        match self {
            Self::Text(text) => parse_template(text, parameters).map(CompiledTagging::Template),
            Self::Computed(function) => Ok(CompiledTagging::Computed(function.clone())),
        }
    }
}

/// A tag. Its text is parsed into literal text and path parameters.
#[derive(Debug, Clone)]
pub(super) enum CompiledTagging {
    Template(Vec<TemplatePart>),
    Computed(RequestText),
}

/// A part of the text of a rule's tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TemplatePart {
    Text(String),
    /// The name of a path parameter.
    Parameter(String),
}

impl CompiledTagging {
    /// Returns the tag that the policy gives the response to a request. `parameter` returns the value
    /// of a path parameter.
    pub(super) fn of_request(
        &self,
        request: &ServiceRequest,
        parameter: impl Fn(&str) -> Option<String>,
    ) -> Option<String> {
        match self {
            Self::Computed(function) => function.of(request),
            Self::Template(parts) => {
                let mut tag = String::new();
                for part in parts {
                    match part {
                        TemplatePart::Text(text) => tag.push_str(text),
                        TemplatePart::Parameter(name) => {
                            let value = parameter(name).unwrap_or_default();
                            // The value is decoded as `web::Path` decodes it for handlers.
                            tag.push_str(&percent_decode_str(&value).decode_utf8_lossy());
                        }
                    }
                }
                Some(tag)
            }
        }
    }
}

fn parse_template(text: &str, parameters: &[String]) -> Result<Vec<TemplatePart>, ConfigError> {
    let error = || ConfigError::UnknownTagParameter(text.to_owned());
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or_else(error)?;
        if !parameters.iter().any(|known| known == name) {
            return Err(error());
        }
        parts.push(TemplatePart::Text(before.to_owned()));
        parts.push(TemplatePart::Parameter(name.to_owned()));
        rest = after;
    }
    parts.push(TemplatePart::Text(rest.to_owned()));
    Ok(parts)
}
