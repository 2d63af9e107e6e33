//! Shortest ways through a maze: a random walk that backtracks carves it, and searches in breadth flood it.
//! `maze [cells on a side = 1200] [seed = 1]`; time and memory grow with the square.
//!
//! Prints how long the ways are together, and a checksum of how far each cell is from where each way begins.
use guests::{CHECKSUM_START, Random, argument, extend_checksum, no_more_arguments, seed_argument};

/// Ways to find in one maze.
const WAYS: usize = 16;
/// One cell in so many loses a wall, or there would be one way only between any two.
const LOOPS: usize = 16;

const EAST: u8 = 1;
const SOUTH: u8 = 2;
const UNSEEN: u32 = u32::MAX;

/// A square of cells, row by row, each with its open sides to the east and the south.
struct Maze {
    side: usize,
    open: Vec<u8>,
}

impl Maze {
    fn carve(side: usize, random: &mut Random) -> Maze {
        let mut maze = Maze { side, open: vec![0; side * side] };
        let mut seen = vec![false; side * side];
        let mut way = vec![0u32];
        seen[0] = true;
        while let Some(&cell) = way.last() {
            let (mut choices, mut count) = ([0; 4], 0);
            for next in maze.around(cell as usize).filter(|next| !seen[*next]) {
                choices[count] = next;
                count += 1;
            }
            if count == 0 {
                way.pop();
                continue;
            }
            let next = choices[below(random, count)];
            maze.join(cell as usize, next);
            seen[next] = true;
            way.push(next as u32);
        }
        for _ in 0..side * side / LOOPS {
            let cell = below(random, side * side);
            if let Some(next) = maze.around(cell).next() {
                maze.join(cell, next);
            }
        }
        maze
    }

    /// The cells beside this one: east, south, west, north, where there are such.
    fn around(&self, cell: usize) -> impl Iterator<Item = usize> + use<> {
        let (side, x, y) = (self.side, cell % self.side, cell / self.side);
        let east = (x + 1 < side).then_some(cell + 1);
        let south = (y + 1 < side).then_some(cell + side);
        let west = (x > 0).then(|| cell - 1);
        let north = (y > 0).then(|| cell - side);
        [east, south, west, north].into_iter().flatten()
    }

    fn join(&mut self, a: usize, b: usize) {
        self.open[a.min(b)] |= if a.abs_diff(b) == 1 { EAST } else { SOUTH };
    }

    fn are_joined(&self, a: usize, b: usize) -> bool {
        self.open[a.min(b)] & if a.abs_diff(b) == 1 { EAST } else { SOUTH } != 0
    }

    /// How far each cell is from `start`. The queue has each cell once.
    fn flood(&self, start: usize, distance: &mut [u32], queue: &mut Vec<u32>) {
        distance.fill(UNSEEN);
        queue.clear();
        distance[start] = 0;
        queue.push(start as u32);
        let mut at = 0;
        while at < queue.len() {
            let cell = queue[at] as usize;
            at += 1;
            for next in self.around(cell) {
                if distance[next] == UNSEEN && self.are_joined(cell, next) {
                    distance[next] = distance[cell] + 1;
                    queue.push(next as u32);
                }
            }
        }
    }

    /// The way back from `goal`, each step one nearer to the start: how many there are.
    fn walk_back(&self, goal: usize, distance: &[u32]) -> u64 {
        let (mut cell, mut steps) = (goal, 0);
        while distance[cell] > 0 {
            let nearer = |next: &usize| self.are_joined(cell, *next) && distance[*next] == distance[cell] - 1;
            cell = self.around(cell).find(nearer).expect("each cell was reached from another");
            steps += 1;
        }
        steps
    }
}

fn below(random: &mut Random, bound: usize) -> usize {
    (random.next().expect("there is no last one") % bound as u64) as usize
}

fn main() {
    let side = argument(1, 1200, 1..=8192);
    let seed = seed_argument(2, 1);
    no_more_arguments(2);
    let mut random = Random(seed);
    let maze = Maze::carve(side, &mut random);
    let (mut distance, mut queue) = (vec![0; side * side], Vec::with_capacity(side * side));
    let (mut steps, mut sum) = (0, CHECKSUM_START);
    for way in 0..WAYS {
        let (start, goal) = (below(&mut random, side * side), below(&mut random, side * side));
        maze.flood(start, &mut distance, &mut queue);
        assert!(queue.len() == side * side, "way {way}: there are cells without a way to them");
        steps += maze.walk_back(goal, &distance);
        sum = extend_checksum(sum, distance.iter().flat_map(|d| d.to_le_bytes()));
    }
    println!("maze {side} {seed}: {steps} {sum:016x}");
}
