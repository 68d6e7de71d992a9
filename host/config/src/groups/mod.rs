//! Groups of top-level keys, one for each part of the server that reads them.

mod auth;
mod domains;
mod general;
mod guard;
mod policy;
mod queue;
mod smtp;
mod smtpd;
mod tls;
mod transports;
mod verify;

pub use auth::AuthConfig;
pub use domains::DomainsConfig;
pub use general::GeneralConfig;
pub use guard::GuardConfig;
pub use policy::PolicyConfig;
pub use queue::QueueConfig;
pub use smtp::SmtpConfig;
pub use smtpd::SmtpdConfig;
pub use tls::TlsConfig;
pub use transports::TransportsConfig;
pub use verify::AddressVerifyConfig;

use crate::Config;

macro_rules! defaults {
    ($($field:ident: $Group:ident),+ $(,)?) => { $(
        impl Default for $Group {
            /// Returns the values of an empty file, see [`Config::with_defaults`].
            fn default() -> Self {
                Config::with_defaults().$field
            }
        }
    )+ };
}

defaults! {
    general: GeneralConfig, domains: DomainsConfig, smtpd: SmtpdConfig, guard: GuardConfig, policy: PolicyConfig,
    verify: AddressVerifyConfig, transports: TransportsConfig, queue: QueueConfig, smtp: SmtpConfig, auth: AuthConfig,
    tls: TlsConfig,
}
