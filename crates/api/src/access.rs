//! Who may ask, and how they say so.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a token's holder may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    View,
    /// Submit tasks, too, cancel, move and remove them.
    Operate,
    /// All: nodes and tokens included.
    Admin,
}

impl Role {
    /// All, the least first.
    pub const ALL: [Role; 3] = [Role::View, Role::Operate, Role::Admin];

    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Role::View => "view",
            Role::Operate => "operate",
            Role::Admin => "admin",
        }
    }
}

/// A token that somebody wants to have made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// Whose it is: what its holder submits has this name, and shares nodes fairly with what others submit.
    #[schema(min_length = 1, max_length = 48, pattern = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// Seconds that it holds; without end if none are given.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000000000)]
    pub ttl: Option<u64>,
    /// Its part of the cluster against that of others who wait.
    #[serde(default = "one")]
    #[schema(minimum = 0.001, maximum = 1000)]
    pub share: f64,
}

fn one() -> f64 {
    1.0
}

/// Parts of the cluster that an owner may have against others'.
pub const SHARES: std::ops::RangeInclusive<f64> = 0.001..=1000.0;

/// What part of the cluster a token's tasks are to have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShareRequest {
    /// Against 1 of others, while these wait, too.
    #[schema(minimum = 0.001, maximum = 1000)]
    pub share: f64,
}

/// A token, as it is shown once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenMade {
    /// Whose it is.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// The token: whoever has it may ask.
    pub token: String,
}

/// A token, as it is listed, with what its tasks have of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Whose it is.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// Until when it holds, milliseconds since 1970.
    pub expires: Option<u64>,
    /// Its part of the cluster against that of others who wait.
    pub share: f64,
    /// Processors that its tasks have now.
    pub cores: f64,
    /// Processors that its tasks wait for.
    pub cores_waiting: f64,
    /// Core seconds, on processors of the usual speed, that its tasks have been charged since the controller began: what runs counts for
    /// as long as it is thought to run.
    pub core_seconds: f64,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoView {
    /// The token's name.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// Somebody signs in at a browser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// A token.
    pub token: String,
}
