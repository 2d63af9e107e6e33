//! What the whole-system tests share: generators of programs apart from the oracles that judge them.
//!
//! [`generate`] and [`weave`] make modules from a seed, [`densify`] puts a migration point before every instruction
//! of one, [`carry`] runs one while it is carried from machine to machine, [`oracle`] compares such a
//! run with an undisturbed one, and [`script`] speaks the language of the specification's test suite.

pub mod carry;
pub mod densify;
pub mod generate;
pub mod oracle;
pub mod script;
pub mod weave;
