//! `MatchedRules`: the rules that match a request.

use smallvec::SmallVec;

/// The rules that match a request, as indices into the rules of the policy.
#[derive(Debug, Clone, Default)]
pub(crate) struct MatchedRules {
    /// The rules that match only responses with certain status codes, in order. These rules precede
    /// `by_request`.
    pub(super) by_status: SmallVec<[usize; 2]>,
    /// The first rule without status codes.
    pub(super) by_request: Option<usize>,
}

impl MatchedRules {
    /// Returns the indices of all rules that can be the deciding rule for the response.
    pub(super) fn indices(&self) -> impl Iterator<Item = usize> {
        self.by_status.iter().copied().chain(self.by_request)
    }
}
