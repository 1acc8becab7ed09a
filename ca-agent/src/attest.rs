//! Who asks for a certificate: every way to prove it ends in a [`Subject`], or in a reason.

pub(crate) mod join_token;
mod subject;
pub(crate) mod svid;

pub(crate) use self::subject::{AttestError, Subject, check_token_subject, renewed};
