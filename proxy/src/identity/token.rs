use std::{convert::Infallible, fmt, fs, io, path::PathBuf, str::FromStr};

use kith_tls::RootPin;
use zeroize::Zeroizing;

/// A one-time join token, `<secret>` or `<secret>.<pin of the CA's root>`. It is wiped when dropped and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken(Zeroizing<String>);

/// Where the join token is.
#[derive(Debug, Clone)]
pub(super) enum TokenSource {
    None,
    Given(JoinToken),
    File(PathBuf),
}

/// Why there is no join token.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    #[error("no join token is configured")]
    NotConfigured,
    #[error("the join token file {} can't be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the join token file {} is empty", path.display())]
    Empty { path: PathBuf },
}

impl JoinToken {
    /// The pin that it carries.
    #[must_use]
    pub fn pin(&self) -> Option<RootPin> {
        self.0.rsplit_once('.')?.1.parse().ok()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The whole text: secret.
    #[must_use]
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for JoinToken {
    /// An error that repeats what it could not read would print a secret; emptiness is refused with the settings.
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(Zeroizing::new(text.trim().to_owned())))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(secret)")
    }
}

impl TokenSource {
    /// Whether there may ever be a token.
    pub(super) fn is_configured(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// The token as it is now: an operator may have replaced the file.
    pub(super) fn read(&self) -> Result<JoinToken, TokenError> {
        match self {
            Self::None => Err(TokenError::NotConfigured),
            Self::Given(token) => Ok(token.clone()),
            Self::File(path) => {
                let unreadable = |source| TokenError::Unreadable { path: path.clone(), source };
                let text = Zeroizing::new(fs::read_to_string(path).map_err(unreadable)?);
                let token = JoinToken(Zeroizing::new(text.trim().to_owned()));
                if token.is_empty() { Err(TokenError::Empty { path: path.clone() }) } else { Ok(token) }
            }
        }
    }
}

impl TokenError {
    /// The stable label.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::NotConfigured => "no_join_token",
            Self::Unreadable { .. } => "join_token_unreadable",
            Self::Empty { .. } => "join_token_empty",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_what_follows_the_last_dot() {
        let pin = "ab".repeat(32);
        let token = |text: &str| text.parse::<JoinToken>().unwrap();
        assert_eq!(token(&format!("a.b.{pin}\n")).pin().unwrap().to_string(), pin);
        assert_eq!(token(&format!("a{pin}")).pin(), None);
        assert_eq!(token("a.b").pin(), None);
        assert_eq!(format!("{:?}", token("a")), "JoinToken(secret)");
    }

    #[test]
    fn a_file_is_read_as_it_is_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let source = TokenSource::File(path.clone());
        let label = |source: &TokenSource| source.read().unwrap_err().as_str();
        assert_eq!(label(&source), "join_token_unreadable");
        fs::write(&path, " \n").unwrap();
        assert_eq!(label(&source), "join_token_empty");
        fs::write(&path, "first\n").unwrap();
        assert_eq!(source.read().unwrap().expose(), "first");
        fs::write(&path, "second").unwrap();
        assert_eq!(source.read().unwrap().expose(), "second");
        assert_eq!(label(&TokenSource::None), "no_join_token");
    }
}
