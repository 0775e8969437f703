//! Reads choices from the input of a fuzz target.

use std::time::Duration;

use crate::clock::Timestamp;

/// The time at which the targets without a clock read their inputs.
pub(super) const NOW: Timestamp =
    Timestamp::new(Duration::from_secs(1_700_000_000), Duration::from_secs(1000));

/// The rest of an input. After the end of the input, all bytes are zero.
#[derive(Debug, Clone)]
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads a byte.
    pub(super) fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    /// Reads a number below `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    /// Reads a choice between true and false. False is the choice after the end of the input.
    pub(super) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Chooses an element. The first one is the choice after the end of the input.
    pub(super) fn choose<'b, T>(&mut self, choices: &'b [T]) -> &'b T {
        &choices[self.below(choices.len())]
    }

    /// Chooses up to `most` elements, in any order and with repetitions.
    #[cfg(feature = "test-util")]
    pub(super) fn some<'b, T>(&mut self, choices: &'b [T], most: usize) -> Vec<&'b T> {
        (0..self.below(most + 1)).map(|_| self.choose(choices)).collect()
    }

    /// Reads a text of bytes, whose length is in the byte before it.
    pub(super) fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }

    /// Reads a number of 8 bytes.
    pub(super) fn number(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// Reads all bytes to the end.
    #[cfg(feature = "redis")]
    pub(super) const fn rest(&mut self) -> &'a [u8] {
        let rest = self.0;
        self.0 = &[];
        rest
    }
}
