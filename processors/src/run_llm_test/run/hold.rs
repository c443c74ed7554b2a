//! Holds a run in a stage, so that a test can aim a kill at one that is over in a millisecond. Debug builds only: a released
//! agent has nothing of it.

use std::time::Duration;

use crate::run_llm_test::state::Stage;

/// Long enough for a test to see the stage in the journal and to kill the agent.
const HOLD: Duration = Duration::from_secs(3);

/// Waits if the environment of the agent names this stage in `TESTRIG_HOLD_STAGE`.
pub(super) async fn in_stage(stage: Stage) {
    if cfg!(debug_assertions) && std::env::var_os("TESTRIG_HOLD_STAGE").is_some_and(|wanted| wanted == stage.name()) {
        tokio::time::sleep(HOLD).await;
    }
}
