//! `wayfare token`: who may ask the controller, besides those who can read its directory.

use crate::api::Api;
use crate::cli::{AddToken, EndToken, Format, ListTokens, RoleName, ShareToken, TokenCommand};
use crate::output::{self, Paint};
use anyhow::Result;
use serde_json::json;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wayfare_api::{Role, ShareRequest, TokenMade, TokenRequest, TokenView};

/// Does what is asked.
///
/// # Errors
/// When the controller does not answer, or does not do it.
pub fn run(command: TokenCommand) -> Result<ExitCode> {
    match command {
        TokenCommand::Add(args) => add(&args),
        TokenCommand::Ls(args) => list(&args),
        TokenCommand::Share(args) => share(&args),
        TokenCommand::Rm(args) => end(&args),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn add(args: &AddToken) -> Result<()> {
    let api = Api::of(args.at.state.as_deref())?;
    let role = match args.role {
        RoleName::View => Role::View,
        RoleName::Operate => Role::Operate,
        RoleName::Admin => Role::Admin,
    };
    let ttl = args.ttl.map(|ttl| ttl.as_secs().max(1));
    let wish = TokenRequest { name: args.name.clone(), role, ttl, share: args.share };
    let made: TokenMade = api.ask("/v1/tokens", &serde_json::to_vec(&wish)?)?;
    output::print_json(&json!(api.access(&made.token)))
}

fn list(args: &ListTokens) -> Result<()> {
    let tokens: Vec<TokenView> = Api::of(args.at.state.as_deref())?.get("/v1/tokens")?;
    if args.output == Format::Json {
        return output::print_json(&json!(tokens));
    }
    let row = |token: &TokenView| {
        vec![
            token.name.clone(),
            token.role.name().into(),
            left(token.expires),
            token.share.to_string(),
            hundredths(token.cores),
            hundredths(token.cores_waiting),
            format!("{:.0}", token.core_seconds),
        ]
    };
    let rows: Vec<Vec<String>> = tokens.iter().map(row).collect();
    let head = ["NAME", "ROLE", "HOLDS", "SHARE", "CORES", "WAITING", "CORE-SECONDS"];
    output::print(&output::table(&head, &rows, Paint::stdout()))
}

/// Processors, as they are counted: sums of such parts are not exact.
fn hundredths(cores: f64) -> String {
    ((cores * 100.0).round() / 100.0).to_string()
}

fn share(args: &ShareToken) -> Result<()> {
    let wish = ShareRequest { share: args.share };
    Api::of(args.at.state.as_deref())?.put(&format!("/v1/tokens/{}/share", args.name), &serde_json::to_vec(&wish)?)
}

fn left(expires: Option<u64>) -> String {
    let Some(end) = expires else { return "without end".into() };
    match (UNIX_EPOCH + Duration::from_millis(end)).duration_since(SystemTime::now()) {
        Ok(left) => output::long_duration(left),
        Err(_) => "over".into(),
    }
}

fn end(args: &EndToken) -> Result<()> {
    Api::of(args.at.state.as_deref())?.delete(&format!("/v1/tokens/{}", args.name))
}
