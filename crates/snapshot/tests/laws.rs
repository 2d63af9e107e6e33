//! The laws of the format and of the algebra, for arbitrary snapshots.

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;
use wayfare_snapshot::*;

const PAGES: u64 = 96;

/// A memory as the test sees it: what is in each page, if it is there at all. A page is one byte repeated, or noise.
type Model = BTreeMap<u64, u8>;

fn page(fill: u8) -> Vec<u8> {
    match fill {
        // Noise that no codec packs, so that raw chunks are met too.
        200.. => Digest::of(&[fill])
            .0
            .iter()
            .cycle()
            .scan(0u32, |seed, byte| {
                *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223 + u32::from(*byte));
                Some((*seed >> 24) as u8)
            })
            .take(PAGE_SIZE)
            .collect(),
        fill => vec![fill; PAGE_SIZE],
    }
}

/// `size` need not be a multiple of a page: the last page is cut to it.
fn memory(index: u32, size: u64, model: &Model, cut_at: u64) -> MemoryState<'static> {
    let mut runs: Vec<PageRun<'static>> = Vec::new();
    for (&number, &fill) in model {
        let mut bytes = page(fill);
        bytes.truncate((size - number * PAGE_SIZE as u64).min(PAGE_SIZE as u64) as usize);
        match runs.last_mut() {
            _ if fill == 1 => runs.push(PageRun::zero(number, 1)),
            Some(PageRun { first_page, pages: Pages::Bytes(before) })
                if *first_page + before.len() as u64 / PAGE_SIZE as u64 == number && number % cut_at != 0 =>
            {
                before.to_mut().extend(bytes);
            }
            _ => runs.push(PageRun::bytes(number, bytes)),
        }
    }
    MemoryState { index, size, runs }
}

/// Few fills, so that zero pages (0 as bytes, 1 as a zero run) and equal pages are common.
fn model() -> impl Strategy<Value = Model> {
    btree_map(0..PAGES, prop_oneof![0..4u8, 198..204u8], 0..60)
}

fn value() -> impl Strategy<Value = GlobalValue> {
    prop_oneof![
        any::<u32>().prop_map(GlobalValue::I32),
        any::<u64>().prop_map(GlobalValue::I64),
        any::<u32>().prop_map(GlobalValue::F32),
        any::<u64>().prop_map(GlobalValue::F64),
        any::<u128>().prop_map(GlobalValue::V128),
        any::<Option<u32>>().prop_map(GlobalValue::Func),
        Just(GlobalValue::NullRef),
    ]
}

fn tables() -> impl Strategy<Value = Vec<TableState>> {
    let gaps = vec((0..5u64, vec(any::<Option<u32>>(), 1..6)), 0..4);
    let tables = btree_map(any::<u32>(), (0..9u64, gaps), 0..3);
    tables.prop_map(|tables| {
        let tables = tables.into_iter().map(|(index, (spare, gaps))| {
            let mut table = TableState { index, ..TableState::default() };
            for (gap, slots) in gaps {
                let start = table.len + gap;
                table.len = start + slots.len() as u64;
                table.entries.push((start, slots));
            }
            table.len += spare;
            table
        });
        tables.collect()
    })
}

/// Everything but memories.
fn rest() -> impl Strategy<Value = Snapshot<'static>> {
    let meta = (any::<[u64; 4]>(), any::<bool>(), any::<bool>());
    let options = (any::<String>(), any::<String>(), btree_map(any::<String>(), any::<String>(), 0..3));
    let lists = (btree_set(any::<u32>(), 0..5), btree_set(any::<u32>(), 0..5), vec(any::<Option<u32>>(), 0..9));
    let blobs = (vec(any::<u8>(), 0..900), vec(any::<u8>(), 0..900));
    (meta, options, btree_map(any::<u32>(), value(), 0..6), tables(), lists, blobs).prop_map(
        |((numbers, nan, simd), (entry, name, extra), globals, tables, (data, elem, refs), (frames, wasi))| Snapshot {
            meta: Meta {
                module: Digest::of(b"module"),
                sequence: numbers[0],
                epoch: numbers[1],
                progress: numbers[2],
                ..Meta::default()
            },
            options: TaskOptions {
                canonical_nan: nan,
                deterministic_relaxed_simd: simd,
                ran: numbers[3],
                entry,
                name,
                extra,
            },
            frames: frames.into(),
            globals: globals.into_iter().collect(),
            tables,
            memories: Vec::new(),
            dropped_data: data.into_iter().collect(),
            dropped_elem: elem.into_iter().collect(),
            refs,
            wasi: wasi.into(),
        },
    )
}

/// Two memories, the second of which may end inside a page.
fn snapshot() -> impl Strategy<Value = Snapshot<'static>> {
    const SIZE: u64 = PAGES * PAGE_SIZE as u64;
    (rest(), model(), model(), 0..PAGE_SIZE as u64, 1..9u64).prop_map(|(rest, one, two, short, cut_at)| Snapshot {
        memories: vec![memory(0, SIZE, &one, cut_at), memory(7, SIZE - short, &two, cut_at)],
        ..rest
    })
}

/// A task that goes on: full captures, each with all pages of the one before, some of them changed, in a memory that grows.
fn history(steps: usize) -> impl Strategy<Value = Vec<Snapshot<'static>>> {
    vec((rest(), model(), 0..3 * PAGE_SIZE as u64, 1..9u64), steps).prop_map(|steps| {
        let mut all = Model::new();
        let mut size = PAGES * PAGE_SIZE as u64 - 1000;
        let step = |(rest, changes, growth, cut_at): (Snapshot<'static>, Model, u64, u64)| {
            all.extend(changes);
            size += growth;
            Snapshot { memories: vec![memory(0, size, &all, cut_at)], ..rest }
        };
        steps.into_iter().map(step).collect()
    })
}

/// What a snapshot becomes on its way: encoded, sent, decoded.
fn sent(snapshot: &Snapshot<'_>, compression: Compression) -> Snapshot<'static> {
    decode(&encode(snapshot, compression).unwrap(), &Limits::default()).unwrap()
}

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(Compression::None), Just(Compression::Lz4), (1..6).prop_map(Compression::Zstd)]
}

fn non_zero_bytes(snapshot: &Snapshot<'_>) -> usize {
    let runs = snapshot.memories.iter().flat_map(|memory| &memory.runs);
    let pages = runs.filter_map(|run| match &run.pages {
        Pages::Zero(_) => None,
        Pages::Bytes(bytes) => Some(bytes.chunks(PAGE_SIZE).filter(|page| page.iter().any(|b| *b != 0))),
    });
    pages.flatten().map(<[u8]>::len).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decoding_gives_back_what_was_encoded(x in snapshot(), how in compression()) {
        let bytes = encode(&x, how).unwrap();
        let y = decode(&bytes, &Limits::default()).unwrap();
        prop_assert_eq!(&y, &x);
        prop_assert_eq!(y.meta.id, Some(id(&bytes).unwrap()));
        let header = verify(&bytes).unwrap();
        prop_assert_eq!(header.total_len, bytes.len() as u64);
        prop_assert_eq!(header.kind, x.meta.kind());
    }

    #[test]
    fn memory_can_be_filled_from_packed_bytes(x in snapshot(), how in compression()) {
        let bytes = encode(&x, how).unwrap();
        let packed = open(&bytes, &Limits::default()).unwrap();
        let decoded = decode(&bytes, &Limits::default()).unwrap();
        let runs = |m: &MemoryMap| -> Vec<usize> {
            let len = |r: &MapRun| (r.pages * PAGE_SIZE as u64).min(m.size - r.first_page * PAGE_SIZE as u64) as usize;
            m.runs.iter().filter(|r| !r.zero).map(len).collect()
        };
        fn filled<M: Memories + ?Sized>(from: &M, runs: impl Fn(&MemoryMap) -> Vec<usize>) -> Vec<Vec<u8>> {
            let mut all: Vec<Vec<u8>> = from.map().iter().flat_map(runs).map(|len| vec![0xee; len]).collect();
            from.fill(all.iter_mut().map(|run| &mut run[..]).collect(), &|_| ()).unwrap();
            all
        }
        prop_assert_eq!(filled(&packed, runs), filled(&decoded.memories[..], runs));
        prop_assert_eq!(packed.unpack().unwrap(), x);
    }

    #[test]
    fn all_ways_to_encode_give_the_same_bytes(x in snapshot(), how in compression()) {
        let bytes = encode(&x, how).unwrap();
        let mut sink = Vec::new();
        let header = encode_into(&x, how, &mut sink).unwrap();
        prop_assert_eq!(&sink, &bytes);
        prop_assert_eq!(header, Header::parse(&bytes).unwrap());
    }

    #[test]
    fn packing_anew_keeps_the_id(x in snapshot(), how in compression(), anew in compression()) {
        let x = sent(&x, how);
        prop_assert_eq!(sent(&x, anew).meta.id, x.meta.id);
    }

    #[test]
    fn memory_costs_its_non_zero_pages_and_a_map(x in snapshot(), how in compression()) {
        let empty = x.memories.iter().map(|memory| MemoryState { runs: vec![], ..memory.clone() }).collect();
        let around = encode(&Snapshot { memories: empty, ..x.clone() }, Compression::None).unwrap().len();
        let pages: u64 = x.memories.iter().flat_map(|memory| &memory.runs).map(PageRun::page_count).sum();
        // At worst every page is a run of its own, of 2 or 3 bytes in the map; and 4 bytes for each 128 KiB.
        let map = 3 * pages as usize + non_zero_bytes(&x).div_ceil(CHUNK_SIZE) * 4 + 4;
        prop_assert!(encode(&x, how).unwrap().len() <= around + non_zero_bytes(&x) + map);
    }

    #[test]
    fn a_delta_leads_from_base_to_new(h in history(2), how in compression()) {
        let base = sent(&h[0], how);
        let delta = sent(&diff(&base, &h[1], base.meta.id.unwrap()).unwrap(), how);
        let new = apply(&base, &delta).unwrap();
        prop_assert_eq!(&new, &h[1]);
        prop_assert_eq!(new.check(), Ok(()));
        prop_assert_eq!(new.meta.id, delta.meta.id);
    }

    #[test]
    fn a_delta_holds_no_page_that_did_not_change(h in history(1), how in compression()) {
        let base = sent(&h[0], how);
        let delta = diff(&base, &h[0], base.meta.id.unwrap()).unwrap();
        prop_assert!(delta.memories.iter().all(|memory| memory.runs.is_empty()));
    }

    #[test]
    fn squash_is_associative_and_agrees_with_apply(h in history(4), how in compression()) {
        let base = sent(&h[0], how);
        let mut before = base.clone();
        let deltas: Vec<_> = h[1..].iter().map(|new| {
            let delta = sent(&diff(&before, new, before.meta.id.unwrap()).unwrap(), how);
            before = apply(&before, &delta).unwrap().into_owned();
            delta
        }).collect();
        let [a, b, c] = &deltas[..] else { unreachable!() };
        let (ab, bc) = (squash(a, b).unwrap(), squash(b, c).unwrap());
        let (left, right) = (squash(&ab, c).unwrap(), squash(a, &bc).unwrap());
        prop_assert_eq!(&left, &right);
        prop_assert_eq!(left.meta.id, right.meta.id);
        // A squashed delta is one like any other once it was sent.
        let squashed = sent(&left, how);
        prop_assert_eq!(&apply(&base, &squashed).unwrap(), &h[3]);
        prop_assert_eq!(&squash(&base, &ab).unwrap(), &h[2]);
    }

    #[test]
    fn random_bytes_never_decode_and_never_panic(mut bytes in vec(any::<u8>(), 0..600), sealed in any::<bool>()) {
        if sealed && bytes.len() >= Header::LEN {
            bytes[..16].copy_from_slice(b"WAYFSNAP\x01\0\0\0\0\0\0\0");
            bytes[48..80].fill(0);
            reseal(&mut bytes);
        }
        prop_assert!(decode(&bytes, &Limits::default()).is_err());
    }

    /// The checksum is put right again, so that the decoder itself meets the damage.
    #[test]
    fn resealed_damage_never_panics(x in snapshot(), how in compression(), at in any::<prop::sample::Index>(), to: u8, len in 0..4usize) {
        let mut bytes = encode(&x, how).unwrap();
        let at = Header::LEN + at.index(bytes.len() - Header::LEN);
        let end = bytes.len().min(at + len);
        bytes[at..end].fill(to);
        reseal(&mut bytes);
        let limits = Limits { max_memory: 64 << 20, ..Limits::default() };
        if let Ok(y) = decode(&bytes, &limits) {
            // What was let in is a sound snapshot.
            prop_assert_eq!(&sent(&y, Compression::None), &y);
        }
    }
}

#[test]
fn optional_values_at_their_limits_survive() {
    let x = Snapshot {
        refs: vec![None, Some(0), Some(u32::MAX)],
        globals: vec![(0, GlobalValue::Func(Some(u32::MAX))), (u32::MAX, GlobalValue::V128(u128::MAX))],
        ..Snapshot::default()
    };
    assert_eq!(sent(&x, Compression::Lz4), x);
}

/// Big enough for several threads, several blocks, and pieces that are hashed as they are.
#[test]
fn big_memories_survive_every_way_of_encoding() {
    let model: Model =
        (0..4000).filter(|number| number % 50 < 40 || *number > 2000).map(|n| (n, (n / 100 * 37) as u8)).collect();
    let scattered: Model = (0..3000).map(|n| (2 * n, 200 + (n % 7) as u8)).collect();
    let memories =
        vec![memory(0, 4000 * PAGE_SIZE as u64, &model, 1000), memory(1, 6000 * PAGE_SIZE as u64, &scattered, 1)];
    let x = Snapshot { memories, frames: vec![3; 3 << 20].into(), ..Snapshot::default() };
    for how in [Compression::None, Compression::Lz4, Compression::Zstd(1)] {
        let bytes = encode(&x, how).unwrap();
        assert_eq!(verify(&bytes).map(|header| header.checksum), id(&bytes));
        assert_eq!(decode(&bytes, &Limits::default()).unwrap(), x);
        let mut sink = Vec::new();
        encode_into(&x, how, &mut sink).unwrap();
        assert!(sink == bytes, "{how:?}");
    }
}
