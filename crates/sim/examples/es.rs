#![allow(missing_docs, unused_qualifications)]
use wayfare_sim::naps::{*, judge::*};
use wayfare_policy::*;
use rayon::prelude::*;
type V = Vec<f64>;
fn of(x: &[f64], c: f64) -> Settings {
    let s = settings(c);
    let p = |i: usize| x[i].max(0.0);
    Settings { patience: x[14].exp(), weights: Weights { calm: x[0], stressed: x[1], onset: x[2], drop: p(3), rise: p(4), fall: p(5), climb: p(6), steady: p(7), usual: p(8), recent: x[9], calm_strength: x[10].exp(), floor: x[11].clamp(0.0, 1.0), stressed_strength: x[12].exp(), past: 1.0/(1.0+(-x[13]).exp()), ..s.weights }, ..s }
}
fn score(x: &[f64], sets: &[Vec<Course>], refs: &[f64]) -> f64 {
    let mut total = 0.0;
    for (c, r) in COSTS.iter().zip(refs) {
        let s = of(x, *c);
        let j: f64 = sets.iter().map(|cs| cs.iter().map(|k| run::run(k, &mut run::Driven::new(Policy::Auto, s)).cost(*c)).sum::<f64>() / cs.len() as f64).sum();
        total += j / r;
    }
    let mut extra = 0.0;
    let (rand, young) = random();
    for (c, y) in COSTS.iter().zip(young) { let s = of(x, *c); extra += rand.iter().map(|k| run::run(k, &mut run::Driven::new(Policy::Auto, s)).cost(*c)).sum::<f64>() / y; }
    (total + extra * WEIGHT) / COSTS.len() as f64
}
const WEIGHT: f64 = 0.4;
fn random() -> &'static (Vec<Course>, Vec<f64>) {
    static R: std::sync::OnceLock<(Vec<Course>, Vec<f64>)> = std::sync::OnceLock::new();
    R.get_or_init(|| { let cs: Vec<Course> = (TUNING.start+5000..TUNING.start+5090).map(Condition::random).collect(); let y = COSTS.iter().map(|c| costs(&cs, Policy::Young, settings(*c)).iter().sum::<f64>()).collect(); (cs, y) })
}
fn per(x: &[f64], sets: &[Vec<Course>]) -> Vec<V> { COSTS.iter().map(|c| sets.iter().map(|cs| Mean::of(&costs(cs, Policy::Auto, of(x, *c))).value).collect()).collect() }
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let gens: usize = args.get(1).map_or(40, |s| s.parse().unwrap());
    let n: u64 = args.get(2).map_or(100, |s| s.parse().unwrap());
    let sets: Vec<Vec<Course>> = Condition::THESIS.iter().map(|c| courses(*c, TUNING.start+1000..TUNING.start+1000+n)).collect();
    let val: Vec<Vec<Course>> = Condition::THESIS.iter().map(|c| courses(*c, TUNING.start..TUNING.start+150)).collect();
    let refs_of = |sets: &[Vec<Course>]| -> V { COSTS.iter().map(|c| Condition::THESIS.iter().zip(sets).map(|(k, cs)| Mean::of(&oracle(*k, cs, *c)).value).sum()).collect() };
    let (refs, vrefs) = (refs_of(&sets), refs_of(&val));
    let d = Weights::default();
    let start = vec![-5.5, -1.4, 7.0, 3.1, 2.7, 1.1, 0.0, 7.0, 0.55, 0.2, -1.2, 0.2, 0.0, -2.4, 0.03];
    let start = args.get(4).map_or(start, |s| s.trim().split(',').map(|x| x.trim().parse().unwrap()).collect());
    let scale = [0.5, 0.5, 0.8, 0.5, 0.5, 0.5, 0.5, 3.0, 0.1, 0.5, 0.5, 0.15, 0.5, 0.8, 0.1];
    let t = std::time::Instant::now();
    println!("start {:.4} val {:.4} {:?}", score(&start, &sets, &refs), score(&start, &val, &vrefs), t.elapsed()); println!("   {:.2?} rand {:.3?}", per(&start, &val), COSTS.iter().zip(&random().1).map(|(c, y)| costs(&random().0, Policy::Auto, of(&start, *c)).iter().sum::<f64>() / y).collect::<Vec<_>>());
    let dim = start.len(); let lam = 14; let mu = 6;
    let w: V = { let r: V = (0..mu).map(|i| (mu as f64 + 0.5).ln() - ((i+1) as f64).ln()).collect(); let s: f64 = r.iter().sum(); r.iter().map(|x| x/s).collect() };
    let mueff = 1.0 / w.iter().map(|x| x*x).sum::<f64>();
    let mut m: V = vec![0.0; dim]; let mut c = vec![vec![0.0; dim]; dim]; for i in 0..dim { c[i][i] = 1.0; }
    let mut sigma = 0.4; let mut pc = vec![0.0; dim]; let mut ps = vec![0.0; dim];
    let nd = dim as f64;
    let (cc, cs) = (4.0/(nd+4.0), (mueff+2.0)/(nd+mueff+5.0));
    let c1 = 2.0/((nd+1.3).powi(2)+mueff); let cmu = (1.0-c1).min(2.0*(mueff-2.0+1.0/mueff)/((nd+2.0).powi(2)+mueff));
    let damps = 1.0 + cs; let chi = nd.sqrt()*(1.0-1.0/(4.0*nd));
    let mut rng = wayfare_sim::Rng::new(args.get(3).map_or(1, |s| s.parse().unwrap()));
    let mut normal = move || { let u = ((rng.draw() >> 11) as f64 + 0.5) / (1u64<<53) as f64; let v = ((rng.draw() >> 11) as f64) / (1u64<<53) as f64; (-2.0*u.ln()).sqrt() * (std::f64::consts::TAU*v).cos() };
    let real = |y: &[f64]| -> V { (0..dim).map(|i| start[i] + scale[i]*y[i]).collect() };
    for g in 0..gens {
        let mut l = vec![vec![0.0; dim]; dim];
        for i in 0..dim { for j in 0..=i { let mut s: f64 = c[i][j]; for k in 0..j { s -= l[i][k]*l[j][k]; } if i == j { l[i][i] = s.max(1e-12).sqrt(); } else { l[i][j] = s / l[j][j]; } } }
        let zs: Vec<V> = (0..lam).map(|_| (0..dim).map(|_| normal()).collect()).collect();
        let ys: Vec<V> = zs.iter().map(|z| (0..dim).map(|i| (0..=i).map(|k| l[i][k]*z[k]).sum()).collect()).collect();
        let mut f: Vec<(f64, usize)> = (0..lam).into_par_iter().map(|i| { let x: V = (0..dim).map(|k| m[k] + sigma*ys[i][k]).collect(); (score(&real(&x), &sets, &refs), i) }).collect();
        f.sort_by(|a, b| a.0.total_cmp(&b.0));
        let yw: V = (0..dim).map(|k| (0..mu).map(|i| w[i]*ys[f[i].1][k]).sum()).collect();
        let zw: V = (0..dim).map(|k| (0..mu).map(|i| w[i]*zs[f[i].1][k]).sum()).collect();
        for k in 0..dim { m[k] += sigma*yw[k]; ps[k] = (1.0-cs)*ps[k] + (cs*(2.0-cs)*mueff).sqrt()*zw[k]; pc[k] = (1.0-cc)*pc[k] + (cc*(2.0-cc)*mueff).sqrt()*yw[k]; }
        for i in 0..dim { for j in 0..dim { c[i][j] = (1.0-c1-cmu)*c[i][j] + c1*pc[i]*pc[j] + cmu*(0..mu).map(|q| w[q]*ys[f[q].1][i]*ys[f[q].1][j]).sum::<f64>(); } }
        let norm: f64 = ps.iter().map(|x| x*x).sum::<f64>().sqrt();
        sigma *= ((cs/damps)*(norm/chi-1.0)).exp();
        if g % 10 == 9 || g + 1 == gens { let x = real(&m); println!("gen {g} best {:.4} sigma {sigma:.3} mean {:.4} val {:.4} {:.3?} {:?}", f[0].0, score(&x, &sets, &refs), score(&x, &val, &vrefs), x, t.elapsed()); println!("   {:.2?} rand {:.3?}", per(&x, &val), COSTS.iter().zip(&random().1).map(|(c, y)| costs(&random().0, Policy::Auto, of(&x, *c)).iter().sum::<f64>() / y).collect::<Vec<_>>()); }
    }
}
