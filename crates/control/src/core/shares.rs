//! Who has how much of the cluster. Owners are the names of tokens; a token's share is its owner's weight for the scheduler.

use super::{Core, problem};
use crate::store::Token;
use anyhow::Result;
use std::collections::BTreeMap;
use wayfare_api::{Problem, TaskState};

/// What an owner has of the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// Its weight.
    pub(crate) share: f64,
    /// Processors of what is starting or runs.
    pub(crate) cores: f64,
    /// Processors that its tasks wait for.
    pub(crate) waiting: f64,
    /// Core seconds that the scheduler has charged it since the controller began.
    pub(crate) charged: f64,
}

/// By owner: of those that have a token, or tasks that are not over.
pub(crate) type Usages = BTreeMap<String, Usage>;

impl Core {
    /// The scheduler is told of what was said before.
    pub(super) fn weigh(&mut self) -> Result<()> {
        for token in self.store.tokens()? {
            self.engine.set_weight(&token.name, token.share);
        }
        Ok(())
    }

    pub(super) fn usages(&self) -> Result<Usages> {
        let of = |share: f64, name: &str| Usage { share, charged: self.engine.charged(name), ..Usage::default() };
        let tokens = self.store.tokens()?.into_iter();
        let mut all: Usages = tokens.map(|token| (token.name.clone(), of(token.share, &token.name))).collect();
        for task in self.tasks.values().filter(|task| !task.state.is_over()) {
            let owner = self.owner(task);
            let usage = match all.get_mut(owner) {
                Some(usage) => usage,
                None => all.entry(owner.into()).or_insert_with(|| of(1.0, owner)),
            };
            match task.state {
                TaskState::Waiting => usage.waiting += task.request.cores,
                _ => usage.cores += task.request.cores,
            }
        }
        Ok(all)
    }

    pub(super) fn put_token(&mut self, token: &Token) -> Result<Result<(), Problem>> {
        if self.store.tokens()?.iter().any(|other| other.name == token.name) {
            return Ok(Err(problem(409, format!("there is a token named {} already", token.name))));
        }
        self.store.put_token(token)?;
        self.engine.set_weight(&token.name, token.share);
        Ok(Ok(()))
    }

    pub(super) fn put_share(&mut self, name: &str, share: f64) -> Result<Result<(), Problem>> {
        if !self.store.put_share(name, share)? {
            return Ok(Err(problem(404, format!("no token named {name} is known"))));
        }
        self.engine.set_weight(name, share);
        Ok(Ok(()))
    }

    /// What was submitted with it stays, and counts as anybody's.
    pub(super) fn end_token(&mut self, name: &str) -> Result<Result<(), Problem>> {
        if !self.store.remove_token(name)? {
            return Ok(Err(problem(404, format!("no token named {name} is known"))));
        }
        self.engine.set_weight(name, 1.0);
        Ok(Ok(()))
    }
}
