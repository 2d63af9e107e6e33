//! The console, for people.

use crate::sys;

/// One line.
pub fn line(text: &str) {
    sys::write(alloc::format!("wayfare: {text}\n").as_bytes());
}
