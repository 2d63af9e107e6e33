//! Arbitrary bytes meet the decoder: as they are, and sealed anew so that length and checksum do not stop them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wayfare_snapshot::{Compression, Limits, apply, decode, encode, reseal, verify};

fuzz_target!(|bytes: &[u8]| {
    // Small enough that the fuzzer's own memory limit is never what stops an input.
    let limits = Limits {
        max_len: 16 << 20,
        max_memory: 64 << 20,
        max_table_len: 1 << 20,
    };
    let _ = verify(bytes);
    let _ = decode(bytes, &limits);

    let mut sealed = bytes.to_vec();
    reseal(&mut sealed);
    let Ok(snapshot) = decode(&sealed, &limits) else {
        return;
    };
    // What is let in must be sound: it encodes, and comes back as it was.
    let again = encode(&snapshot, Compression::Lz4).expect("a decoded snapshot encodes");
    // LZ4 may need more room than the zstd that came in.
    let limits = Limits {
        max_len: u64::MAX,
        ..limits
    };
    assert_eq!(
        decode(&again, &limits).expect("an encoded snapshot decodes"),
        snapshot
    );
    // Its own delta on itself, if it is full, must be applicable.
    if let Some(id) = snapshot.meta.id
        && let Ok(delta) = wayfare_snapshot::diff(&snapshot, &snapshot, id)
    {
        assert_eq!(
            apply(&snapshot, &delta).expect("a delta applies to its base"),
            snapshot
        );
    }
});
