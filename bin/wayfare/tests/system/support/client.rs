//! A client of a service.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Bytes that say where in the stream they are.
fn numbered(at: u64, into: &mut [u8]) {
    for (i, byte) in into.iter_mut().enumerate() {
        *byte = ((at + i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as u8;
    }
}

/// Sends numbered bytes until told to stop, and checks that just these come back. Gives how many.
pub fn talk(port: u16, stop: &AtomicBool) -> u64 {
    let mut write = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut read = write.try_clone().unwrap();
    std::thread::scope(|scope| {
        let hears = scope.spawn(move || {
            let (mut at, mut got, mut expected) = (0, vec![0; 65536], vec![0; 65536]);
            loop {
                let n = read.read(&mut got).expect("a reset or a silence");
                if n == 0 {
                    return at;
                }
                numbered(at, &mut expected[..n]);
                assert!(got[..n] == expected[..n], "other bytes after {at}");
                at += n as u64;
            }
        });
        let (mut at, mut bytes) = (0, vec![0; 3000]);
        while !stop.load(Ordering::SeqCst) {
            numbered(at, &mut bytes);
            write.write_all(&bytes).expect("a reset");
            at += bytes.len() as u64;
            std::thread::sleep(Duration::from_micros(300));
        }
        write.shutdown(Shutdown::Write).unwrap();
        assert_eq!(hears.join().unwrap(), at, "bytes are missing");
        at
    })
}
