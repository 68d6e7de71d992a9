//! Negotiated flags: changes permitted to a milter, and protocol steps.

use std::fmt;

macro_rules! flags {
    ($(#[$doc:meta])* $name:ident { $($(#[$flag_doc:meta])* $flag:ident = $bit:literal, $word:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name(pub u32);

        impl $name {
            $($(#[$flag_doc])* pub const $flag: Self = Self($bit);)*
            /// All flags of this protocol version.
            pub const ALL: Self = Self($($bit)|*);

            /// Returns whether all flags of `other` are set.
            #[must_use]
            pub const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Returns the union of both sets.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Returns the flags that are not in `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// Returns the description of each flag, for display.
            #[must_use]
            pub fn words(self) -> Vec<&'static str> {
                [$((Self::$flag, $word)),*].into_iter().filter(|(flag, _)| self.has(*flag)).map(|(_, word)| word).collect()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.words().join(", "))
            }
        }
    };
}

flags! {
    /// ActionFlags permitted to a milter (`SMFIF_*`).
    ActionFlags {
        /// Add and insert header fields.
        ADD_HEADERS = 0x1, "add header fields";
        /// Replace the message body.
        CHANGE_BODY = 0x2, "replace the body";
        /// Add recipients without parameters.
        ADD_RECIPIENTS = 0x4, "add recipients";
        /// Delete recipients of the message.
        DELETE_RECIPIENTS = 0x8, "delete recipients";
        /// Change and delete header fields.
        CHANGE_HEADERS = 0x10, "change header fields";
        /// Quarantine the message in the hold queue.
        QUARANTINE = 0x20, "quarantine";
        /// Change the envelope sender.
        CHANGE_SENDER = 0x40, "change the sender";
        /// Add recipients with ESMTP parameters.
        ADD_RECIPIENTS_WITH_PARAMETERS = 0x80, "add recipients with parameters";
        /// Select macros for each stage.
        CHOOSE_MACROS = 0x100, "choose macros";
    }
}

flags! {
    /// Protocol flags (`SMFIP_*`): omitted steps, omitted replies and other options.
    ProtocolFlags {
        /// Omit the connect step.
        NO_CONNECT = 0x1, "no connect";
        /// Omit the HELO step.
        NO_HELO = 0x2, "no helo";
        /// Omit the MAIL step.
        NO_MAIL = 0x4, "no mail";
        /// Omit the RCPT step.
        NO_RCPT = 0x8, "no rcpt";
        /// Omit the message body.
        NO_BODY = 0x10, "no body";
        /// Omit the header fields.
        NO_HEADERS = 0x20, "no header";
        /// Omit the end of header step.
        NO_END_OF_HEADER = 0x40, "no end of header";
        /// No reply to header fields.
        NO_REPLY_HEADER = 0x80, "no reply to header";
        /// Omit unknown SMTP commands.
        NO_UNKNOWN = 0x100, "no unknown commands";
        /// Omit the DATA step.
        NO_DATA = 0x200, "no data";
        /// Permit the milter to skip the remaining body.
        SKIP = 0x400, "may skip the rest of the body";
        /// Include rejected recipients.
        REJECTED_RECIPIENTS = 0x800, "refused recipients too";
        /// No reply to CONNECT.
        NO_REPLY_CONNECT = 0x1000, "no reply to connect";
        /// No reply to HELO.
        NO_REPLY_HELO = 0x2000, "no reply to helo";
        /// No reply to MAIL.
        NO_REPLY_MAIL = 0x4000, "no reply to mail";
        /// No reply to RCPT.
        NO_REPLY_RCPT = 0x8000, "no reply to rcpt";
        /// No reply to DATA.
        NO_REPLY_DATA = 0x1_0000, "no reply to data";
        /// No reply to unknown commands.
        NO_REPLY_UNKNOWN = 0x2_0000, "no reply to unknown commands";
        /// No reply to the end of the header.
        NO_REPLY_END_OF_HEADER = 0x4_0000, "no reply to end of header";
        /// No reply to body packets.
        NO_REPLY_BODY = 0x8_0000, "no reply to body";
        /// Preserve white space at the start of header values.
        HEADER_LEADING_SPACE = 0x10_0000, "header values with their leading space";
        /// Body packets of 256 KiB.
        CHUNK_256K = 0x1000_0000, "body packets of 256 KiB";
        /// Body packets of 1 MiB.
        CHUNK_1M = 0x2000_0000, "body packets of 1 MiB";
    }
}

impl ProtocolFlags {
    /// Flags offered to milters: without rejected recipients, and with small body packets only.
    pub const OFFERED: Self = Self::ALL.without(Self::REJECTED_RECIPIENTS).without(Self::CHUNK_256K).without(Self::CHUNK_1M);
}
