//! The rules that match a request.

use smallvec::SmallVec;

/// The rules that match a request, by their index.
#[derive(Debug, Clone, Default)]
pub(crate) struct MatchedRules {
    /// Rules that also need a certain status of the response, in order. They precede `by_request`.
    pub(super) by_status: SmallVec<[usize; 2]>,
    /// The first rule that needs no status.
    pub(super) by_request: Option<usize>,
}

impl MatchedRules {
    /// The indices of all rules that can decide about the response.
    pub(super) fn indices(&self) -> impl Iterator<Item = usize> {
        self.by_status.iter().copied().chain(self.by_request)
    }
}
