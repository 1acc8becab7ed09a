//! A conversation with PostgreSQL that stays open.

use std::{io::Write as _, process::ChildStdin, time::Duration};

use kith_tests::{PodCommand, Process, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

/// psql, waiting for the next question.
#[derive(Debug)]
pub(crate) struct Session {
    process: Process,
    questions: ChildStdin,
    asked: usize,
}

impl Session {
    pub(crate) fn begin(psql: PodCommand) -> Self {
        let mut process = psql.stdin_piped().spawn();
        let questions = process.stdin().expect("a pipe");
        Self { process, questions, asked: 0 }
    }

    /// Asks something that has one line for an answer.
    pub(crate) fn ask(&mut self, question: &str) -> String {
        writeln!(self.questions, "{question}").expect("psql reads");
        self.asked += 1;
        wait_for(&format!("psql answers {question:?}"), PATIENCE, || {
            assert!(self.process.is_running(), "the session ended: {}", self.process.log());
            let said = self.process.stdout();
            let whole = said.rfind('\n').map_or("", |end| &said[..end]);
            whole.lines().nth(self.asked - 1).map(str::to_owned)
        })
    }

    /// Ends it in order.
    pub(crate) fn end(self) {
        let Self { process, questions, .. } = self;
        drop(questions);
        let _ = process.wait_for_exit(PATIENCE).success();
    }
}
