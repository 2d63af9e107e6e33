//! Plans of sets: what would go where, and when, without anything of it being done.

use super::{App, Failed, Said, failed};
use crate::core::Command;
use crate::plan;
use axum::Json;
use axum::extract::State;
use std::time::Duration;
use tokio::sync::Semaphore;
use wayfare_api::{PlanRequest, PlanView};

/// Plans that are made at once: each may keep a processor busy for seconds.
static AT_ONCE: Semaphore = Semaphore::const_new(2);
/// How long one may wait for its turn.
const TURN: Duration = Duration::from_secs(20);

/// Plans a set: what would go where, and when, beside what runs and waits. Nothing of it is done.
#[utoipa::path(post, path = "/v1/plan", tag = "work", request_body = PlanRequest, responses(
    (status = 200, body = PlanView),
))]
pub(super) async fn plan(State(app): State<App>, Said(request): Said<PlanRequest>) -> Result<Json<PlanView>, Failed> {
    let policy = plan::check(&request).map_err(Failed)?;
    let turn = tokio::time::timeout(TURN, AT_ONCE.acquire()).await;
    let Ok(Ok(permit)) = turn else { return Err(failed(503, "too many plans are being made: ask again")) };
    let set = request.set.clone();
    let scene = app.ask(|answer| Command::Scene { set, answer }).await?;
    // The permit goes along: a client that hangs up does not end the work.
    let made = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        plan::make(&request, policy, scene)
    });
    match made.await {
        Ok(made) => made.map(Json).map_err(Failed),
        Err(_) => Err(failed(500, "the plan could not be made")),
    }
}

#[cfg(test)]
mod tests {
    use wayfare_sched::Policy;

    #[test]
    fn the_description_names_the_policies_that_there_are() {
        let described: serde_json::Value = serde_json::from_str(&crate::openapi()).unwrap();
        let names = &described["components"]["schemas"]["PlanPolicy"]["enum"];
        assert_eq!(*names, serde_json::json!(Policy::ALL.map(|(_, name)| name)));
    }
}
