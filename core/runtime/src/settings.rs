//! Settings from flags and variables: what is wrong is named by the name that the operator wrote, with what was expected.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    process,
    time::Duration,
};

use clap::{
    Command, Parser,
    error::{ContextKind, ContextValue},
};

/// Beyond this, adding to a clock's time could fail.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Reads the process's flags and variables. Help and version end it with 0, anything wrong with 2.
#[must_use]
pub fn parse<T: Parser>() -> T {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    T::try_parse_from(&arguments).unwrap_or_else(|error| {
        // When even standard error is gone, the code still tells.
        let _ = error.print();
        if let Some(variable) = variable_of(&error, &T::command(), &arguments) {
            let _ = writeln!(io::stderr(), "The value comes from the variable {variable}.");
        }
        process::exit(error.exit_code())
    })
}

/// The variable that a wrong value came from: errors name the flag alone, and an operator may never have written that.
fn variable_of(error: &clap::Error, command: &Command, arguments: &[OsString]) -> Option<String> {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return None };
    let flag = shown.split([' ', '=']).next()?.strip_prefix("--")?;
    let given = |argument: &OsString| {
        let argument = argument.to_string_lossy();
        let name = argument.strip_prefix("--");
        name.is_some_and(|name| name.split('=').next() == Some(flag))
    };
    if arguments.iter().any(given) {
        return None;
    }
    let commands = std::iter::once(command).chain(command.get_subcommands());
    let mut flags = commands.flat_map(Command::get_arguments).filter(|arg| arg.get_long() == Some(flag));
    let variable = flags.find_map(clap::Arg::get_env)?;
    std::env::var_os(variable).map(|_| variable.to_string_lossy().into_owned())
}

/// A duration, zero included, such as `30s` or `1m 30s`.
///
/// # Errors
/// What was expected, when it is none or longer than 100 years.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        Ok(_) => Err("expected a duration of at most 100 years".to_owned()),
        Err(error) => Err(format!("{error}; expected a duration such as 500ms, 30s, 10m or 4h")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Sub,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Sub {
        Run {
            /// HOME is a variable that a test finds set, and no number.
            #[arg(long, env = "HOME")]
            bound: u32,
        },
    }

    fn blamed(arguments: &[&str]) -> Option<String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let error = Cli::try_parse_from(&arguments).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        variable_of(&error, &<Cli as clap::CommandFactory>::command(), &arguments)
    }

    #[test]
    fn a_wrong_variable_is_named_and_a_wrong_flag_blames_no_variable() {
        assert_eq!(blamed(&["kith", "run"]).as_deref(), Some("HOME"));
        assert_eq!(blamed(&["kith", "run", "--bound", "x"]), None);
        assert_eq!(blamed(&["kith", "run", "--bound=x"]), None);
        assert_eq!(blamed(&["kith", "run", "--other"]), None);
    }

    #[test]
    fn a_duration_has_a_unit_and_a_bound() {
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "10", "soon", "-1s", "200y"] {
            assert!(duration(wrong).unwrap_err().contains("expected a duration"), "{wrong}");
        }
    }
}
