//! The `init` subcommand: capture, in the network namespace that it runs in.

use std::io::{self, Write as _};

use kith_runtime::exit::Failure;

use crate::{
    config::InitConfig,
    redirect::{apply, plan, render, undo},
};

/// Applies, prints or removes the plan.
///
/// # Errors
/// When the settings contradict each other, or the kernel does not have exactly the planned rules afterwards.
pub fn run(config: &InitConfig) -> Result<(), Failure> {
    if config.undo {
        return undo().map_err(Failure::runtime);
    }
    config.capture.check().map_err(Failure::settings)?;
    let plan = plan(&config.capture);
    if config.dry_run {
        return io::stdout().write_all(render(&plan).as_bytes()).map_err(Failure::runtime);
    }
    apply(&plan).map_err(Failure::runtime)
}
