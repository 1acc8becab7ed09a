use std::collections::HashMap;

use serde_saphyr::Spanned;

use super::{MeshFileError, Problem, scalars::Name};

/// Names that must be unique, with the line on which each was given.
#[derive(Default)]
pub(super) struct Names(HashMap<String, u64>);

impl Names {
    pub(super) fn add(&mut self, name: &Spanned<Name>, field: impl Into<String>) -> Result<(), MeshFileError> {
        match self.0.insert(name.value.0.clone(), name.referenced.line()) {
            None => Ok(()),
            Some(line) => {
                let problem = Problem::DuplicateName { name: name.value.0.clone(), line };
                Err(MeshFileError::at(name, field, problem))
            }
        }
    }
}
