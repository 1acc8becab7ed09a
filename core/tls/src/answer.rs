//! The answer byte of `kith/1`: the acceptor's first byte, before any of the application's (see `proto/WIRE.md`).

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What the acceptor says once it has authorized the client and reached its application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The application is connected; its bytes follow.
    Accepted,
    /// A refusal; nothing follows, and nothing was delivered.
    Refused(Refusal),
}

/// Why an acceptor refused. None of the client's bytes have reached an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Policy refuses the client.
    NotAllowed,
    /// The application can't be reached at this port.
    ApplicationUnreachable,
    /// The workload is going away.
    Draining,
}

/// A byte that means nothing in this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer answered with byte {0:#04x}, which kith/1 does not know")]
pub struct UnknownAnswer(pub u8);

impl Answer {
    /// The byte on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::Refused(Refusal::NotAllowed) => 1,
            Self::Refused(Refusal::ApplicationUnreachable) => 2,
            Self::Refused(Refusal::Draining) => 3,
        }
    }

    /// Reads a byte from the wire.
    ///
    /// # Errors
    /// When the byte is none of the codes.
    pub fn from_code(code: u8) -> Result<Self, UnknownAnswer> {
        match code {
            0 => Ok(Self::Accepted),
            1 => Ok(Self::Refused(Refusal::NotAllowed)),
            2 => Ok(Self::Refused(Refusal::ApplicationUnreachable)),
            3 => Ok(Self::Refused(Refusal::Draining)),
            other => Err(UnknownAnswer(other)),
        }
    }

    /// Reads the acceptor's answer. Silence is the caller's to bound.
    ///
    /// # Errors
    /// Whatever reading yields: an alert, a cut, or [`UnknownAnswer`] as `InvalidData`.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Self> {
        let code = stream.read_u8().await?;
        Self::from_code(code).map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
    }
}

impl Refusal {
    /// The stable label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAllowed => "not_allowed",
            Self::ApplicationUnreachable => "application_unreachable",
            Self::Draining => "draining",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_and_no_other_is_known() {
        let known = (0..=u8::MAX).filter(|code| match Answer::from_code(*code) {
            Ok(answer) => answer.code() == *code,
            Err(error) => error != UnknownAnswer(*code),
        });
        assert_eq!(known.collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
}
