use std::borrow::Cow;

/// How a connection ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Both directions were closed in order.
    Closed,
    /// It was open, and then reset.
    Reset,
    /// We or the peer refused it.
    Refused,
    /// It never came about.
    Failed,
}

impl Outcome {
    /// The stable label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Why a connection ended so: a stable label, and for people what else is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// How.
    pub outcome: Outcome,
    /// The stable label; the metric's too.
    pub label: &'static str,
    /// A sentence for the access log; empty when the label says it all.
    pub detail: Cow<'static, str>,
}

impl Reason {
    /// Both directions were closed in order.
    pub const CLOSED: Self = Self::known(Outcome::Closed, "closed");
    /// There is no original destination, or it is one of our own listeners.
    pub const LOOP: Self = Self::known(Outcome::Refused, "loop");
    /// An address inside the mesh networks that discovery does not know.
    pub const UNKNOWN_DESTINATION: Self = Self::known(Outcome::Refused, "unknown_destination");
    /// Discovery itself has no answer yet.
    pub const NO_DISCOVERY: Self = Self::known(Outcome::Failed, "no_discovery");
    /// A service without a ready endpoint.
    pub const NO_ENDPOINT: Self = Self::known(Outcome::Failed, "no_endpoint");
    /// We hold no SVID yet.
    pub const NO_SVID: Self = Self::known(Outcome::Failed, "no_svid");
    /// The original destination is no address of this pod that other pods may reach.
    pub const NOT_OUR_ADDRESS: Self = Self::known(Outcome::Refused, "not_our_address");
    /// Plaintext where mutual TLS is required.
    pub const PLAINTEXT_ON_STRICT: Self = Self::known(Outcome::Refused, "plaintext_on_strict");
    /// The client never said a byte.
    pub const HELLO_TIMEOUT: Self = Self::known(Outcome::Failed, "hello_timeout");
    /// The client went away before it said a byte.
    pub const HELLO_CLOSED: Self = Self::known(Outcome::Failed, "hello_closed");
    /// The peer's sidecar did not answer in time.
    pub const ANSWER_TIMEOUT: Self = Self::known(Outcome::Failed, "answer_timeout");
    /// The connection's task was ended from outside, as at the end of a drain.
    pub const ABORTED: Self = Self::known(Outcome::Reset, "aborted");

    const fn known(outcome: Outcome, label: &'static str) -> Self {
        Self { outcome, label, detail: Cow::Borrowed("") }
    }

    /// A reason with a sentence for people.
    pub fn new(outcome: Outcome, label: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome, label, detail: detail.into() }
    }
}
