//! The n queens problem by backtracking as in textbooks, one comparison for each queen that already stands: recursion over a
//! small array. `queens [n = 13]`; each row more takes some six times as long.
//!
//! Prints how many ways there are, and a checksum of them all in lexicographic order.
use guests::{CHECKSUM_START, argument, extend_checksum, no_more_arguments};

const MOST: usize = 20;

struct Board {
    n: usize,
    /// The column of each row's queen; of those rows that have one.
    columns: [u8; MOST],
    ways: u64,
    sum: u64,
}

impl Board {
    fn place_from(&mut self, row: usize) {
        if row == self.n {
            self.ways += 1;
            self.sum = extend_checksum(self.sum, self.columns[..row].iter().copied());
            return;
        }
        for column in 0..self.n as u8 {
            if self.is_free(row, column) {
                self.columns[row] = column;
                self.place_from(row + 1);
            }
        }
    }

    fn is_free(&self, row: usize, column: u8) -> bool {
        self.columns[..row].iter().enumerate().all(|(r, c)| *c != column && usize::from(c.abs_diff(column)) != row - r)
    }
}

fn main() {
    let n = argument(1, 13, 1..=MOST);
    no_more_arguments(1);
    let mut board = Board { n, columns: [0; MOST], ways: 0, sum: CHECKSUM_START };
    board.place_from(0);
    println!("queens {n}: {} {:016x}", board.ways, board.sum);
}
