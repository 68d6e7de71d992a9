//! Fakes of the interfaces between crates, for unit and integration tests.
//!
//! Owns: one fake for each interface: plugin, resolver, address classifier, clock in real time.
//! Uses: pipeline, types.
//! Used by: tests and examples, as a dev-dependency; crash.
//! Never: a normal dependency of a crate under `host/`. Nor a dependency of the unit tests of `waxwing-pipeline` and `waxwing-types`: these crates are compiled a
//! second time for their own unit tests, and their types then differ from the types here. [`waxwing_types::ManualClock`] lies
//! beside its trait for that reason.
//! Start reading at: [`FakePlugin`].
#![forbid(unsafe_code)]

mod classifier;
mod clock;
mod plugin;
mod resolver;

pub use classifier::FixedClassifier;
pub use clock::RealClock;
pub use plugin::FakePlugin;
pub use resolver::FakeResolver;
