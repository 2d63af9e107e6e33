#![allow(missing_docs, unused_qualifications)]
use wayfare_sim::naps::*;
use wayfare_policy::*;
fn main() {
    for k in Condition::THESIS {
        let mut v: [Vec<f64>; 2] = [vec![], vec![]]; let mut d: [Vec<(f64,f64,f64)>; 2] = [vec![], vec![]];
        for seed in TUNING.start..TUNING.start+40 {
            let c = k.course(seed); let mut l = link::Link::new();
            for (i, p) in c.points.iter().enumerate() { if i % 5 == 0 && p.up { l.sample(i as u64 * 1_000_000_000, LinkSample { bandwidth: Some(p.bandwidth as u64), delay: p.delay.map(|d| (d*1e9) as u64) }); if i > 600 && i % 60 == 0 { let s = l.signs(); let h = usize::from(p.hidden == Hidden::Marginal); v[h].push(s.swing); d[h].push((s.drop, s.rise, s.fall)); } } }
        }
        for h in 0..2 { v[h].sort_by(f64::total_cmp); let q = |p: f64| v[h][(p * (v[h].len()-1) as f64) as usize]; 
          let mut a: Vec<f64> = d[h].iter().map(|x| x.0 + x.1).collect(); a.sort_by(f64::total_cmp); let qa = |p: f64| a[(p * (a.len()-1) as f64) as usize];
          println!("{k} {h} swing {:.3} {:.3} {:.3} {:.3} {:.3}  drop+rise {:.2} {:.2} {:.2} {:.2} {:.2}", q(0.05), q(0.25), q(0.5), q(0.75), q(0.95), qa(0.05), qa(0.25), qa(0.5), qa(0.75), qa(0.95)); }
    }
}
