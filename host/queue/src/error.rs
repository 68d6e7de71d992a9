//! Mapping of store errors to spool errors.

use waxwing_spool::SpoolError;
use waxwing_store::StoreError;

/// Maps the error of a store operation; a failed read or compaction is not fatal, because the damage may be limited.
pub(crate) fn unavailable(error: StoreError) -> SpoolError {
    let fatal = match error {
        StoreError::Open(_) | StoreError::Poisoned(_) | StoreError::Closed => true,
        StoreError::Read(_) | StoreError::Compact(_) => false,
    };
    SpoolError::Unavailable { reason: error.to_string().into(), fatal }
}
