//! Arguments, environment, randomness, signals.

use super::Call;
use crate::Errno;
use crate::memory::Memory;

type Result<T = ()> = core::result::Result<T, Errno>;

/// The highest signal number (`sys`).
const SIGNAL_MAX: u32 = 30;

impl Call<'_> {
    pub fn args_get(&mut self, argv: u32, buf: u32) -> Result {
        let strings = self.ctx.args.iter().map(|arg| [arg.as_bytes()]);
        put_strings(&mut self.mem, strings, argv, buf)
    }

    pub fn args_sizes_get(&mut self, count: u32, size: u32) -> Result {
        let strings = self.ctx.args.iter().map(|arg| [arg.as_bytes()]);
        put_sizes(&mut self.mem, strings, count, size)
    }

    pub fn environ_get(&mut self, environ: u32, buf: u32) -> Result {
        let strings = self.ctx.env.iter().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()]);
        put_strings(&mut self.mem, strings, environ, buf)
    }

    pub fn environ_sizes_get(&mut self, count: u32, size: u32) -> Result {
        let strings = self.ctx.env.iter().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()]);
        put_sizes(&mut self.mem, strings, count, size)
    }

    pub fn proc_raise(&mut self, signal: u32) -> Result {
        Err(if signal > SIGNAL_MAX { Errno::Inval } else { Errno::Notsup })
    }

    pub fn random_get(&mut self, ptr: u32, len: u32) -> Result {
        self.host.entropy(self.mem.bytes_mut(ptr, len)?)
    }
}

/// Writes each string with a NUL after it to `buf`, and its address to the array at `pointers`.
fn put_strings<'a, const N: usize>(
    mem: &mut Memory<'_>,
    strings: impl Iterator<Item = [&'a [u8]; N]>,
    mut pointers: u32,
    mut buf: u32,
) -> Result {
    let put = |mem: &mut Memory<'_>, at: &mut u32, bytes: &[u8]| {
        mem.write(*at, bytes)?;
        *at = at.checked_add(bytes.len() as u32).ok_or(Errno::Fault)?;
        Ok(())
    };
    for parts in strings {
        let start = buf.to_le_bytes();
        put(mem, &mut pointers, &start)?;
        for part in parts {
            put(mem, &mut buf, part)?;
        }
        put(mem, &mut buf, &[0])?;
    }
    Ok(())
}

fn put_sizes<'a, const N: usize>(
    mem: &mut Memory<'_>,
    strings: impl Iterator<Item = [&'a [u8]; N]>,
    count: u32,
    size: u32,
) -> Result {
    let (mut number, mut bytes) = (0_u32, 0_u32);
    for parts in strings {
        let len = parts.iter().map(|part| part.len()).sum::<usize>() + 1;
        bytes = u32::try_from(len).ok().and_then(|len| bytes.checked_add(len)).ok_or(Errno::Overflow)?;
        number = number.checked_add(1).ok_or(Errno::Overflow)?;
    }
    mem.check(size, 4)?;
    mem.write_u32(count, number)?;
    mem.write_u32(size, bytes)
}
