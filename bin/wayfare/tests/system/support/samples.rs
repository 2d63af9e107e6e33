//! A client of the guest `monitor`: numbered samples, and what it should make of them.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What the guest computes, in the same order, so that every digit is the same.
#[derive(Default)]
struct Analysis {
    count: u64,
    mean: f64,
    squares: f64,
    smoothed: f64,
}

impl Analysis {
    fn deviation(&self) -> f64 {
        if self.count > 1 { (self.squares / (self.count - 1) as f64).sqrt() } else { 0.0 }
    }

    fn answer(&mut self, number: u64, value: f64) -> String {
        let alarm = self.count > 10 && (value - self.mean).abs() > 3.0 * self.deviation();
        let distance = value - self.mean;
        self.count += 1;
        self.mean += distance / self.count as f64;
        self.squares += distance * (value - self.mean);
        self.smoothed += (value - self.smoothed) / 8.0;
        let (mean, deviation, smoothed) = (self.mean, self.deviation(), self.smoothed);
        format!("{number} {} {mean:.6} {deviation:.6} {smoothed:.6} {}", self.count, u8::from(alarm))
    }
}

fn value(number: u64) -> f64 {
    // Quarters, so that the text is the number.
    let swing = (number % 80) as f64 / 4.0;
    60.0 + swing + if number.is_multiple_of(997) { 40.0 } else { 0.0 }
}

/// Sends a sample each hundredth of a second until told to stop, whether or not answers come, and checks that each has
/// its answer, once. Gives how many.
pub fn sample(port: u16, stop: &AtomicBool) -> u64 {
    let mut write = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write.set_nodelay(true).unwrap();
    write.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
    let read = BufReader::new(write.try_clone().unwrap());
    std::thread::scope(|scope| {
        let hears = scope.spawn(move || {
            let (mut analysis, mut number) = (Analysis::default(), 0);
            for line in read.lines() {
                let line = line.expect("a reset or a silence");
                number += 1;
                assert_eq!(line, analysis.answer(number, value(number)));
            }
            number
        });
        let mut number = 0;
        while !stop.load(Ordering::SeqCst) && !hears.is_finished() {
            number += 1;
            writeln!(write, "{number} {}", value(number)).expect("a reset");
            std::thread::sleep(Duration::from_millis(10));
        }
        // One that has failed has nothing more to see.
        stop.store(true, Ordering::SeqCst);
        let _ = write.shutdown(Shutdown::Write);
        let answered = hears.join().unwrap();
        assert_eq!(answered, number, "samples without an answer");
        answered
    })
}
