#![allow(missing_docs, unused_qualifications)]
use wayfare_sim::naps::{*, judge::*};
use wayfare_policy::*;
fn main() {
    let n = 200;
    let seeds = TUNING.start..TUNING.start + n;
    for c in COSTS {
        for k in Condition::UNSEEN {
            let cs = courses(k, seeds.clone());
            let (at, f) = best_fixed(&cs, c);
            let out: Vec<String> = [Policy::Auto, Policy::Young, Policy::Naps].iter().map(|p| { let a = costs(&cs, *p, settings(c)); let r = Mean::of_ratio(&a, &f); format!("{p} {:.2} {:.3}+-{:.3}", Mean::of(&a).value, r.value, r.within) }).collect();
            println!("c {c} {k:10} best fixed {:.2} at {} s; {}", Mean::of(&f).value, at/1_000_000_000, out.join("; "));
        }
        let mut cs = vec![];
        let mut names: Vec<_> = std::fs::read_dir(std::env::args().nth(1).unwrap()).unwrap().map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|x| x == "csv")).collect();
        names.sort();
        for p in names { cs.push(Course::parse("x", &std::fs::read_to_string(p).unwrap()).unwrap()); }
        let (at, f) = best_fixed(&cs, c);
        let out: Vec<String> = [Policy::Auto, Policy::Young, Policy::Naps].iter().map(|p| { let a = costs(&cs, *p, settings(c)); let r = Mean::of_ratio(&a, &f); format!("{p} {:.2} {:.3}+-{:.3} {:.1?}", a.iter().sum::<f64>(), r.value, r.within, a) }).collect();
        println!("c {c} real best fixed {:.2} at {} s {:.1?}; {}", f.iter().sum::<f64>(), at/1_000_000_000, f, out.join("; "));
    }
}
