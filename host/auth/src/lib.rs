//! Who says who: SASL mechanisms as a server speaks them, and password hashes.
//!
//! Owns: the exchanges of PLAIN, LOGIN, SCRAM-SHA-256(-PLUS), OAUTHBEARER and XOAUTH2; the schemes of stored passwords.
//! Uses: nothing of ours.
//! Used by: accounts, intake.
//! Never: I/O, a clock, where users are kept.
//! Start reading at: the mechanisms.
#![forbid(unsafe_code)]
