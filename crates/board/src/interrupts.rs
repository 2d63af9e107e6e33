//! Which line a pin of a device on PCI leads to, by the `interrupt-map` of a device tree (Devicetree specification 0.4,
//! 2.4.3): rows of the device's address (3 cells) and pin, the controller's handle, an address and an interrupt as the
//! controller counts them.

/// How long a controller's numbers are.
#[derive(Clone, Copy)]
pub struct Parent {
    /// Cells of an address (`#address-cells`).
    pub address_cells: usize,
    /// Cells of an interrupt (`#interrupt-cells`).
    pub interrupt_cells: usize,
}

/// Cells of a row before the handle: an address, and a pin.
const DEVICE: usize = 4;
/// Cells of an interrupt that are looked at.
const CELLS: usize = 3;

/// The interrupt, as its controller counts: so many cells as it has, zeros behind. `address` is the first cell of the
/// device's, `pin` is from 1 on; `parent` knows controllers by their handles.
pub fn interrupt(
    map: &[u8],
    mask: &[u8],
    address: u32,
    pin: u32,
    parent: impl Fn(u32) -> Option<Parent>,
) -> Option<[u32; CELLS]> {
    let cell = |bytes: &[u8], at: usize| {
        bytes.get(at.checked_mul(4)?..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    };
    let device = [address, 0, 0, pin];
    let mut row = 0;
    loop {
        let handle = cell(map, row + DEVICE)?;
        let Parent { address_cells, interrupt_cells } = parent(handle)?;
        let is_device = |at: usize| {
            let mask = cell(mask, at).unwrap_or(!0);
            cell(map, row + at).is_some_and(|cell| cell & mask == device[at] & mask)
        };
        let interrupt = row.checked_add(DEVICE + 1)?.checked_add(address_cells)?;
        if (0..DEVICE).all(is_device) {
            let mut cells = [0; CELLS];
            for (at, place) in cells.iter_mut().enumerate().take(interrupt_cells) {
                *place = cell(map, interrupt + at)?;
            }
            return Some(cells);
        }
        row = interrupt.checked_add(interrupt_cells)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    fn bytes(cells: &[u32]) -> Vec<u8> {
        cells.iter().flat_map(|cell| cell.to_be_bytes()).collect()
    }

    /// As `qemu -M virt` for ARM has it: two cells of an address, three of an interrupt.
    const MAP: [u32; 20] = [0, 0, 0, 1, 7, 0, 0, 0, 3, 4, 0x800, 0, 0, 2, 7, 0, 0, 0, 5, 4];
    const MASK: [u32; 4] = [0x1800, 0, 0, 7];

    fn parent(handle: u32) -> Option<Parent> {
        (handle == 7).then_some(Parent { address_cells: 2, interrupt_cells: 3 })
    }

    #[test]
    fn a_pin_leads_to_a_line() {
        let (map, mask) = (bytes(&MAP), bytes(&MASK));
        let line = |address, pin| interrupt(&map, &mask, address, pin, parent);
        assert_eq!((line(0, 1), line(0x800, 2)), (Some([0, 3, 4]), Some([0, 5, 4])));
        // Of another bus and function, which the mask has away.
        assert_eq!(line(0xff_2100, 1), Some([0, 3, 4]));
        assert_eq!((line(0x1000, 1), line(0, 3)), (None, None));
    }

    #[test]
    fn garbage_leads_nowhere() {
        let (map, mask) = (bytes(&MAP), bytes(&MASK));
        for end in 0..map.len() - 1 {
            assert_eq!(interrupt(&map[..end], &mask, 0x800, 2, parent), None, "{end}");
        }
        let odd = |_| Some(Parent { address_cells: usize::MAX, interrupt_cells: usize::MAX });
        assert_eq!(interrupt(&map, &mask, 0, 1, odd), None);
        assert_eq!(interrupt(&map, &mask, 0, 1, |_| None), None);
        // A controller without cells is no reason to look for ever.
        let empty = |_| Some(Parent { address_cells: 0, interrupt_cells: 0 });
        assert_eq!(interrupt(&map, &mask, 0x1800, 7, empty), None);
    }
}
