//! Errors as gRPC clients see them.

use std::fmt::Display;

use tonic::{Code, Status, metadata::MetadataValue};

use crate::store::StoreError;

/// Where the stable reason stands in the metadata of an error.
const REASON: &str = "kith-reason";

/// An error with its stable reason: at the beginning of the message for people, and in the metadata for programs.
pub(crate) fn refused(code: Code, reason: &'static str, message: impl Display) -> Status {
    let mut status = Status::new(code, format!("{reason}: {message}"));
    status.metadata_mut().insert(REASON, MetadataValue::from_static(reason));
    status
}

/// The request is wrong, and stays so.
pub(crate) fn invalid(reason: &'static str, message: impl Display) -> Status {
    refused(Code::InvalidArgument, reason, message)
}

/// The store failed.
pub(crate) fn store_failed(error: StoreError) -> Status {
    refused(Code::Unavailable, "store_unavailable", error)
}
