//! A small snapshot with something in every section, for tests that damage or misuse it.

use wayfare_snapshot::*;

pub const PAGE: u64 = PAGE_SIZE as u64;

pub fn sample() -> Snapshot<'static> {
    let text: Vec<u8> = b"state that moves ".iter().copied().cycle().take(2 * PAGE_SIZE).collect();
    Snapshot {
        meta: Meta { module: Digest::of(b"module"), sequence: 3, epoch: 2, progress: 99, ..Meta::default() },
        options: TaskOptions {
            ran: 1 << 40,
            entry: "_start".into(),
            name: "task".into(),
            extra: [("a".into(), "b".into()), ("c".into(), "d".into())].into(),
            ..TaskOptions::default()
        },
        frames: vec![1; 40].into(),
        globals: vec![(0, GlobalValue::I32(5)), (4, GlobalValue::F64(f64::NAN.to_bits()))],
        tables: vec![TableState { index: 0, len: 9, entries: vec![(2, vec![Some(1), None])] }],
        memories: vec![MemoryState {
            index: 0,
            size: 16 * PAGE,
            runs: vec![PageRun::bytes(2, text), PageRun::zero(9, 2)],
        }],
        dropped_data: vec![1, 2],
        dropped_elem: vec![0],
        refs: vec![None, Some(7)],
        wasi: vec![2; 30].into(),
    }
}
