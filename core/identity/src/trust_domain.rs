use std::{fmt, str::FromStr, sync::Arc};

/// The name of a trust domain (SPIFFE-ID §2.1): 1 to 255 lower-case letters, digits, dots, dashes and underscores.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

/// Why a string is no trust domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustDomainError {
    /// Nothing between `spiffe://` and the path.
    #[error("a trust domain is never empty")]
    Empty,
    /// More than 255 bytes.
    #[error("a trust domain has at most 255 characters")]
    TooLong,
    /// Upper case, a port, user information, or any other character outside the set.
    #[error("a trust domain holds only a-z, 0-9, '.', '-' and '_', not {0:?}")]
    Character(char),
}

impl TrustDomain {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 255;

    /// The name, without scheme.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = TrustDomainError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if name.is_empty() {
            return Err(TrustDomainError::Empty);
        }
        if name.len() > Self::MAX_LEN {
            return Err(TrustDomainError::TooLong);
        }
        match name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_')) {
            Some(c) => Err(TrustDomainError::Character(c)),
            None => Ok(Self(name.into())),
        }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustDomain({})", self.0)
    }
}

crate::id::serde_as_string!(TrustDomain);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_standards_characters_only() {
        for name in ["example.org", "a", "prod_1.eu-west", "127.0.0.1"] {
            assert_eq!(name.parse::<TrustDomain>().unwrap().as_str(), name);
        }
        assert_eq!("".parse::<TrustDomain>(), Err(TrustDomainError::Empty));
        assert_eq!("Example.org".parse::<TrustDomain>(), Err(TrustDomainError::Character('E')));
        assert_eq!("a:80".parse::<TrustDomain>(), Err(TrustDomainError::Character(':')));
        assert_eq!("u@a".parse::<TrustDomain>(), Err(TrustDomainError::Character('@')));
        assert_eq!("ä.org".parse::<TrustDomain>(), Err(TrustDomainError::Character('ä')));
        assert_eq!("a".repeat(256).parse::<TrustDomain>(), Err(TrustDomainError::TooLong));
        assert!("a".repeat(255).parse::<TrustDomain>().is_ok());
    }
}
