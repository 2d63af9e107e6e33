//! What a board tells of itself: the device tree that its boot loader hands over. It is read before memory is given out,
//! which it lies in.

use crate::{Found, frames};
use core::ops::Range;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node as _, Property as _};

/// A device tree.
pub struct Tree(Fdt<'static>);

/// A part of the machine.
#[derive(Clone, Copy)]
pub struct Node(FdtNode<'static>);

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

    /// The node at a path.
    pub fn find(&self, path: &str) -> Option<Node> {
        self.0.find_node(path).map(Node)
    }

    /// Calls for each node that is compatible with this, and not disabled.
    pub fn each(&self, compatible: &str, found: &mut dyn FnMut(Node)) {
        visit(self.0.root(), compatible, found);
    }

    /// The first one that is compatible with one of these.
    pub fn first(&self, compatible: &[&str]) -> Option<Node> {
        let mut first = None;
        compatible.iter().for_each(|name| self.each(name, &mut |node| _ = first.get_or_insert(node)));
        first
    }

    /// Gives out all memory but what is used and what is somebody else's; says what that was.
    pub fn give_out(&self, used: Range<u64>) -> Ranges {
        let (mut kept, mut left) = (Ranges::new(), Ranges::new());
        kept.push(used);
        self.reserved(&mut |range| kept.push(range));
        self.memory(&mut |range| cut(range, kept.all(), &mut left));
        frames::init(left.all().iter().map(|range| range.start).min().unwrap_or(0));
        left.all().iter().for_each(|range| frames::add(range.start, range.end));
        left
    }

    /// Calls for each range of memory.
    fn memory(&self, found: &mut dyn FnMut(Range<u64>)) {
        let is_memory = |node: &Node| node.0.name_without_address() == "memory";
        Node(self.0.root()).children().filter(is_memory).for_each(|node| node.each_range(found));
    }

    /// Calls for each range of memory that is somebody else's.
    fn reserved(&self, found: &mut dyn FnMut(Range<u64>)) {
        for reservation in self.0.memory_reservations() {
            found(range(reservation.address(), reservation.size()));
        }
        self.find("/reserved-memory").into_iter().flat_map(Node::children).for_each(|node| node.each_range(found));
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

fn visit(node: FdtNode<'static>, compatible: &str, found: &mut dyn FnMut(Node)) {
    if Node(node).text("status").is_some_and(|status| status == "disabled") {
        return;
    }
    if node.compatible().is_some_and(|mut names| names.any(|name| name == compatible)) {
        found(Node(node));
    }
    node.children().for_each(|child| visit(child, compatible, found));
}

impl Node {
    /// The parts that it has.
    pub fn children(self) -> impl Iterator<Item = Node> {
        self.0.children().map(Node)
    }

    fn each_range(self, found: &mut dyn FnMut(Range<u64>)) {
        let all = self.0.reg().ok().flatten().into_iter().flatten();
        for registers in all {
            if let (Ok(from), Ok(len)) = (registers.address(), registers.size()) {
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
        self.0.property(name)?.value_as().ok()
    }

    /// One of a property's numbers.
    pub fn number(self, name: &str, index: usize) -> Option<u32> {
        let property = self.0.property(name)?;
        property.value().get(4 * index..4 * index + 4)?.try_into().ok().map(u32::from_be_bytes)
    }
}
