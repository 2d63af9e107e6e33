//! What became of this machine the last time, if it failed; and failing on purpose, to try out what becomes of it then.

use crate::sys;
use alloc::string::ToString;
use wayfare_board::report::{self, Report};
use wayfare_cluster::restart::{Part, Restart};

/// How it is to fail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Agent,
    Kernel,
    Hang,
}

/// See the module.
pub struct Failures {
    /// Why the machine was reset, if it was.
    pub last: Option<Restart>,
    on_purpose: Option<How>,
}

impl Failures {
    /// `left_behind` is what the kernel has found, `setting` what the command line says: `wayfare.fail` how to fail, and
    /// `wayfare.fail-times` how often in a row.
    pub fn new<'t>(left_behind: &[u8], setting: impl Fn(&str) -> Option<&'t str>) -> Failures {
        let last = Report::read(left_behind).map(|Report { part, times, text }| {
            let part = match part {
                report::Part::Agent => Part::Agent,
                report::Part::Kernel => Part::Kernel,
                report::Part::Watchdog => Part::Watchdog,
            };
            Restart { part, text: text.to_string(), times }
        });
        let how = match setting("wayfare.fail") {
            Some("agent") => Some(How::Agent),
            Some("kernel") => Some(How::Kernel),
            Some("hang") => Some(How::Hang),
            _ => None,
        };
        let most = setting("wayfare.fail-times").and_then(|text| text.parse().ok()).unwrap_or(u32::MAX);
        let times = last.as_ref().map_or(0, |last| last.times);
        Failures { last, on_purpose: how.filter(|_| times < most) }
    }

    /// Fails, if it is to.
    pub fn on_purpose(&self) {
        const WHY: &str = "wayfare.fail says so";
        match self.on_purpose {
            Some(How::Agent) => panic!("{WHY}"),
            Some(How::Kernel) => sys::fail(WHY, true),
            Some(How::Hang) => loop {
                core::hint::spin_loop();
            },
            None => {}
        }
    }
}
