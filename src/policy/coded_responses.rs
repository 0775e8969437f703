//! Which responses a policy sends in content codings.

use actix_web::http::{
    StatusCode,
    header::{HeaderMap, HeaderName},
};

use super::{compiled::CompiledPolicy, compression::CompiledCompression};
use crate::semantics::{
    coded_copies::may_be_coded,
    streamed_coding::{VaryOrigin, may_be_streamed_coded},
};

impl CompiledPolicy {
    /// Returns the settings of content codings, if the policy has codings.
    pub(crate) const fn compression(&self) -> Option<&CompiledCompression> {
        self.compression.as_ref()
    }

    /// Returns whether the cache makes copies in content codings of a response with this status and
    /// these fields, if its body is large enough. `nominated` are the request fields that `Vary` of
    /// the response names.
    pub(crate) fn codes(
        &self,
        status: StatusCode,
        fields: &HeaderMap,
        nominated: &[HeaderName],
    ) -> bool {
        let compression = self.compression.as_ref();
        compression.is_some_and(|compression| compression.types.contain_type_of(fields))
            && self.comparison.codings.always_select().is_none()
            && may_be_coded(status, fields, nominated)
    }

    /// Returns the settings by which the cache codes a response with this status and these fields while
    /// it sends it, if it does.
    pub(crate) fn codes_while_sending(
        &self,
        status: StatusCode,
        fields: &HeaderMap,
        vary: VaryOrigin,
    ) -> Option<&CompiledCompression> {
        let compression = self.compression.as_ref()?;
        let is_coded = self.comparison.codings.always_select().is_none()
            && may_be_streamed_coded(status, fields, vary, &compression.types);
        is_coded.then_some(compression)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderValue};

    use super::*;
    use crate::{
        compression::is_available,
        entry::content_coding::ContentCoding,
        policy::{compression::Compression, error::ConfigError, settings::Policy},
    };

    fn compile(compression: Compression) -> Result<CompiledPolicy, ConfigError> {
        CompiledPolicy::new(Policy::new().compress(compression), None, "n")
    }

    #[test]
    fn impossible_settings_are_refused() {
        let new = Compression::new;
        let message = |compression| compile(compression).unwrap_err().to_string();
        assert!(message(new().codings([])).contains("Compression::codings has an empty list"));
        let none: [&str; 0] = [];
        for coding in ContentCoding::ALL.into_iter().filter(|coding| !is_available(*coding)) {
            let got = message(new().codings([coding]));
            assert!(got.contains(coding.name()) && got.contains("feature"), "{got}");
        }
        if ContentCoding::ALL.into_iter().any(is_available) {
            assert!(message(new().types(none)).contains("Compression::types has an empty list"));
            assert!(message(new().types(["text"])).contains("\"text\""));
            assert!(compile(new()).is_ok());
        } else {
            assert!(message(new()).contains("feature"));
        }
    }

    #[test]
    fn responses_of_the_chosen_types_are_coded() {
        if !is_available(ContentCoding::Gzip) {
            // Such a policy cannot be built without an encoder.
            return;
        }
        let html = || HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/html"))]);
        let policy = compile(Compression::new()).unwrap();
        assert!(policy.codes(StatusCode::OK, &html(), &[]));
        assert!(!policy.codes(StatusCode::OK, &HeaderMap::new(), &[]));
        assert!(!policy.codes(StatusCode::OK, &html(), &[ACCEPT_ENCODING]));
        let policy = compile(Compression::new().types(["text/css"])).unwrap();
        assert!(!policy.codes(StatusCode::OK, &html(), &[]));
        let plain = Policy::new().compress(Compression::new()).no_compression();
        let plain = CompiledPolicy::new(plain, None, "n").unwrap();
        assert!(plain.compression().is_none() && !plain.codes(StatusCode::OK, &html(), &[]));
        let varied = Policy::new().compress(Compression::new()).vary_codings(["gzip"]);
        let varied = CompiledPolicy::new(varied, None, "n").unwrap();
        assert!(!varied.codes(StatusCode::OK, &html(), &[]));
    }
}
