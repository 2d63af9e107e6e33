//! The clocks. Only the real-time and the monotonic one exist, as with the oracle: processor time is the business of
//! whoever runs the task, and would jump with every move.

use super::Call;
use crate::Errno;

type Result<T = ()> = core::result::Result<T, Errno>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ClockId {
    Realtime,
    Monotonic,
    Cpu,
}

impl ClockId {
    pub(super) fn from_raw(raw: u32) -> Result<Self> {
        match raw {
            0 => Ok(Self::Realtime),
            1 => Ok(Self::Monotonic),
            2 | 3 => Ok(Self::Cpu),
            _ => Err(Errno::Inval),
        }
    }
}

impl Call<'_> {
    pub fn clock_res_get(&mut self, id: u32, out: u32) -> Result {
        let resolution = match ClockId::from_raw(id)? {
            ClockId::Realtime => self.host.realtime_resolution(),
            ClockId::Monotonic => self.host.monotonic_resolution(),
            ClockId::Cpu => return Err(Errno::Badf),
        };
        self.mem.write_u64(out, resolution)
    }

    pub fn clock_time_get(&mut self, id: u32, out: u32) -> Result {
        let now = match ClockId::from_raw(id)? {
            ClockId::Realtime => self.host.realtime(),
            ClockId::Monotonic => self.ctx.clock.now(self.host),
            ClockId::Cpu => return Err(Errno::Badf),
        };
        self.mem.write_u64(out, now)
    }
}
