//! The console, for people.

use crate::sys;
use core::fmt;

/// What is written to it as text.
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        sys::write(text.as_bytes());
        Ok(())
    }
}

/// One line.
pub fn line(text: &str) {
    sys::write(alloc::format!("wayfare: {text}\n").as_bytes());
}
