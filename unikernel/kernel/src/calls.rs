//! What the node asks for, and what it did wrong.

use crate::arch::{self, Context, paging};
use crate::space::{self, Touch};
use crate::threads::Threads;
use crate::{frames, guard, program, report, smp, tables};
use core::sync::atomic::Ordering;
use wayfare_board::report::{Part, TEXT_MAX};
use wayfare_unikernel_abi::{Area, Call, Error, Fault, PAGE, Rights};

/// The thread that runs has called the kernel. Its result is in its context when it goes on.
pub fn call(threads: &mut Threads) {
    let (number, arguments) = threads.current().call();
    let result = match Call::from_number(number) {
        Some(call) => answer(threads, call, arguments),
        None => Err(Error::Invalid),
    };
    threads.current().set_result(result.unwrap_or_else(|e| e as isize));
}

fn answer(threads: &mut Threads, call: Call, [a, b, c, d]: [usize; 4]) -> Result<isize, Error> {
    let (first, second) = (a as u64, b as u64);
    match call {
        Call::Exit => {
            smp::stop_others();
            arch::exit(a as u8)
        }
        Call::Write => arch::write(space::read(first, second)?),
        Call::Resize => {
            let area = Area::from_number(a).filter(|area| *area != Area::Stacks).ok_or(Error::Invalid)?;
            space::resize(area, b, c as u64)?;
        }
        Call::Protect => space::protect(first, second, Rights::from_number(c).ok_or(Error::Invalid)?)?,
        Call::Populate => space::populate(first, second)?,
        Call::Spawn => {
            // Privileged code is not to be reached by this either: the thread runs unprivileged.
            return threads.spawn(first, second, c != 0).map(|number| number as isize);
        }
        Call::End => threads.end(),
        Call::Wait => {
            if space::word(first)?.load(Ordering::SeqCst) != b as u32 {
                return Err(Error::Changed);
            }
            threads.wait(first, c as u64);
        }
        Call::Wake => return Ok(threads.wake(first, b) as isize),
        Call::Written => space::written(a, second, c as u64, d as u64, false)?,
        Call::Present => space::written(a, second, c as u64, d as u64, true)?,
        Call::Dma => {
            let dma = space::dma(first)?;
            let place = space::write(second, 16)?;
            place[..8].copy_from_slice(&dma.address.to_le_bytes());
            place[8..].copy_from_slice(&dma.physical.to_le_bytes());
        }
        Call::Listen => {
            space::word(second)?;
            threads.listen(a, second)?;
            arch::unmask(a);
        }
        Call::Catch => {
            threads.set_catcher(a);
        }
        Call::Guard => {
            report::is_node();
            guard::heard(first);
        }
        Call::Fail => {
            let why = space::read(first, second.min(TEXT_MAX as u64)).unwrap_or_default();
            let why = why.utf8_chunks().next().map_or("", |chunk| chunk.valid());
            match c {
                0 => report::fail(Part::Agent, format_args!("{why}")),
                _ => panic!("{why}"),
            }
        }
        Call::Processors => return Ok(smp::count() as isize),
        Call::Ran => {
            let ran = threads.ran(a).ok_or(Error::Invalid)?;
            return Ok(ran.min(isize::MAX as u64) as isize);
        }
        Call::Free => return Ok(frames::free().saturating_sub(frames::reserve()).min(isize::MAX as u64) as isize),
    }
    Ok(0)
}

/// The thread that runs has touched an address where no page is, or none that it may use so.
pub fn touched(threads: &mut Threads, address: u64, how: Rights) {
    // Another processor may have been first with the page, or with the first write to it.
    if tables::allows(address, how) {
        return paging::look_again(address);
    }
    match if tables::is_there(address) { Touch::NotThere } else { space::touch(address) } {
        Touch::Mapped => {}
        Touch::NotThere => faulted(threads, Fault::Access, Some(address)),
        Touch::Full => faulted(threads, Fault::Full, Some(address)),
    }
}

/// The thread that runs has done what it cannot do: the node is told, on the thread itself.
pub fn faulted(threads: &mut Threads, fault: Fault, address: Option<u64>) {
    let catcher = threads.catcher();
    let context = threads.current();
    // What is told goes by the stack that the fault was on: if that is what there is no more of, nobody can be told.
    let stack = context.stack();
    let can_be_told = space::populate(stack.saturating_sub(PAGE), PAGE).is_ok();
    match catcher {
        Some(catcher) if can_be_told => context.divert(catcher, address, fault),
        _ => die(context, fault, address),
    }
}

/// The node cannot go on.
pub fn die(context: &Context, fault: Fault, address: Option<u64>) -> ! {
    let address = address.unwrap_or(0);
    let (at, place, stack) = (context.at(), program::place(context.at()), context.stack());
    report::fail(Part::Agent, format_args!("{fault:?} at {at:#x} ({place}), address {address:#x}, stack {stack:#x}"))
}
