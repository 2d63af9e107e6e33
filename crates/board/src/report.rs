//! What a kernel leaves behind when it resets a machine that has failed, for the one that boots next: why. It lies in memory
//! that a reset does not clear and that no boot loader writes to, and so may be anything: it is believed only if its checksum
//! is right.
//!
//! ```text
//! magic u64 | checksum u32 | part u32 | times u32 | length of the text u32 | text
//! ```

use core::fmt;
use crc::{CRC_32_ISO_HDLC, Crc, Table};

const MAGIC: [u8; 8] = *b"WAYFAIL\x01";
/// What the checksum is of begins here.
const CHECKED: usize = 12;
const HEAD: usize = 24;
/// Longest text, bytes.
pub const TEXT_MAX: usize = 1024;
/// Longest report, bytes.
pub const REPORT_MAX: usize = HEAD + TEXT_MAX;
/// It is computed once in a while: no table.
const CHECKSUM: Crc<u32, Table<0>> = Crc::<u32, Table<0>>::new(&CRC_32_ISO_HDLC);

/// Which part of a machine has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Part {
    /// The unprivileged program, in which the agent is.
    Agent = 1,
    /// The kernel.
    Kernel = 2,
    /// None that knew it: the agent was not heard of any more.
    Watchdog = 3,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report<'t> {
    /// Which part has failed.
    pub part: Part,
    /// How many times in a row the machine has.
    pub times: u32,
    /// How, for people.
    pub text: &'t str,
}

impl<'t> Report<'t> {
    /// Writes it down; gives how long it is. What there is no room for of the text is left out.
    pub fn write(&self, place: &mut [u8; REPORT_MAX]) -> usize {
        let text = &self.text.as_bytes()[..self.text.floor_char_boundary(TEXT_MAX)];
        let len = HEAD + text.len();
        place[..8].copy_from_slice(&MAGIC);
        for (at, value) in [(12, self.part as u32), (16, self.times), (20, text.len() as u32)] {
            place[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        place[HEAD..len].copy_from_slice(text);
        let checksum = CHECKSUM.checksum(&place[CHECKED..len]);
        place[8..CHECKED].copy_from_slice(&checksum.to_le_bytes());
        len
    }

    /// Reads one, and whatever lies behind it; `None` if there is none.
    pub fn read(bytes: &'t [u8]) -> Option<Report<'t>> {
        let number = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let len = usize::try_from(number(20)?).ok().filter(|len| *len <= TEXT_MAX)?;
        let checked = bytes.get(CHECKED..HEAD + len)?;
        if !bytes.starts_with(&MAGIC) || CHECKSUM.checksum(checked) != number(8)? {
            return None;
        }
        let part = [Part::Agent, Part::Kernel, Part::Watchdog].into_iter().find(|p| number(12) == Some(*p as u32))?;
        let text = core::str::from_utf8(&bytes[HEAD..HEAD + len]).ok()?;
        Some(Report { part, times: number(16)?, text })
    }
}

/// A text that is made where no memory can be had: what there is no room for is left out, and so are ends of lines and
/// whatever else would be no part of one line.
pub struct Text {
    bytes: [u8; TEXT_MAX],
    len: usize,
}

impl Text {
    /// An empty one.
    pub const EMPTY: Text = Text { bytes: [0; TEXT_MAX], len: 0 };

    /// As far as it goes.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            let char = if char.is_control() { ' ' } else { char };
            // Whole characters only; what follows one for which there is no room is left out with it.
            let Some(place) = self.bytes.get_mut(self.len..self.len + char.len_utf8()) else { return Err(fmt::Error) };
            char.encode_utf8(place);
            self.len += char.len_utf8();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use core::fmt::Write;

    const REPORT: Report<'static> = Report { part: Part::Watchdog, times: 3, text: "nothing was heard für 30 s" };

    fn written(report: &Report<'_>) -> ([u8; REPORT_MAX], usize) {
        let mut place = [0xa5; REPORT_MAX];
        let len = report.write(&mut place);
        (place, len)
    }

    #[test]
    fn what_was_written_is_read() {
        for part in [Part::Agent, Part::Kernel, Part::Watchdog] {
            for text in ["", REPORT.text] {
                let report = Report { part, text, ..REPORT };
                let (place, len) = written(&report);
                assert_eq!((Report::read(&place), Report::read(&place[..len])), (Some(report), Some(report)));
                assert_eq!(Report::read(&place[..len - 1]), None);
            }
        }
    }

    #[test]
    fn no_bit_of_it_can_be_changed() {
        let (place, len) = written(&REPORT);
        for bit in 0..len * 8 {
            let mut changed = place;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Report::read(&changed), None, "bit {bit}");
        }
    }

    #[test]
    fn memory_that_says_nothing_is_no_report() {
        for byte in [0, 0xff, 0x5a] {
            assert_eq!(Report::read(&[byte; REPORT_MAX]), None);
        }
        assert_eq!(Report::read(&[]), None);
        // The checksum is right, and what it is of is nonsense all the same.
        let with = |at: usize, value: u32| {
            let (mut place, len) = written(&REPORT);
            place[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let checksum = CHECKSUM.checksum(&place[CHECKED..len]);
            place[8..CHECKED].copy_from_slice(&checksum.to_le_bytes());
            Report::read(&place).is_some()
        };
        assert!(with(16, 7));
        assert!(!with(12, 0) && !with(12, 4));
        assert!(!with(20, TEXT_MAX as u32 + 1) && !with(20, u32::MAX));
        assert!(!with(HEAD, 0xffff_ffff), "it is not UTF-8");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let long: String = core::iter::repeat_n('é', TEXT_MAX).collect();
        let odd = alloc::format!("x{long}");
        let (place, _) = written(&Report { text: &odd, ..REPORT });
        let read = Report::read(&place).unwrap();
        assert_eq!((read.text.len(), read.text), (TEXT_MAX - 1, &odd[..TEXT_MAX - 1]));
        let mut text = Text::EMPTY;
        write!(text, "at\n\x1b[31m\tall").unwrap();
        assert_eq!(text.as_str(), "at  [31m all");
        assert!(text.write_str(&odd).is_err());
        assert!(text.as_str().len() > TEXT_MAX - 3);
    }
}
