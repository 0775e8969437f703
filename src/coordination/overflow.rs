//! The effect of the bound of a table on its records.

/// The effect that the bound of a table had on the records of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[must_use]
pub(super) enum Overflow {
    /// The table has space for all of its records.
    None,
    /// One record has replaced the records of many tags.
    Replaced,
    /// Older records were dropped. The latest time among them is the new floor of the table.
    Dropped,
}

impl Overflow {
    /// Returns the larger effect of the two.
    pub(super) fn or(self, other: Self) -> Self {
        self.max(other)
    }
}
