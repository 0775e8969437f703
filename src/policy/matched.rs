//! `MatchedRules`: the rules that match a request.

use smallvec::SmallVec;

/// The rules that match a request, as indices into the list of rules. The deciding rule of a
/// response is the first of these rules that also matches the status code of the response.
#[derive(Debug, Clone, Default)]
pub(crate) struct MatchedRules {
    /// The rules that match only responses with certain status codes, in order. They precede
    /// `by_request` in the list of rules.
    pub(super) by_status: SmallVec<[usize; 2]>,
    /// The first matching rule without status codes.
    pub(super) by_request: Option<usize>,
}

impl MatchedRules {
    /// Returns the indices of all rules that can be the deciding rule of the response, whose status
    /// code is not known yet.
    pub(super) fn indices(&self) -> impl Iterator<Item = usize> {
        self.by_status.iter().copied().chain(self.by_request)
    }
}
