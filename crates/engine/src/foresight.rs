//! Which bytes of a guest's memory a call of the host is going to touch.
//!
//! A call is given the memory as a slice, and while pages of it are still at another machine, it must not touch one of
//! those: in the middle of a call there is no way out should the page never come, and the kernel, reading or writing
//! there for the call, may have no way to wait. So the pages are waited for before the call. That they are
//! all asked for at once is the second gain: a buffer of a MiB takes one turn on the link instead of 256.
//!
//! Too much does no harm: it would come anyway. Too little is found by the tests, and is then a fault in the middle
//! of the call.

use alloc::vec::Vec;
use core::ops::Range;
use wayfare_wasi::Function;

/// A part of memory that is touched, by the places of a call's arguments.
#[derive(Clone, Copy)]
enum Touch {
    /// So many bytes at a pointer.
    Bytes(usize, u32),
    /// At a pointer, as many bytes as the next argument says.
    Buffer(usize),
    /// At a pointer, elements of so many bytes, as many as another argument says.
    Array(usize, u32, usize),
    /// At a pointer, an array of buffers, as many as the next argument says. Calls use the first that is not empty.
    Buffers(usize),
    /// At two pointers: an array of pointers to strings, and the strings.
    Strings,
}

fn touches(function: Function) -> &'static [Touch] {
    use Function as F;
    use Touch::{Array, Buffer, Buffers, Bytes, Strings};
    // Exhaustive, so that no function is forgotten.
    match function {
        F::ArgsGet | F::EnvironGet => &[Strings],
        F::ArgsSizesGet | F::EnvironSizesGet => &[Bytes(0, 4), Bytes(1, 4)],
        F::ClockResGet | F::FdPrestatGet | F::FdTell => &[Bytes(1, 8)],
        F::ClockTimeGet => &[Bytes(2, 8)],
        F::FdFdstatGet => &[Bytes(1, 24)],
        F::FdFilestatGet => &[Bytes(1, 64)],
        F::FdPread | F::FdPwrite => &[Buffers(1), Bytes(4, 4)],
        F::FdRead | F::FdWrite => &[Buffers(1), Bytes(3, 4)],
        F::FdPrestatDirName | F::PathCreateDirectory | F::PathRemoveDirectory | F::PathUnlinkFile => &[Buffer(1)],
        F::FdReaddir => &[Buffer(1), Bytes(4, 4)],
        F::FdSeek => &[Bytes(3, 8)],
        F::PathFilestatGet => &[Buffer(2), Bytes(4, 64)],
        F::PathFilestatSetTimes => &[Buffer(2)],
        F::PathLink => &[Buffer(2), Buffer(5)],
        F::PathOpen => &[Buffer(2), Bytes(8, 4)],
        F::PathReadlink => &[Buffer(1), Buffer(3), Bytes(5, 4)],
        F::PathRename => &[Buffer(1), Buffer(4)],
        F::PathSymlink => &[Buffer(0), Buffer(3)],
        F::PollOneoff => &[Array(0, 48, 2), Array(1, 32, 2), Bytes(3, 4)],
        F::RandomGet => &[Buffer(0)],
        F::SockAccept => &[Bytes(2, 4)],
        F::SockRecv => &[Buffers(1), Bytes(4, 4), Bytes(5, 2)],
        F::SockSend => &[Buffers(1), Bytes(4, 4)],
        F::FdAdvise
        | F::FdAllocate
        | F::FdClose
        | F::FdDatasync
        | F::FdFdstatSetFlags
        | F::FdFdstatSetRights
        | F::FdFilestatSetSize
        | F::FdFilestatSetTimes
        | F::FdRenumber
        | F::FdSync
        | F::ProcExit
        | F::ProcRaise
        | F::SchedYield
        | F::SockShutdown => &[],
    }
}

/// Lets `need` wait for the parts of `memory` that a call will touch. `strings` says how many strings there are and
/// of how many bytes, for the calls that hand them out.
///
/// # Errors
/// Those of `need`.
pub fn foresee<E>(
    function: Function,
    args: &[u64],
    strings: (u32, u32),
    memory: &[u8],
    mut need: impl FnMut(&[Range<usize>]) -> Result<(), E>,
) -> Result<(), E> {
    // As the calls do: the high half means nothing.
    let arg = |i: usize| args.get(i).map_or(0, |arg| *arg as u32);
    let range = |at: u32, elements: u32, size: u32| {
        let len = u64::from(elements).saturating_mul(u64::from(size));
        let end = u64::from(at).saturating_add(len).min(memory.len() as u64);
        (at as usize).min(end as usize)..end as usize
    };
    let touches = touches(function);
    let mut ranges = Vec::new();
    for touch in touches {
        match *touch {
            Touch::Bytes(at, size) => ranges.push(range(arg(at), 1, size)),
            Touch::Buffer(at) => ranges.push(range(arg(at), arg(at + 1), 1)),
            Touch::Array(at, size, count) => ranges.push(range(arg(at), arg(count), size)),
            Touch::Buffers(at) => ranges.push(range(arg(at), arg(at + 1), 8)),
            Touch::Strings => ranges.extend([range(arg(0), strings.0, 4), range(arg(1), strings.1, 1)]),
        }
    }
    if ranges.iter().all(Range::is_empty) {
        return Ok(());
    }
    need(&ranges)?;
    for touch in touches {
        let Touch::Buffers(at) = *touch else { continue };
        let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let (buffers, _) = memory[range(arg(at), arg(at + 1), 8)].as_chunks::<8>();
        let used = buffers.iter().map(|buffer| (word(&buffer[..4]), word(&buffer[4..]))).find(|(_, len)| *len != 0);
        if let Some((at, len)) = used {
            need(&[range(at, len, 1)])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(function: Function, args: &[u64], memory: &[u8]) -> Vec<Range<usize>> {
        let mut all = Vec::new();
        let Ok(()) = foresee::<core::convert::Infallible>(function, args, (2, 9), memory, |ranges| {
            all.extend_from_slice(ranges);
            Ok(())
        });
        all
    }

    #[test]
    fn every_pointer_of_a_signature_is_followed() {
        // Each function has one touch for each pointer; the arguments that are none are descriptors, lengths, flags,
        // or of 64 bits.
        for function in Function::ALL {
            let last = |touch: &Touch| match *touch {
                Touch::Bytes(at, _) => at,
                Touch::Buffer(at) | Touch::Buffers(at) => at + 1,
                Touch::Array(at, _, count) => at.max(count),
                Touch::Strings => 1,
            };
            for touch in touches(*function) {
                assert!(last(touch) < function.params().len(), "{function:?}");
                let pointer = match *touch {
                    Touch::Bytes(at, _) | Touch::Buffer(at) | Touch::Buffers(at) | Touch::Array(at, ..) => at,
                    Touch::Strings => 0,
                };
                assert!(function.params()[pointer] == wayfare_wasi::ValType::I32, "{function:?}");
            }
        }
    }

    #[test]
    fn only_the_first_buffer_that_is_not_empty_is_used() {
        let mut memory = [0; 64];
        memory[8..16].copy_from_slice(&[40, 0, 0, 0, 3, 0, 0, 0]);
        memory[16..24].copy_from_slice(&[50, 0, 0, 0, 9, 0, 0, 0]);
        assert_eq!(seen(Function::FdWrite, &[1, 0, 3, 60], &memory), [0..24, 60..64, 40..43]);
        assert_eq!(seen(Function::FdWrite, &[1, 24, 1, 60], &memory), [24..32, 60..64]);
    }

    #[test]
    fn pointers_that_cannot_be_end_with_the_memory() {
        let (memory, max) = ([0xff; 64], u64::from(u32::MAX));
        assert_eq!(
            seen(Function::FdPrestatDirName, &[3, 16, max], &memory),
            seen(Function::RandomGet, &[16, max], &memory)
        );
        assert!(seen(Function::RandomGet, &[16, max], &memory).contains(&(16..64)));
        assert_eq!(seen(Function::RandomGet, &[max, max], &memory), []);
        assert_eq!(seen(Function::FdRead, &[0, 8, max, 70], &memory), [8..64, 64..64, 64..64]);
        assert_eq!(seen(Function::ArgsGet, &[4, 60], &memory), [4..12, 60..64]);
        assert_eq!(seen(Function::PollOneoff, &[0, 8, max, max], &memory), [0..64, 8..64, 64..64]);
    }
}
