#![allow(missing_docs, unused_qualifications)]
use wayfare_sim::naps::{*, judge::*, plot::*};
use wayfare_policy::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let course = if a[1].ends_with("csv") { Course::parse("drive 04", &std::fs::read_to_string(&a[1]).unwrap()).unwrap() } else { a[1].parse::<Condition>().unwrap().course(HELD_OUT.start) };
    let ps: Vec<Policy> = ["auto", "naps", "fixed:8m"].iter().map(|p| p.parse().unwrap()).collect();
    let os: Vec<Outcome> = ps.iter().map(|p| run(&course, &mut run::Driven::new(*p, settings(1.0)))).collect();
    let names: Vec<String> = ps.iter().map(ToString::to_string).collect();
    let lanes: Vec<Lane> = names.iter().zip(&os).map(|(n, o)| Lane { name: n, outcome: o }).collect();
    println!("{}", svg(&course, &lanes, 1.0));
}
