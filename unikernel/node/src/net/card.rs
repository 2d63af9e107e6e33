//! The network card (virtio, "Network Device"): packets in buffers that stay with it, so that nothing waits for one to be
//! sent; and the card is told of new ones once for all that the stack does in a row, which an emulator pays dearly for.
//!
//! For that reason the queues are used directly, and without event indices: the card's flag in the ring says whether it
//! wants to be told, and it does not while it is at work.

use crate::sys;
use crate::virtio::{self, Interrupts, Machine};
use alloc::vec::Vec;
use anyhow::{Context as _, Result};
use bitflags::bitflags;
use core::cell::RefCell;
use core::sync::atomic::AtomicU32;
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{DeviceType, SomeTransport, Transport};
use wayfare_unikernel_abi::{Boot, PAGE};

/// Packets under way in each direction.
const QUEUE: usize = 64;
/// Of a buffer: a header, and a packet of the largest size.
const BUFFER: usize = 2048;
/// What a packet may have, from its addresses on.
const PACKET: usize = 1514;
/// The card's queues.
const COMING: u16 = 0;
const GOING: u16 = 1;
/// Of the header before each packet, of cards of the first version and of others.
const HEADERS: [usize; 2] = [10, 12];

bitflags! {
    #[derive(Clone, Copy, Debug)]
    struct Features: u64 {
        /// It has an address.
        const MAC = 1 << 5;
        /// It is no card of the first version.
        const VERSION_1 = 1 << 32;
    }
}

/// A card.
pub struct Card(RefCell<Inner>);

struct Inner {
    transport: SomeTransport<'static>,
    interrupts: Interrupts,
    address: [u8; 6],
    header: usize,
    coming: Queue,
    going: Queue,
    /// To be sent in.
    free: Vec<&'static mut [u8]>,
}

/// A queue, and the buffers that the card has, by token.
struct Queue {
    ring: VirtQueue<Machine, QUEUE>,
    number: u16,
    buffers: [Option<&'static mut [u8]>; QUEUE],
    /// The card is to be told of new ones.
    is_new: bool,
}

impl Queue {
    fn new(transport: &mut SomeTransport<'static>, number: u16) -> Option<Queue> {
        let ring = VirtQueue::new(transport, number, false, false).ok()?;
        Some(Queue { ring, number, buffers: [const { None }; QUEUE], is_new: false })
    }

    /// Gives a buffer to the card, so many bytes of it to be sent, or all to be filled. Gives it back if that is not possible.
    fn give(&mut self, buffer: &'static mut [u8], send: Option<usize>) -> Option<&'static mut [u8]> {
        // SAFETY: the buffer lies in `buffers`, untouched, until the card has done with it.
        let token = unsafe {
            match send {
                Some(len) => self.ring.add(&[&buffer[..len]], &mut []),
                None => self.ring.add(&[], &mut [&mut *buffer]),
            }
        };
        match token {
            Ok(token) => {
                self.is_new = true;
                self.buffers[usize::from(token) % QUEUE].replace(buffer)
            }
            Err(_) => Some(buffer),
        }
    }

    /// Takes back one that the card has done with, and how many bytes it has put there.
    fn take(&mut self) -> Option<(&'static mut [u8], usize)> {
        let token = self.ring.peek_used()?;
        let buffer = self.buffers[usize::from(token) % QUEUE].take()?;
        // SAFETY: the one that was added for this token. The buffers of this machine's cards are reached where they are, so
        // that their lengths and directions are of no matter here.
        let len = unsafe { self.ring.pop_used(token, &[], &mut [&mut *buffer]) }.unwrap_or(0);
        Some((buffer, len as usize))
    }

    fn tell(&mut self, transport: &mut SomeTransport<'static>) {
        if core::mem::take(&mut self.is_new) && self.ring.should_notify() {
            transport.notify(self.number);
        }
    }
}

impl Card {
    /// Sets the card up, if there is one.
    ///
    /// # Errors
    /// When there is none, or it does not do what it should.
    pub fn find(boot: &Boot) -> Result<Card> {
        let found = virtio::find(boot, DeviceType::Network);
        let found = found.context("this machine has no network card that is known (virtio)")?;
        let (mut transport, interrupts) = (found.transport, found.interrupts);
        let features = transport.begin_init(Features::all());
        let mut address = [0; 6];
        for (at, byte) in address.iter_mut().enumerate() {
            *byte = transport.read_config_space(at).ok().context("the network card has no address")?;
        }
        let header = HEADERS[usize::from(features.contains(Features::VERSION_1))];
        [COMING, GOING].into_iter().for_each(|queue| interrupts.route(queue));
        let queues = (Queue::new(&mut transport, COMING), Queue::new(&mut transport, GOING));
        let (Some(coming), Some(mut going)) = queues else { anyhow::bail!("the network card has no queues") };
        transport.finish_init();
        // Whoever wants to send looks for what was sent.
        going.ring.set_dev_notify(false);
        let pages = (QUEUE * BUFFER).div_ceil(PAGE as usize);
        let buffers = || -> Result<Vec<&'static mut [u8]>> {
            let memory = virtio::memory(pages).context("there is no memory for packets")?;
            // SAFETY: it was given out this moment, for good.
            let all = unsafe { core::slice::from_raw_parts_mut(memory.address as *mut u8, QUEUE * BUFFER) };
            Ok(all.chunks_exact_mut(BUFFER).collect())
        };
        let (to_fill, free) = (buffers()?, buffers()?);
        let mut inner = Inner { transport, interrupts, address, header, coming, going, free };
        for buffer in to_fill {
            inner.coming.give(buffer, None);
        }
        Ok(Card(RefCell::new(inner)))
    }

    /// Its address.
    pub fn address(&self) -> [u8; 6] {
        self.0.borrow().address
    }

    /// Has the card interrupt when there is something to do: the word goes up then. `false` if it cannot, and has to be
    /// looked at again and again.
    pub fn listen(&self, word: &'static AtomicU32) -> bool {
        let mut inner = self.0.borrow_mut();
        inner.transport.ack_interrupt();
        inner.interrupts.line.is_some_and(|line| sys::listen(line, word).is_ok())
    }

    /// Tells the card what it has been given. To be called after the stack was at work. Gives whether the stack can go on
    /// at once if it has more to send.
    pub fn tell(&self) -> bool {
        let inner = &mut *self.0.borrow_mut();
        inner.coming.tell(&mut inner.transport);
        inner.going.tell(&mut inner.transport);
        inner.can_send()
    }
}

impl Inner {
    /// Whether there is a buffer to send in; if not, the card interrupts when there is one.
    fn can_send(&mut self) -> bool {
        if self.free.is_empty() {
            // In this order: what is done after the look is told.
            self.going.ring.set_dev_notify(true);
            while let Some((buffer, _)) = self.going.take() {
                self.free.push(buffer);
            }
        }
        let can = !self.free.is_empty();
        if can {
            self.going.ring.set_dev_notify(false);
        }
        can
    }
}

/// A packet that has come.
pub struct Come<'c> {
    card: &'c RefCell<Inner>,
    buffer: &'static mut [u8],
    packet: core::ops::Range<usize>,
}

/// Leave to send one.
pub struct Go<'c>(&'c RefCell<Inner>);

impl phy::Device for Card {
    type RxToken<'a> = Come<'a>;
    type TxToken<'a> = Go<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Come<'_>, Go<'_>)> {
        let mut inner = self.0.borrow_mut();
        if !inner.can_send() {
            return None;
        }
        let (buffer, len) = inner.coming.take()?;
        let (from, to) = (inner.header, len.clamp(inner.header, BUFFER));
        drop(inner);
        Some((Come { card: &self.0, buffer, packet: from..to }, Go(&self.0)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Go<'_>> {
        let can_send = self.0.borrow_mut().can_send();
        can_send.then_some(Go(&self.0))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = PACKET;
        capabilities.max_burst_size = Some(QUEUE);
        capabilities
    }
}

impl phy::RxToken for Come<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, work: F) -> R {
        let done = work(&self.buffer[self.packet]);
        self.card.borrow_mut().coming.give(self.buffer, None);
        done
    }
}

impl phy::TxToken for Go<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, work: F) -> R {
        let inner = &mut *self.0.borrow_mut();
        // There was one when this was given out, and nobody has sent since.
        let Some(buffer) = inner.free.pop() else { return work(&mut alloc::vec![0; len]) };
        let end = inner.header + len;
        // Nothing is left to the card to compute.
        buffer[..inner.header].fill(0);
        let done = work(&mut buffer[inner.header..end]);
        inner.free.extend(inner.going.give(buffer, Some(end)));
        done
    }
}
