use std::io;

use rustls::{AlertDescription, PeerIncompatible};

use crate::Rejection;

/// How a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// We refused the peer.
    #[error("{0}")]
    Rejected(#[from] Rejection),
    /// The peer refused us.
    #[error("the peer ended the handshake with alert {}", alert_name(*.0))]
    Alert(AlertDescription),
    /// The peer speaks no TLS 1.3.
    #[error("the peer does not speak TLS 1.3")]
    ProtocolVersion,
    /// TLS 1.3, but no algorithm in common.
    #[error("no algorithm in common with the peer: {0}")]
    Incompatible(String),
    /// What arrived is no TLS, or breaks it.
    #[error("the peer broke the TLS protocol: {0}")]
    Protocol(String),
    /// The peer was too slow.
    #[error("the handshake did not end in time")]
    Timeout,
    /// Too many handshakes were under way, and this was the oldest from the most crowded source.
    #[error("the handshake had to make room for newer ones")]
    CrowdedOut,
    /// The connection ended or was reset.
    #[error("the connection ended during the handshake")]
    Closed,
    /// Our own SVID has expired: it is never presented again.
    #[error("our own SVID has expired; its renewal says why")]
    OwnSvidExpired,
}

impl HandshakeError {
    /// The stable label.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.as_str(),
            Self::Alert(alert) => alert_label(*alert),
            Self::ProtocolVersion => "protocol_version",
            Self::Incompatible(_) => "incompatible",
            Self::Protocol(_) => "protocol",
            Self::Timeout => "timeout",
            Self::CrowdedOut => "crowded_out",
            Self::Closed => "closed",
            Self::OwnSvidExpired => "own_svid_expired",
        }
    }

    pub(crate) fn from_io(error: &io::Error) -> Self {
        match rustls_error(error) {
            None => Self::from_transport(error),
            Some(rustls::Error::AlertReceived(alert)) => Self::Alert(*alert),
            Some(rustls::Error::NoCertificatesPresented) => Self::Rejected(Rejection::NoCertificate),
            Some(rustls::Error::PeerIncompatible(reason)) => Self::from_incompatible(reason),
            Some(other) => Self::Protocol(other.to_string()),
        }
    }

    /// rustls reports some of its limits, such as a full buffer of tiny records, as plain I/O errors.
    fn from_transport(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::Other | io::ErrorKind::InvalidData => Self::Protocol(error.to_string()),
            _ => Self::Closed,
        }
    }

    fn from_incompatible(reason: &PeerIncompatible) -> Self {
        use PeerIncompatible as P;
        match reason {
            P::ServerDoesNotSupportTls12Or13
            | P::ServerTlsVersionIsDisabledByOurConfig
            | P::SupportedVersionsExtensionRequired
            | P::Tls12NotOffered
            | P::Tls12NotOfferedOrEnabled
            | P::Tls13RequiredForQuic => Self::ProtocolVersion,
            other => Self::Incompatible(format!("{other:?}")),
        }
    }
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// The alert that an I/O error of a [`crate::TlsStream`] stands for. In TLS 1.3 a client is done before the server has
/// looked at its certificate, so a refusal may arrive as the first read's error.
#[must_use]
pub fn alert_label(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CertificateRequired => "alert_certificate_required",
        AlertDescription::UnknownCA => "alert_unknown_ca",
        AlertDescription::CertificateExpired => "alert_certificate_expired",
        AlertDescription::CertificateRevoked => "alert_certificate_revoked",
        AlertDescription::BadCertificate => "alert_bad_certificate",
        AlertDescription::UnsupportedCertificate => "alert_unsupported_certificate",
        AlertDescription::CertificateUnknown => "alert_certificate_unknown",
        AlertDescription::AccessDenied => "alert_access_denied",
        AlertDescription::ProtocolVersion => "alert_protocol_version",
        AlertDescription::HandshakeFailure => "alert_handshake_failure",
        AlertDescription::DecryptError => "alert_decrypt_error",
        AlertDescription::NoApplicationProtocol => "alert_no_application_protocol",
        _ => "alert_other",
    }
}

fn alert_name(alert: AlertDescription) -> &'static str {
    alert_label(alert).trim_start_matches("alert_")
}

/// The fatal alert behind an I/O error, if it is one.
pub(crate) fn alert_of(error: &io::Error) -> Option<AlertDescription> {
    match rustls_error(error)? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}
