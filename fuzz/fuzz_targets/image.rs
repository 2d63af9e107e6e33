//! Arbitrary bytes meet the reader of images, which may come from anywhere: no panic, and no code is loaded
//! that this key did not sign.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wayfare_engine::{Image, ImageInfo, Key, is_image};

fuzz_target!(|bytes: &[u8]| {
    let key = Key([7; 32]);
    let mut image = bytes.to_vec();
    for _ in 0..2 {
        let _ = ImageInfo::parse(&image);
        assert!(Image::load(&image, &key).is_err(), "nobody can sign without the key");
        if is_image(&image) {
            break;
        }
        // The same bytes behind a head that is right, so that the lengths that follow are read.
        image.splice(0..0, *b"WAYFIMG\n\x01\0\0\0");
    }
});
