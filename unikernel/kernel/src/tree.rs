//! What a board tells of itself: the device tree that its boot loader hands over. It is read before memory is given out,
//! which it lies in.

use crate::{Found, frames, report};
use core::ops::Range;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node as _, Property as _};
use wayfare_unikernel_abi::PAGE;

/// A device tree.
pub struct Tree(Fdt<'static>);

/// A part of the machine.
#[derive(Clone, Copy)]
pub struct Node {
    node: FdtNode<'static>,
    /// The bus that it is on.
    bus: Bus,
}

/// How addresses of a bus are ones of the processor's: as they are, or by windows (what `ranges` says).
#[derive(Clone, Copy)]
struct Bus {
    windows: [Window; WINDOWS_MOST],
    /// How many there are, unless addresses are as they are.
    len: Option<usize>,
}

/// An address of the bus, one of the processor's, and how far they are the same.
#[derive(Clone, Copy)]
struct Window {
    bus: u64,
    processor: u64,
    len: u64,
}

/// Windows that a bus has at most; the others are not seen.
const WINDOWS_MOST: usize = 8;

/// What a device tree begins with.
const MAGIC: u32 = 0xd00d_feed;

impl Tree {
    /// The one that lies at an address, if there is one.
    ///
    /// # Safety
    /// The address can be read, and so can what a device tree there says is its size.
    pub unsafe fn at(address: u64) -> Option<Tree> {
        let start = address as *const u8;
        // SAFETY: as the caller says.
        if address == 0 || unsafe { start.cast::<[u8; 4]>().read() } != MAGIC.to_be_bytes() {
            return None;
        }
        // SAFETY: as above. That it is sound is looked at first.
        unsafe { Fdt::from_raw(start) }.ok().map(Tree)
    }

    fn root(&self) -> Node {
        Node { node: self.0.root(), bus: Bus::SAME }
    }

    /// The node at a path.
    pub fn find(&self, path: &str) -> Option<Node> {
        let is_called = |node: &Node, name: &str| node.node.name() == name || node.node.name_without_address() == name;
        let mut names = path.split('/').filter(|name| !name.is_empty());
        names.try_fold(self.root(), |node, name| node.children().find(|child| is_called(child, name)))
    }

    /// Calls for each node that is compatible with this, and not disabled.
    pub fn each(&self, compatible: &str, found: &mut dyn FnMut(Node)) {
        visit(self.root(), compatible, found);
    }

    /// The first one that is compatible with one of these.
    pub fn first(&self, compatible: &[&str]) -> Option<Node> {
        let mut first = None;
        compatible.iter().for_each(|name| self.each(name, &mut |node| _ = first.get_or_insert(node)));
        first
    }

    /// The node that others name by this number.
    pub fn by_handle(&self, handle: u32) -> Option<Node> {
        by_handle(self.root(), handle)
    }

    /// Gives out all memory but what is used, of which the last page is for reports, and what is somebody else's; says what
    /// that was.
    pub fn give_out(&self, used: Range<u64>) -> Ranges {
        let (mut kept, mut left) = (Ranges::new(), Ranges::new());
        let last = used.end - PAGE..used.end;
        kept.push(used);
        // At address 0 nothing can be that Rust points to.
        kept.push(0..PAGE);
        self.reserved(&mut |range| kept.push(range));
        let is_reserved = kept.all()[1..].iter().any(|kept| kept.start < last.end && last.start < kept.end);
        self.memory(&mut |range| {
            if !is_reserved && range.start <= last.start && last.end <= range.end {
                report::has_page();
            }
            cut(range, kept.all(), &mut left);
        });
        frames::init(left.all().iter().map(|range| range.start).min().unwrap_or(0));
        left.all().iter().for_each(|range| frames::add(range.start, range.end));
        left
    }

    /// Calls for each range of memory.
    fn memory(&self, found: &mut dyn FnMut(Range<u64>)) {
        let is_memory = |node: &Node| node.node.name_without_address() == "memory";
        self.root().children().filter(is_memory).for_each(|node| node.each_range(found));
    }

    /// Calls for each range of memory that is somebody else's.
    fn reserved(&self, found: &mut dyn FnMut(Range<u64>)) {
        for reservation in self.0.memory_reservations() {
            found(range(reservation.address(), reservation.size()));
        }
        self.find("/reserved-memory").into_iter().flat_map(Node::children).for_each(|node| node.each_range(found));
    }

    /// What the firmware speaks on, if it says so.
    #[cfg(target_arch = "aarch64")]
    pub fn console(&self) -> Option<Node> {
        let path = self.find("/chosen")?.text("stdout-path")?.split(':').next()?;
        match path.starts_with('/') {
            true => self.find(path),
            false => self.find(self.find("/aliases")?.text(path)?),
        }
    }

    /// Keeps the command line.
    pub fn command_line(&self, found: &mut Found) {
        if let Some(text) = self.find("/chosen").and_then(|chosen| chosen.text("bootargs")) {
            found.set_command_line(text.as_bytes());
        }
    }
}

/// Most ranges of memory that are somebody else's, and most that are left between them.
const RANGES_MOST: usize = 16;

/// Ranges of memory.
pub struct Ranges {
    all: [Range<u64>; RANGES_MOST],
    len: usize,
}

impl Ranges {
    fn new() -> Ranges {
        Ranges { all: [const { 0..0 }; RANGES_MOST], len: 0 }
    }

    fn push(&mut self, range: Range<u64>) {
        assert!(self.len < RANGES_MOST, "memory has more parts than are kept track of");
        self.all[self.len] = range;
        self.len += 1;
    }

    /// All of them.
    pub fn all(&self) -> &[Range<u64>] {
        &self.all[..self.len]
    }
}

/// What is left of a range without those that are kept.
fn cut(range: Range<u64>, kept: &[Range<u64>], left: &mut Ranges) {
    match kept.split_first() {
        _ if range.is_empty() => {}
        Some((first, rest)) => {
            cut(range.start..range.end.min(first.start), rest, left);
            cut(range.start.max(first.end)..range.end, rest, left);
        }
        None => left.push(range),
    }
}

fn range(from: u64, len: u64) -> Range<u64> {
    from..from.saturating_add(len)
}

fn visit(node: Node, compatible: &str, found: &mut dyn FnMut(Node)) {
    if node.text("status").is_some_and(|status| status == "disabled") {
        return;
    }
    if node.is(compatible) {
        found(node);
    }
    node.children().for_each(|child| visit(child, compatible, found));
}

fn by_handle(node: Node, handle: u32) -> Option<Node> {
    if node.number("phandle", 0) == Some(handle) {
        return Some(node);
    }
    node.children().find_map(|child| by_handle(child, handle))
}

impl Bus {
    /// One whose addresses are the processor's.
    const SAME: Bus = Bus { windows: [const { Window { bus: 0, processor: 0, len: 0 } }; WINDOWS_MOST], len: None };

    fn push(&mut self, window: Option<Window>) {
        let (Some(window), Some(len)) = (window, &mut self.len) else { return };
        if let Some(place) = self.windows.get_mut(*len) {
            *place = window;
            *len += 1;
        }
    }

    /// An address of this bus, as the processor has it.
    fn processor(&self, at: u64) -> Option<u64> {
        let Some(len) = self.len else { return Some(at) };
        let is_inside = |window: &&Window| at.checked_sub(window.bus).is_some_and(|inside| inside < window.len);
        let window = self.windows[..len].iter().find(is_inside)?;
        window.processor.checked_add(at - window.bus)
    }
}

impl Node {
    /// The parts that it has.
    pub fn children(self) -> impl Iterator<Item = Node> {
        let bus = self.below();
        self.node.children().map(move |node| Node { node, bus })
    }

    /// The bus that these are on.
    fn below(self) -> Bus {
        let mut below = Bus { len: Some(0), ..Bus::SAME };
        if self.bytes("ranges").is_empty() {
            return self.bus;
        }
        for row in self.node.ranges().ok().flatten().into_iter().flatten() {
            let (bus, above) = (row.child_bus_address(), row.parent_bus_address());
            let (Ok(bus), Ok(above), Ok(len)) = (bus, above, row.length()) else { continue };
            below.push(self.bus.processor(above).map(|processor| Window { bus, processor, len }));
        }
        below
    }

    /// Whether it is compatible with this.
    pub fn is(self, compatible: &str) -> bool {
        self.node.compatible().is_some_and(|mut names| names.any(|name| name == compatible))
    }

    fn each_range(self, found: &mut dyn FnMut(Range<u64>)) {
        let all = self.node.reg().ok().flatten().into_iter().flatten();
        for registers in all {
            let (Ok(from), Ok(len)) = (registers.address(), registers.size()) else { continue };
            if let Some(from) = self.bus.processor(from) {
                found(range(from, len));
            }
        }
    }

    /// Its registers: of the ranges that it has, this one.
    pub fn registers(self, index: usize) -> Option<Range<u64>> {
        let (mut number, mut chosen) = (0, None);
        self.each_range(&mut |range| {
            if number == index {
                chosen = Some(range);
            }
            number += 1;
        });
        chosen
    }

    /// A property that is text.
    pub fn text(self, name: &str) -> Option<&'static str> {
        self.node.property(name)?.value_as().ok()
    }

    /// A property as it is; of none if there is none.
    pub fn bytes(self, name: &str) -> &'static [u8] {
        self.node.property(name).and_then(|property| property.value_as().ok()).unwrap_or_default()
    }

    /// One of a property's numbers.
    pub fn number(self, name: &str, index: usize) -> Option<u32> {
        self.bytes(name).get(4 * index..4 * index + 4)?.try_into().ok().map(u32::from_be_bytes)
    }
}
