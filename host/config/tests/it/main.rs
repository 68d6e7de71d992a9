//! Integration tests of `waxwing-config`, in one binary: each binary links all that the crate depends on.

mod mistakes;
mod values;
