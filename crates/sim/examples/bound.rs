#![allow(missing_docs, unused_qualifications)]
use wayfare_sim::naps::{*, judge::*};
use wayfare_policy::*;

// sees the hidden state, not the type; optional volatility knowledge; Young threshold on the posterior hazard
struct B { c: f64, ll: [f64; 3], state: usize, safe: u64, carries: u64, prev: Option<usize>, known: Option<usize>, up: bool, pat: f64, th: Vec<[f64;2]>, mode: u8, lag: bool, hist: std::collections::VecDeque<usize> }
const CH: [Condition; 3] = Condition::THESIS;
impl Keeper for B {
    fn second(&mut self, _n: u64, p: &Point, _s: Option<LinkSample>) {
        let real = if p.hidden == Hidden::Marginal { 1 } else { 0 };
        let s = if self.lag { self.hist.push_back(real); if self.hist.len() > 15 { self.hist.pop_front().unwrap() } else { *self.hist.front().unwrap() } } else { real };
        if p.up && self.up {
            for (i, k) in CH.iter().enumerate() { let c = k.chain();
                let out = if self.state == 0 { 1.0/c.good } else { 1.0/c.marginal };
                self.ll[i] -= out;
                if self.prev == Some(self.state) && s != self.state { let br = if self.state == 0 { c.good_breaks } else { c.marginal_breaks }; self.ll[i] += (out*(1.0-br)).max(1e-12).ln(); }
            }
        }
        self.prev = if p.up { Some(s) } else { None };
        if self.up && !p.up { }
        self.up = p.up; self.state = s;
    }
    fn sync(&mut self, _n: u64, work: u64, _d: u64) -> bool {
        self.carries = work;
        let risk = (work - self.safe) as f64 / 1e9;
        let m = self.ll.iter().cloned().fold(f64::NEG_INFINITY, f64::max);
        let mut w: Vec<f64> = self.ll.iter().map(|l| (l - m).exp()).collect();
        if let Some(k) = self.known { w = vec![0.0; 3]; w[k] = 1.0; }
        let tot: f64 = w.iter().sum();
        let lam: f64 = CH.iter().zip(&w).map(|(k, w)| { let c = k.chain(); w/tot * if self.state == 0 { c.good_breaks/c.good } else { c.marginal_breaks/c.marginal } }).sum();
        if self.mode == 1 { // weights on oracle-like thresholds: rate 1/th^2
            let r: f64 = self.th.iter().zip(&w).map(|(t, w)| w/tot/(t[self.state]*t[self.state])).sum();
            return risk >= self.pat / r.max(1e-12).sqrt();
        }
        risk >= self.pat * (2.0*self.c*60.0/lam.max(1e-12)).sqrt()
    }
    fn finished(&mut self, _n: u64, _b: u64) { self.safe = self.carries; }
    fn broke(&mut self, _n: u64) {
        for (i, k) in CH.iter().enumerate() { let c = k.chain(); let r = if self.state == 0 { c.good_breaks/c.good } else { c.marginal_breaks/c.marginal }; self.ll[i] += r.max(1e-12).ln(); }
        self.up = false;
    }
    fn back(&mut self, _n: u64, work: u64) { self.safe = work; self.up = true; }
}
fn main() {
    for c in COSTS {
        let sets: Vec<Vec<Course>> = CH.iter().map(|k| courses(*k, TUNING.start..TUNING.start+300)).collect();
        let th: Vec<[f64;2]> = CH.iter().map(|k| oracle::Oracle::new(&k.chain(), c).thresholds).collect();
        let orc: f64 = CH.iter().zip(&sets).map(|(k, cs)| Mean::of(&oracle(*k, cs, c)).value).sum();
        for (name, known, mode, pat, lag) in [("unknown type", false, 0u8, 1.0, false), ("unknown, th", false, 1, 1.0, false), ("known type", true, 0, 1.0, false),("known type, lag 15", true, 1, 1.0, true), ("unknown type .85", false, 0, 0.85, false), ("unknown th .85", false, 1, 0.85, false), ("unknown type 1.2", false, 0, 1.2, false), ("unknown type, lag", false, 0, 1.0, true)] {
            let l: Vec<f64> = sets.iter().enumerate().map(|(i, cs)| Mean::of(&cs.iter().map(|k| run::run(k, &mut B { c, ll: [0.0; 3], state: 0, safe: 0, carries: 0, prev: None, known: known.then_some(i), up: true, pat, th: th.clone(), mode, lag, hist: Default::default() }).cost(c)).collect::<Vec<_>>()).value).collect();
            let s: f64 = l.iter().sum();
            println!("{c} {name:20} {:.3} {:.2?}", s/orc, l);
        }
    }
}
