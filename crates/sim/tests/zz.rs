//! x
mod common;
use common::*;
use wayfare_sim::*;
#[test]
fn zz() {
    for mode in MODES {
    let t = std::time::Instant::now();
    let mut w = small(mode);
    w.tell();
    w.run_until(100*MILLI, |_| false);
    println!("{} looks {:?}", w.looks(), t.elapsed());
    if std::env::var("V").is_ok() { println!("{}", w.story()); }
    let t = std::time::Instant::now();
    w.run_until(600*MILLI, |_| false);
    println!("{} looks {:?}", w.looks(), t.elapsed());
    let t = std::time::Instant::now();
    let e = w.settle(20*SECOND);
    println!("{} looks {:?} {e:?} {}", w.looks(), t.elapsed(), w.now());
    }
}
