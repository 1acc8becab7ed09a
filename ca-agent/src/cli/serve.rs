use kith_runtime::{clock::Clock, exit::Failure, process, signals::Termination, telemetry};
use tracing::info;

use crate::{app::Agent, config::Serve};

/// Runs the agent until it is asked to end.
pub(super) fn run(settings: Serve) -> Result<(), Failure> {
    telemetry::init(&settings.log, settings.log_format)
        .map_err(|error| Failure::settings(format!("--log: {error}")))?;
    process::harden().map_err(Failure::runtime)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::runtime)?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: Serve) -> Result<(), Failure> {
    let mut termination = Termination::catch().map_err(Failure::runtime)?;
    let agent = Agent::start(settings, Clock::system())
        .await
        .map_err(|error| if error.is_settings() { Failure::settings(error) } else { Failure::runtime(error) })?;
    let signal = termination.requested().await;
    info!(signal, "Asked to stop");
    tokio::select! {
        () = agent.stop() => Ok(()),
        // Asking twice is asking for now.
        _ = termination.requested() => Err(Failure::runtime("stopped before everything was finished")),
    }
}
