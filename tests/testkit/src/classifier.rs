//! Address classifier.

use waxwing_pipeline::AddressClassifier;
use waxwing_types::{Address, AddressClass};

/// Address classifier that returns the same class for each address.
#[derive(Clone, Copy, Debug)]
pub struct FixedClassifier(
    /// Class of each address.
    pub AddressClass,
);

impl FixedClassifier {
    /// Classifier of a server without domains of its own: each address is remote.
    pub const REMOTE: Self = Self(AddressClass::Remote);
}

impl AddressClassifier for FixedClassifier {
    fn class_of(&self, _: &Address) -> AddressClass {
        self.0
    }
}
