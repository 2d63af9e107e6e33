//! What was run, refused and skipped, and its comparison with what is on record.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Counts of one file, or of all.
#[derive(Default)]
pub struct Tally {
    name: String,
    /// Line of the directive at hand.
    pub line: usize,
    pub files: u64,
    pub modules: u64,
    /// Invalid modules that were refused, as they must be.
    pub refused: u64,
    pub plain: u64,
    /// Assertions passed while carried: as written, and with a poll before every instruction.
    pub carried: [u64; 2],
    moves: [u64; 2],
    /// Reasons, with how often.
    counts: BTreeMap<String, u64>,
    pub failures: Vec<String>,
}

impl Tally {
    pub fn new(name: &str) -> Self {
        Tally { name: name.to_owned(), ..Tally::default() }
    }

    pub fn count(&mut self, reason: &str) {
        *self.counts.entry(reason.to_owned()).or_default() += 1;
    }

    pub fn fail(&mut self, what: &str) {
        self.failures.push(format!("{}:{}: {what}", self.name, self.line));
    }

    pub fn moved(&mut self, dense: bool, moves: u64) {
        self.moves[usize::from(dense)] += moves;
    }

    pub fn add(&mut self, other: Tally) {
        self.files += other.files;
        self.modules += other.modules;
        self.refused += other.refused;
        self.plain += other.plain;
        for i in 0..2 {
            self.carried[i] += other.carried[i];
            self.moves[i] += other.moves[i];
        }
        for (reason, n) in other.counts {
            *self.counts.entry(reason).or_default() += n;
        }
        self.failures.extend(other.failures);
    }

    pub fn moves(&self) -> String {
        format!("{} at the modules' own polls, {} with a poll before every instruction", self.moves[0], self.moves[1])
    }

    /// Everything that must not change unnoticed: not the moves, which depend on where polls are.
    pub fn report(&self) -> String {
        let mut out = String::new();
        let mut line = |n: u64, what: &str| writeln!(out, "{n:>7}  {what}").expect("memory");
        line(self.files, "files");
        line(self.modules, "modules");
        line(self.refused, "invalid modules refused");
        line(self.plain, "assertions passed, plain");
        line(self.carried[0], "assertions passed, carried at the module's own polls");
        line(self.carried[1], "assertions passed, carried with a poll before every instruction");
        for (reason, n) in &self.counts {
            line(*n, reason);
        }
        out
    }

    pub fn compare(&self, path: &str) {
        assert!(self.moves.iter().all(|m| *m > 1000), "hardly anything was moved: {}", self.moves());
        if std::env::var_os("WAYFARE_BLESS").is_some() {
            std::fs::write(path, self.report()).expect("writes the record");
        }
        let record = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(record, self.report(), "what is refused or skipped has changed; WAYFARE_BLESS=1 records it");
    }
}

/// A reason without the types that are particular to one module.
pub fn reason(refusal: &wayfare_instrument::Refusal) -> String {
    let mut words: Vec<&str> = Vec::new();
    let mut depth = 0usize;
    for word in refusal.reason.split(' ') {
        let opened = word.matches('(').count();
        if depth == 0 && opened == 0 {
            words.push(word);
        }
        let before = depth;
        depth = (depth + opened).saturating_sub(word.matches(')').count());
        if depth == 0 && (before > 0 || opened > 0) {
            words.push(if word.ends_with(',') { "reference," } else { "reference" });
        }
    }
    words.join(" ")
}
