//! The body of a handler's response that the handler made as a whole.

use std::sync::Arc;

use bytes::Bytes;

use crate::entry::response::StoredResponse;

/// The smallest size, in bytes, of a body whose buffer the store takes over. To copy a smaller one
/// costs less than the store would lose by the separate buffer.
const LEAST_KEPT: usize = 4096;

/// A whole body, and the way in which the store gets it.
#[derive(Debug)]
pub(super) enum WholeBody {
    /// The body is not stored, because it is larger than the store or the policy permits.
    TooLarge(Bytes),
    /// The body equals the one of this stored response, which the new response replaces. Both
    /// responses then share memory.
    Stored(Bytes, Arc<StoredResponse>),
    /// The store keeps the buffer of the handler.
    Kept(Bytes),
    /// The store needs a copy: the buffer is in use elsewhere, or is much larger than the body.
    Copied(Bytes),
}

impl WholeBody {
    /// Decides how the store gets a body. `limit` is the size in bytes of the largest body that is
    /// stored, and `selected` the stored response that the new response replaces.
    pub(super) fn of(bytes: Bytes, limit: usize, selected: Option<&Arc<StoredResponse>>) -> Self {
        if bytes.len() > limit {
            return Self::TooLarge(bytes);
        }
        if let Some(stored) = selected.filter(|stored| stored.body == bytes) {
            return Self::Stored(bytes, Arc::clone(stored));
        }
        if bytes.len() < LEAST_KEPT {
            return Self::Copied(bytes);
        }
        match bytes.try_into_mut() {
            Err(shared) => Self::Copied(shared),
            Ok(unique) => {
                let buffer = Vec::from(unique);
                let (length, unused) = (buffer.len(), buffer.capacity() - buffer.len());
                let bytes = Bytes::from(buffer);
                if unused <= length / 8 { Self::Kept(bytes) } else { Self::Copied(bytes) }
            }
        }
    }

    pub(super) const fn bytes(&self) -> &Bytes {
        match self {
            Self::TooLarge(bytes) | Self::Stored(bytes, _) | Self::Kept(bytes) => bytes,
            Self::Copied(bytes) => bytes,
        }
    }

    /// Returns the bytes that must be copied.
    pub(super) fn to_copy(&self) -> &[u8] {
        match self {
            Self::TooLarge(_) | Self::Stored(..) | Self::Kept(_) => &[],
            Self::Copied(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::fixtures::stored;

    const LIMIT: usize = 100_000;

    fn whole(bytes: Bytes) -> WholeBody {
        WholeBody::of(bytes, LIMIT, None)
    }

    fn buffer(length: usize, unused: usize) -> Vec<u8> {
        let mut buffer = Vec::with_capacity(length + unused);
        buffer.resize(length, b'x');
        buffer
    }

    #[test]
    fn large_buffer_that_nothing_else_uses_is_kept() {
        for (case, length, unused, is_kept) in [
            ("full", LEAST_KEPT, 0, true),
            ("almost full", 80_000, 10_000, true),
            ("with much unused memory", 80_000, 10_001, false),
            ("small", LEAST_KEPT - 1, 0, false),
        ] {
            let bytes = Bytes::from(buffer(length, unused));
            let address = bytes.as_ptr();
            let body = whole(bytes);
            assert_eq!(matches!(body, WholeBody::Kept(_)), is_kept, "{case}");
            assert_eq!(*body.bytes(), buffer(length, 0), "{case}");
            assert_eq!(body.bytes().as_ptr(), address, "{case}: nothing is copied here");
            assert_eq!(body.to_copy().len(), if is_kept { 0 } else { length }, "{case}");
        }
    }

    #[test]
    fn body_that_is_stored_already_or_too_large_is_not_copied() {
        let selected = Arc::new(stored(0, &[]));
        for (bytes, limit, is_stored) in [
            (selected.body.clone(), LIMIT, Some(true)),
            (Bytes::from_static(b"other"), LIMIT, Some(false)),
            (selected.body.clone(), selected.body.len() - 1, None),
        ] {
            let body = WholeBody::of(bytes.clone(), limit, Some(&selected));
            assert_eq!(body.bytes(), &bytes);
            let got = match body {
                WholeBody::TooLarge(_) => None,
                WholeBody::Stored(_, stored) => Some(Arc::ptr_eq(&stored, &selected)),
                WholeBody::Kept(_) | WholeBody::Copied(_) => Some(false),
            };
            assert_eq!(got, is_stored, "{bytes:?}");
        }
    }

    #[test]
    fn shared_buffer_and_slice_are_copied() {
        let bytes = Bytes::from(buffer(10_000, 0));
        assert!(matches!(whole(bytes.clone()), WholeBody::Copied(copied) if copied == bytes));
        let mut slice = bytes;
        drop(slice.split_off(5_000));
        assert!(matches!(whole(slice), WholeBody::Copied(_)), "half of a buffer");
        let text = Bytes::from_static(&[b'x'; 10_000]);
        assert!(matches!(whole(text), WholeBody::Copied(_)), "static bytes");
    }
}
