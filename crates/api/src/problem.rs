//! What is wrong with a request, by field.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// Something in a request that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Wrong {
    /// Where, as `tasks[3].cores`; empty for the whole.
    pub field: String,
    /// What, and what would be right.
    pub message: String,
}

impl Wrong {
    /// About a field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Wrong {
        Wrong { field: field.into(), message: message.into() }
    }
}

/// An answer that is none: RFC 9457.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, in a line.
    pub title: String,
    /// By field, where there is more to say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Wrong>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)?;
        for wrong in &self.errors {
            write!(f, "\n  {}: {}", if wrong.field.is_empty() { "request" } else { &wrong.field }, wrong.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// Reads JSON.
///
/// # Errors
/// Which field is wrong, in which line and column.
pub fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, Wrong> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let field = e.path().to_string();
        Wrong::new(if field == "." { String::new() } else { field }, e.into_inner().to_string())
    })?;
    reader.end().map_err(|e| Wrong::new("", e.to_string()))?;
    Ok(value)
}
