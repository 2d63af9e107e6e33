//! All sockets of one task: a [`TaskEnd`] for each port that it has published, and which of them a stream belongs to. What
//! a task's host is asked about listeners and connections, it asks here.

use crate::{DecodeError, Mark, Overrun, Segment, StreamError, TaskEnd};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// Most connections to one port.
pub const STREAMS: usize = 4096;
/// Bits of a stream's identity that say which port it came by.
const PORT_BITS: u32 = 8;
/// Most ports of one task; what a node lets one have (`Spec::check`) is less.
const PORTS_MAX: usize = 1 << PORT_BITS;

type Result<T> = core::result::Result<T, StreamError>;

/// The identity of the `n`-th stream of the port with this index.
pub fn identity(index: usize, n: u64) -> u64 {
    n << PORT_BITS | index as u64
}

fn index_of(stream: u64) -> usize {
    (stream & (PORTS_MAX as u64 - 1)) as usize
}

/// The name by which a program's listener for a port is known.
pub fn listener(port: u16) -> String {
    format!("tcp:{port}")
}

/// A segment with its port's index, as it goes over a link.
pub fn frame(index: usize, segment: &Segment) -> Vec<u8> {
    let mut bytes = alloc::vec![index as u8];
    bytes.extend(segment.encode());
    bytes
}

/// Reads one.
///
/// # Errors
/// When it is none.
pub fn unframe(bytes: &[u8]) -> core::result::Result<(usize, Segment), DecodeError> {
    let (index, segment) = bytes.split_first().ok_or(DecodeError::Truncated)?;
    Ok((usize::from(*index), Segment::decode(segment)?))
}

/// See the module.
#[derive(Debug, Default)]
pub struct Ports {
    ports: Vec<u16>,
    ends: Vec<TaskEnd>,
    /// Streams that did not survive: a crash, say.
    lost: BTreeSet<u64>,
    forgiving: bool,
}

impl Ports {
    /// Of a task that starts, or comes back from an older state.
    pub fn new(ports: &[u16]) -> Ports {
        Ports::with(ports, ports.iter().map(|_| TaskEnd::new(STREAMS)).collect())
    }

    /// Of a task that comes, with what [`Ports::freeze`] gave.
    ///
    /// # Errors
    /// When that is damaged, or another task's.
    pub fn thaw(ports: &[u16], states: &[Vec<u8>]) -> core::result::Result<Ports, DecodeError> {
        match states.len().cmp(&ports.len()) {
            Ordering::Less => return Err(DecodeError::Truncated),
            Ordering::Greater => return Err(DecodeError::Leftover),
            Ordering::Equal => {}
        }
        let ends = states.iter().map(|state| TaskEnd::thaw(state, STREAMS)).collect::<core::result::Result<_, _>>()?;
        Ok(Ports::with(ports, ends))
    }

    /// The same, of a task that takes over from an older state ([`TaskEnd::thaw_behind`]).
    ///
    /// # Errors
    /// As [`Ports::thaw`].
    pub fn thaw_behind(ports: &[u16], states: &[Vec<u8>]) -> core::result::Result<Ports, DecodeError> {
        let mut thawed = Ports::thaw(ports, states)?;
        for (end, state) in thawed.ends.iter_mut().zip(states) {
            *end = TaskEnd::thaw_behind(state, STREAMS)?;
        }
        Ok(thawed)
    }

    /// These, frozen, as those of a task that goes on from an older state than its clients know of.
    ///
    /// # Errors
    /// As [`Ports::thaw`].
    pub fn behind(&self, states: &[Vec<u8>]) -> core::result::Result<Ports, DecodeError> {
        Ports::thaw_behind(&self.ports, states)
    }

    /// The task gets a standby ([`TaskEnd::keep`]).
    pub fn keep(&mut self) {
        self.ends.iter_mut().for_each(TaskEnd::keep);
    }

    /// It has none any more.
    pub fn keep_nothing(&mut self) {
        self.ends.iter_mut().for_each(TaskEnd::keep_nothing);
    }

    /// The ingress has let go of what comes before these, by port.
    pub fn released(&mut self, marks: &[Mark]) {
        self.ends.iter_mut().zip(marks).for_each(|(end, mark)| end.released(mark));
    }

    fn with(ports: &[u16], ends: Vec<TaskEnd>) -> Ports {
        Ports { ports: ports.into(), ends, lost: BTreeSet::new(), forgiving: false }
    }

    /// Takes streams that are not known for such as have been reset: the task was brought back from an older state.
    pub fn forgive(&mut self) {
        self.forgiving = true;
    }

    /// What goes along with the task, which stands still; by port.
    pub fn freeze(&self) -> Vec<Vec<u8>> {
        self.ends.iter().map(TaskEnd::freeze).collect()
    }

    /// The task has ended: clients get what it has sent, and then the end.
    pub fn close_all(&mut self) {
        self.ends.iter_mut().for_each(TaskEnd::close_all);
    }

    /// Whether nothing is left to be said.
    pub fn is_empty(&self) -> bool {
        self.ends.iter().all(TaskEnd::is_empty)
    }

    /// There is a fresh channel.
    pub fn attached(&mut self) {
        self.ends.iter_mut().for_each(TaskEnd::attached);
    }

    /// The channel has gone.
    pub fn detached(&mut self) {
        self.ends.iter_mut().for_each(TaskEnd::detached);
    }

    /// The next segment for the ingress, with the index of its port.
    pub fn poll_transmit(&mut self) -> Option<(usize, Segment)> {
        self.ends.iter_mut().enumerate().find_map(|(i, end)| end.poll_transmit().map(|segment| (i, segment)))
    }

    /// Takes a segment of the ingress.
    ///
    /// # Errors
    /// When it is for a port that the task does not have, or says too much: the channel is to be dropped.
    pub fn handle(&mut self, index: usize, segment: Segment) -> core::result::Result<(), Overrun> {
        self.ends.get_mut(index).ok_or(Overrun)?.handle(segment)
    }

    /// The number of the listener that is known by a name.
    pub fn listener(&self, name: &str) -> Option<u64> {
        self.ports.iter().position(|port| listener(*port) == name).map(|i| i as u64)
    }

    /// The next connection of a listener.
    ///
    /// # Errors
    /// [`StreamError::WouldBlock`], [`StreamError::Unknown`].
    pub fn accept(&mut self, listener: u64) -> Result<u64> {
        let end = self.ends.get_mut(listener as usize).ok_or(StreamError::Unknown)?;
        end.accept().ok_or(StreamError::WouldBlock)
    }

    /// A task that has come says that it has this stream.
    ///
    /// # Errors
    /// [`StreamError::Unknown`].
    pub fn attach(&mut self, stream: u64) -> Result<()> {
        if self.ends.get(index_of(stream)).is_some_and(|end| end.holds(stream)) {
            return Ok(());
        }
        if !self.forgiving {
            return Err(StreamError::Unknown);
        }
        self.lost.insert(stream);
        Ok(())
    }

    /// The end that has a stream.
    ///
    /// # Errors
    /// [`StreamError::Reset`] for one that is lost, [`StreamError::Unknown`].
    pub fn end(&mut self, stream: u64) -> Result<&mut TaskEnd> {
        if self.lost.contains(&stream) {
            return Err(StreamError::Reset);
        }
        self.ends.get_mut(index_of(stream)).ok_or(StreamError::Unknown)
    }

    /// The guest closes a stream.
    pub fn close(&mut self, stream: u64) {
        if !self.lost.remove(&stream)
            && let Ok(end) = self.end(stream)
        {
            end.close(stream);
        }
    }

    /// The guest closes a listener.
    pub fn close_listener(&mut self, listener: u64) {
        if let Some(end) = self.ends.get_mut(listener as usize) {
            end.stop_listening();
        }
    }

    /// Whether reading from a stream would answer at once.
    pub fn is_readable(&mut self, stream: u64) -> bool {
        self.end(stream).map_or(true, |end| end.is_readable(stream))
    }

    /// Whether writing to a stream would answer at once.
    pub fn is_writable(&mut self, stream: u64) -> bool {
        self.end(stream).map_or(true, |end| end.is_writable(stream))
    }

    /// Whether a listener has a connection.
    pub fn can_accept(&self, listener: u64) -> bool {
        self.ends.get(listener as usize).is_some_and(TaskEnd::can_accept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_found_by_the_port_they_came_by_and_lost_ones_are_reset() {
        let mut ports = Ports::new(&[80, 443]);
        assert_eq!((ports.listener("tcp:443"), ports.listener("tcp:1")), (Some(1), None));
        let id = identity(1, 3);
        ports.attached();
        ports.handle(1, Segment::Open { stream: id, peer: "192.0.2.1:40000".into() }).unwrap();
        assert_eq!(ports.handle(2, Segment::Reset { stream: id }), Err(Overrun));
        assert!(ports.can_accept(1) && !ports.can_accept(0) && !ports.can_accept(9));
        assert_eq!((ports.accept(1), ports.accept(0)), (Ok(id), Err(StreamError::WouldBlock)));
        let states = ports.freeze();
        assert!(Ports::thaw(&[80], &states).is_err());
        let mut there = Ports::thaw(&[80, 443], &states).unwrap();
        assert_eq!((there.attach(id), there.attach(identity(0, 3))), (Ok(()), Err(StreamError::Unknown)));

        let mut older = Ports::new(&[80, 443]);
        older.forgive();
        older.attach(id).unwrap();
        assert!(older.is_readable(id) && older.is_writable(id));
        assert_eq!(older.end(id).err(), Some(StreamError::Reset));
        older.close(id);
        assert_eq!(older.end(id).unwrap().recv(id, &mut [0], false), Err(StreamError::Unknown));
    }

    #[test]
    fn a_segment_goes_over_a_link_with_its_port() {
        let segment = Segment::Reset { stream: 9 };
        assert_eq!(unframe(&frame(7, &segment)).unwrap(), (7, segment));
        assert!(unframe(&[]).is_err() && unframe(&[7, 0xff]).is_err());
    }
}
