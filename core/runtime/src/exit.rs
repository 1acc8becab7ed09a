//! How a process of ours ends: 0 after a drain, 1 when it failed at its work, 2 when what it was told is wrong.

use std::{
    error::Error,
    io::{self, Write as _},
    process::ExitCode,
};

/// Why a process ends other than in order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// A flag, a variable or a file that settings name is wrong: no restart mends it. Exit code 2.
    #[error("{}", chain(.0.as_ref()))]
    Settings(Box<dyn Error + Send + Sync>),
    /// It failed at its work. Exit code 1.
    #[error("{}", chain(.0.as_ref()))]
    Runtime(Box<dyn Error + Send + Sync>),
}

impl Failure {
    /// Something is wrong with the settings; the error should name it, its value and what was expected.
    pub fn settings(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Settings(error.into())
    }

    /// Something went wrong at run time.
    pub fn runtime(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Runtime(error.into())
    }

    /// The code for the shell: 2 or 1.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Settings(_) => 2,
            Self::Runtime(_) => 1,
        }
    }
}

/// The last line of `main`: says on standard error what failed, whether or not logs are set up, and gives the code.
#[must_use]
pub fn finish(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // When even standard error is gone, the code still tells.
            let _ = writeln!(io::stderr(), "error: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

/// The error and what caused it, each once, though some errors print their cause themselves.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.ends_with(&reason) {
            text = format!("{text}: {reason}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen;

    #[test]
    fn wrong_settings_are_two_and_failures_one() {
        assert_eq!(Failure::settings("KITH_PORT").code(), 2);
        assert_eq!(Failure::runtime("the store is gone").code(), 1);
        let code = |result| format!("{:?}", finish(result));
        assert_eq!(code(Ok(())), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(Err(Failure::settings("KITH_PORT"))), format!("{:?}", ExitCode::from(2)));
    }

    #[test]
    fn says_every_cause_once() {
        let address = "127.0.0.1:1".parse().unwrap();
        let cause = || io::Error::other("the port is taken");
        let silent = Failure::runtime(listen::BindError { address, source: cause() });
        assert_eq!(silent.to_string(), "can't listen on 127.0.0.1:1: the port is taken");

        #[derive(Debug, thiserror::Error)]
        #[error("bad start: {0}")]
        struct Talkative(#[from] io::Error);
        assert_eq!(Failure::runtime(Talkative(cause())).to_string(), "bad start: the port is taken");
    }
}
