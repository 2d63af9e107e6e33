//! The network card: packets in buffers that stay with it, so that nothing waits for one to be sent.

use crate::sys;
use crate::virtio::{self, Machine};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::sync::atomic::AtomicU32;
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use virtio_drivers::device::net::VirtIONetRaw;
use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::mmio::MmioTransport;
use wayfare_unikernel_abi::{Boot, PAGE};

/// Packets under way in each direction.
const QUEUE: usize = 64;
/// Of a buffer: a header, and a packet of the largest size.
const BUFFER: usize = 2048;
/// What a packet may have, from its addresses on.
const PACKET: usize = 1514;

/// A card.
pub struct Card(RefCell<Inner>);

struct Inner {
    raw: VirtIONetRaw<Machine, MmioTransport<'static>, QUEUE>,
    line: usize,
    /// By token: the buffer that the card has for it.
    coming: [Option<&'static mut [u8]>; QUEUE],
    going: [Option<&'static mut [u8]>; QUEUE],
    /// To be sent in.
    free: Vec<&'static mut [u8]>,
}

impl Card {
    /// Sets the card up, if there is one.
    pub fn find(boot: &Boot) -> Option<Card> {
        let (transport, line) = virtio::find(boot, DeviceType::Network)?;
        let raw = VirtIONetRaw::new(transport).ok()?;
        let pages = (QUEUE * BUFFER).div_ceil(PAGE as usize);
        let buffers = || -> Option<Vec<&'static mut [u8]>> {
            let memory = virtio::memory(pages)?;
            // SAFETY: it was given out this moment, for good.
            let all = unsafe { core::slice::from_raw_parts_mut(memory.address as *mut u8, QUEUE * BUFFER) };
            Some(all.chunks_exact_mut(BUFFER).collect())
        };
        let (coming, free) = (buffers()?, buffers()?);
        let mut inner = Inner { raw, line, coming: [const { None }; QUEUE], going: [const { None }; QUEUE], free };
        coming.into_iter().for_each(|buffer| inner.offer(buffer));
        Some(Card(RefCell::new(inner)))
    }

    /// Its address.
    pub fn address(&self) -> [u8; 6] {
        self.0.borrow().raw.mac_address()
    }

    /// Has the card interrupt when there is something to do: the word goes up then.
    pub fn listen(&self, word: &'static AtomicU32) {
        let mut inner = self.0.borrow_mut();
        inner.raw.ack_interrupt();
        // Without it there are only the times at which the stack wants to be called.
        let _ = sys::listen(inner.line, word);
    }
}

impl Inner {
    /// Has the card fill a buffer.
    fn offer(&mut self, buffer: &'static mut [u8]) {
        // SAFETY: the buffer lies in `coming`, untouched, until the card has filled it.
        if let Ok(token) = unsafe { self.raw.receive_begin(buffer) } {
            self.coming[usize::from(token) % QUEUE] = Some(buffer);
        }
    }

    /// Takes back what was sent.
    fn collect(&mut self) {
        while let Some(token) = self.raw.poll_transmit() {
            let Some(buffer) = self.going[usize::from(token) % QUEUE].take() else { return };
            // SAFETY: the one that `transmit_begin` was given for this token. Its length is of no matter here.
            let _ = unsafe { self.raw.transmit_complete(token, buffer) };
            self.free.push(buffer);
        }
    }
}

/// A packet that has come.
pub struct Come<'c> {
    card: &'c RefCell<Inner>,
    buffer: &'static mut [u8],
    from: usize,
    len: usize,
}

/// Leave to send one.
pub struct Go<'c>(&'c RefCell<Inner>);

impl phy::Device for Card {
    type RxToken<'a> = Come<'a>;
    type TxToken<'a> = Go<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Come<'_>, Go<'_>)> {
        let mut inner = self.0.borrow_mut();
        inner.collect();
        if inner.free.is_empty() {
            return None;
        }
        let token = inner.raw.poll_receive()?;
        let buffer = inner.coming[usize::from(token) % QUEUE].take()?;
        // SAFETY: the one that `receive_begin` was given for this token.
        let (from, len) = unsafe { inner.raw.receive_complete(token, buffer) }.unwrap_or((0, 0));
        drop(inner);
        let len = len.min(BUFFER - from.min(BUFFER));
        Some((Come { card: &self.0, buffer, from, len }, Go(&self.0)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Go<'_>> {
        let mut inner = self.0.borrow_mut();
        inner.collect();
        let can = !inner.free.is_empty();
        drop(inner);
        can.then_some(Go(&self.0))
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
        let done = work(&self.buffer[self.from..self.from + self.len]);
        self.card.borrow_mut().offer(self.buffer);
        done
    }
}

impl phy::TxToken for Go<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, work: F) -> R {
        let mut inner = self.0.borrow_mut();
        // There was one when this was given out, and nobody has sent since.
        let Some(buffer) = inner.free.pop() else { return work(&mut alloc::vec![0; len]) };
        let from = inner.raw.fill_buffer_header(buffer).unwrap_or(0);
        let done = work(&mut buffer[from..from + len]);
        // SAFETY: the buffer lies in `going`, untouched, until the card has sent it.
        match unsafe { inner.raw.transmit_begin(&buffer[..from + len]) } {
            Ok(token) => inner.going[usize::from(token) % QUEUE] = Some(buffer),
            Err(_) => inner.free.push(buffer),
        }
        done
    }
}
