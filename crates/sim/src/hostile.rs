//! A man in the middle who sees records go by, lengths and all, and does what he likes with them.

use std::collections::{BTreeMap, VecDeque};

/// What is done to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tamper {
    /// It never arrives.
    Drop,
    /// It arrives twice.
    Duplicate,
    /// It arrives after so many that follow it, or never.
    Delay(u32),
    /// A bit of it is another; its place is taken modulo the record's length, length field included.
    Corrupt(u32),
    /// Its end is missing, and its length says so.
    Truncate,
    /// A record of noise comes before it.
    Inject,
}

/// Cuts a stream of bytes into records and changes some of them.
#[derive(Default)]
pub struct Meddler {
    /// What to do with which record, counted from 0 over all connections in this direction.
    pub plan: BTreeMap<u64, Tamper>,
    seen: u64,
    partial: Vec<u8>,
    held: VecDeque<(u32, Vec<u8>)>,
}

impl Meddler {
    /// A new connection: bytes of the old one do not go on in it.
    pub fn begin(&mut self) {
        self.partial.clear();
        self.held.clear();
    }

    /// How many records went by.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// What comes out for what goes in.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.plan.is_empty() && self.held.is_empty() && self.partial.is_empty() {
            self.seen += count(bytes);
            return bytes.to_vec();
        }
        self.partial.extend_from_slice(bytes);
        let mut out = Vec::new();
        while let Some(len) = whole(&self.partial) {
            let record: Vec<u8> = self.partial.drain(..len).collect();
            let tamper = self.plan.remove(&self.seen);
            self.seen += 1;
            match tamper {
                None => out.extend_from_slice(&record),
                Some(Tamper::Drop) => {}
                Some(Tamper::Duplicate) => out.extend([&record[..], &record].concat()),
                Some(Tamper::Delay(by)) => self.held.push_back((by, record)),
                Some(Tamper::Corrupt(at)) => {
                    let mut record = record;
                    let at = at as usize % (record.len() * 8);
                    record[at / 8] ^= 1 << (at % 8);
                    out.extend(record);
                }
                Some(Tamper::Truncate) => {
                    let len = (record.len() - 2) / 2;
                    out.extend((len as u16).to_be_bytes());
                    out.extend_from_slice(&record[2..2 + len]);
                }
                Some(Tamper::Inject) => {
                    out.extend([0, 40]);
                    out.extend([0x5a; 40]);
                    out.extend(record);
                }
            }
            if !matches!(tamper, Some(Tamper::Delay(_))) {
                self.held.iter_mut().for_each(|(left, _)| *left = left.saturating_sub(1));
                while self.held.front().is_some_and(|(left, _)| *left == 0) {
                    out.extend(self.held.pop_front().map(|(_, record)| record).unwrap_or_default());
                }
            }
        }
        out
    }
}

/// Length of the record at the beginning, if all of it is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let len = 2 + usize::from(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]));
    (bytes.len() >= len).then_some(len)
}

fn count(mut bytes: &[u8]) -> u64 {
    let mut n = 0;
    while let Some(len) = whole(bytes) {
        bytes = &bytes[len..];
        n += 1;
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_changed_as_planned_and_others_are_not() {
        let record = |n: u8| [0, 3, n, n, n];
        let wire: Vec<u8> = (0..6).flat_map(record).collect();
        for (tamper, expect) in [
            (Tamper::Drop, vec![0, 2, 3, 4, 5]),
            (Tamper::Duplicate, vec![0, 1, 1, 2, 3, 4, 5]),
            (Tamper::Delay(1), vec![0, 2, 1, 3, 4, 5]),
            (Tamper::Delay(3), vec![0, 2, 3, 4, 1, 5]),
        ] {
            let mut meddler = Meddler { plan: BTreeMap::from([(1, tamper)]), ..Meddler::default() };
            let out: Vec<u8> = wire.chunks(7).flat_map(|part| meddler.pass(part)).collect();
            assert_eq!(out, expect.into_iter().flat_map(record).collect::<Vec<_>>(), "{tamper:?}");
            assert_eq!(meddler.seen(), 6);
        }
    }
}
