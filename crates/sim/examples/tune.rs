use wayfare_sim::naps::{*, judge::*};
use wayfare_policy::*;
fn main() {
    let n = 200;
    let seeds = TUNING.start..TUNING.start + n;
    let thesis: Vec<_> = Condition::THESIS.map(|c| courses(c, seeds.clone())).into_iter().collect();
    for c in COSTS {
        let mut fixed = (f64::INFINITY, 0, vec![]);
        for g in grid() {
            let l: Vec<Vec<f64>> = thesis.iter().map(|cs| costs(cs, Policy::Fixed(g), settings(c))).collect();
            let s = sum(&l); let m = Mean::of(&s).value;
            if m < fixed.0 { fixed = (m, g, s); }
        }
        println!("c {c}: best fixed {:.1} at {} s", fixed.0, fixed.1 / 1_000_000_000);
        let show = |name: &str, l: Vec<Vec<f64>>| {
            let s = sum(&l);
            let per: Vec<String> = l.iter().map(|x| format!("{:.2}", Mean::of(x).value)).collect();
            let r = Mean::of_ratio(&s, &fixed.2);
            println!("  {name:14} {:6.2} ratio {:.3} +- {:.3}   {}", Mean::of(&s).value, r.value, r.within, per.join(" "));
        };
        for p in ["fixed:4m", "fixed:8m", "fixed:16m", "young", "auto"] {
            let p: Policy = p.parse().unwrap();
            show(&p.to_string(), thesis.iter().map(|cs| costs(cs, p, settings(c))).collect());
        }
        for i in [4, 8, 16] { for p in [Policy::Naps, Policy::NapsPrinted] {
            let s = Settings { sampling: i * 60_000_000_000, ..settings(c) };
            show(&format!("{p} {i}"), thesis.iter().map(|cs| costs(cs, p, s)).collect());
        }}
        for (k, cond) in Condition::THESIS.iter().enumerate() { let _ = k; print!("  {:?}", wayfare_sim::naps::oracle::Oracle::new(&cond.chain(), c).thresholds); }
        println!();
        show("oracle", Condition::THESIS.iter().zip(&thesis).map(|(k, cs)| oracle(*k, cs, c)).collect());
    }
}
