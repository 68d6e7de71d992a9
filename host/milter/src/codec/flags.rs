//! What is negotiated: the changes that a milter may make, and the steps that it is shown.

use std::fmt;

macro_rules! flags {
    ($(#[$doc:meta])* $name:ident { $($(#[$flag_doc:meta])* $flag:ident = $bit:literal, $word:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name(pub u32);

        impl $name {
            $($(#[$flag_doc])* pub const $flag: Self = Self($bit);)*
            /// All that this version of the protocol names.
            pub const KNOWN: Self = Self($($bit)|*);

            /// All of `other` are in it.
            #[must_use]
            pub const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Those of both.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Those that are not in `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// A word for each, for people.
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
    /// `SMFIF_*`: what a milter may do.
    Actions {
        /// Add and insert header fields.
        ADD_HEADERS = 0x1, "add header fields";
        /// Another body.
        CHANGE_BODY = 0x2, "replace the body";
        /// More recipients.
        ADD_RECIPIENTS = 0x4, "add recipients";
        /// Fewer recipients.
        DELETE_RECIPIENTS = 0x8, "delete recipients";
        /// Change and delete header fields.
        CHANGE_HEADERS = 0x10, "change header fields";
        /// Into the hold queue.
        QUARANTINE = 0x20, "quarantine";
        /// Another sender.
        CHANGE_SENDER = 0x40, "change the sender";
        /// More recipients, with ESMTP parameters.
        ADD_RECIPIENTS_WITH_PARAMETERS = 0x80, "add recipients with parameters";
        /// Name the macros that it wants.
        CHOOSE_MACROS = 0x100, "choose macros";
    }
}

flags! {
    /// `SMFIP_*`: what a milter is not shown, what it does not reply to, and how it wants things.
    Steps {
        /// No CONNECT.
        NO_CONNECT = 0x1, "no connect";
        /// No HELO.
        NO_HELO = 0x2, "no helo";
        /// No MAIL.
        NO_MAIL = 0x4, "no mail";
        /// No RCPT.
        NO_RCPT = 0x8, "no rcpt";
        /// No body.
        NO_BODY = 0x10, "no body";
        /// No header fields.
        NO_HEADERS = 0x20, "no header";
        /// No end of the header.
        NO_END_OF_HEADER = 0x40, "no end of header";
        /// No reply to a header field.
        NO_REPLY_HEADER = 0x80, "no reply to header";
        /// No unknown commands.
        NO_UNKNOWN = 0x100, "no unknown commands";
        /// No DATA.
        NO_DATA = 0x200, "no data";
        /// It may ask to be spared the rest of the body.
        SKIP = 0x400, "may skip the rest of the body";
        /// It wants recipients that were refused, too.
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
        /// No reply to an unknown command.
        NO_REPLY_UNKNOWN = 0x2_0000, "no reply to unknown commands";
        /// No reply to the end of the header.
        NO_REPLY_END_OF_HEADER = 0x4_0000, "no reply to end of header";
        /// No reply to a piece of the body.
        NO_REPLY_BODY = 0x8_0000, "no reply to body";
        /// Values of header fields keep the white space before them.
        HEADER_LEADING_SPACE = 0x10_0000, "header values with their leading space";
        /// Body packets of 256 KiB.
        CHUNK_256K = 0x1000_0000, "body packets of 256 KiB";
        /// Body packets of 1 MiB.
        CHUNK_1M = 0x2000_0000, "body packets of 1 MiB";
    }
}

impl Steps {
    /// What we offer: refused recipients are not shown, and a packet of the body is always small.
    pub const OFFERED: Self = Self::KNOWN.without(Self::REJECTED_RECIPIENTS).without(Self::CHUNK_256K).without(Self::CHUNK_1M);
}
