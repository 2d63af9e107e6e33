//! Arbitrary modules meet the instrumenter: each is made movable or refused, and what comes out is valid.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wayfare_instrument::{Error, Options, features, instrument, is_instrumented};
use wayfare_tests::densify::densify;
use wayfare_tests::generate::{Flavour, from_bytes};

fuzz_target!(|bytes: &[u8]| {
    // As they are, they are hardly ever a module: nothing but an error may come of it.
    let _ = instrument(bytes, &Options::default());

    let Some((choice, rest)) = bytes.split_first() else { return };
    let flavour = [Flavour::Numbers, Flavour::References, Flavour::Gc][usize::from(choice & 3) % 3];
    let Some(mut wasm) = from_bytes(rest, flavour) else { return };
    if choice & 4 != 0 {
        wasm = densify(&wasm, 50).expect("a valid module can be written anew");
    }
    let chunk = if choice & 8 == 0 { 1 << 17 } else { 1 };
    let options = Options { chunk, countdown: choice & 16 != 0, ..Options::default() };
    match instrument(&wasm, &options) {
        Ok(out) => {
            wasmparser::Validator::new_with_features(features()).validate_all(&out.wasm).expect("the output is valid");
            assert!(is_instrumented(&out.wasm));
            assert!(matches!(instrument(&out.wasm, &options), Err(Error::AlreadyInstrumented)));
        }
        Err(Error::Unmovable(reasons)) => assert!(!reasons.is_empty()),
        Err(e) => panic!("a valid module was not taken: {e}"),
    }
});
