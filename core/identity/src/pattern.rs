use std::{fmt, str::FromStr};

use crate::{IdError, SpiffeId};

/// A pattern over SPIFFE IDs. The trust domain is literal; in the path `*` stands for exactly one segment,
/// and a last segment `**` for one or more.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdPattern {
    text: String,
    trust_domain: crate::TrustDomain,
    segments: Vec<Segment>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Segment {
    Literal(String),
    One,
    Rest,
}

/// Why a string is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// With its wildcards filled in it would be no SPIFFE ID.
    #[error("{0}; a pattern is a SPIFFE ID in which a whole segment may be '*', and the last one '**'")]
    Id(#[from] IdError),
    /// `**` before the end.
    #[error("'**' stands only at the end of a pattern")]
    RestInTheMiddle,
}

impl IdPattern {
    /// Whether the pattern covers this ID.
    #[must_use]
    pub fn matches(&self, id: &SpiffeId) -> bool {
        if &self.trust_domain != id.trust_domain() {
            return false;
        }
        let mut names = id.segments();
        for segment in &self.segments {
            match (segment, names.next()) {
                (Segment::Rest, Some(_)) => return true,
                (Segment::One, Some(_)) => {}
                (Segment::Literal(expected), Some(name)) if expected == name => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }

    /// The trust domain that every ID it covers belongs to.
    #[must_use]
    pub fn trust_domain(&self) -> &crate::TrustDomain {
        &self.trust_domain
    }
}

impl FromStr for IdPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A pattern is valid exactly when the ID is that it becomes once every wildcard is a name.
        let filled: Vec<&str> = text.split('/').map(|s| if matches!(s, "*" | "**") { "x" } else { s }).collect();
        let id: SpiffeId = filled.join("/").parse()?;
        let mut segments = Vec::new();
        let mut names = text.split('/').skip(3).peekable();
        while let Some(name) = names.next() {
            segments.push(match name {
                "**" if names.peek().is_some() => return Err(PatternError::RestInTheMiddle),
                "**" => Segment::Rest,
                "*" => Segment::One,
                literal => Segment::Literal(literal.to_owned()),
            });
        }
        // The trust domain is literal: `spiffe://*/x` must not become `spiffe://x/x`.
        if text.split('/').nth(2).is_some_and(|domain| domain.contains('*')) {
            return Err(IdError::TrustDomain(crate::TrustDomainError::Character('*')).into());
        }
        Ok(Self { text: text.to_owned(), trust_domain: id.trust_domain().clone(), segments })
    }
}

impl From<SpiffeId> for IdPattern {
    fn from(id: SpiffeId) -> Self {
        Self {
            text: id.to_string(),
            trust_domain: id.trust_domain().clone(),
            segments: id.segments().map(|s| Segment::Literal(s.to_owned())).collect(),
        }
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdPattern({})", self.text)
    }
}

crate::id::serde_as_string!(IdPattern);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, id: &str) -> bool {
        pattern.parse::<IdPattern>().unwrap().matches(&id.parse().unwrap())
    }

    #[test]
    fn a_star_is_one_segment_and_two_are_the_rest() {
        assert!(matches("spiffe://a/ns/*/sa/web", "spiffe://a/ns/shop/sa/web"));
        assert!(!matches("spiffe://a/ns/*/sa/web", "spiffe://a/ns/shop/x/sa/web"));
        assert!(!matches("spiffe://a/ns/*/sa/web", "spiffe://b/ns/shop/sa/web"));
        assert!(matches("spiffe://a/ns/shop/**", "spiffe://a/ns/shop/sa/web"));
        assert!(!matches("spiffe://a/ns/shop/**", "spiffe://a/ns/shop"));
        assert!(!matches("spiffe://a/ns/shop", "spiffe://a/ns/shop/sa/web"));
        assert!(matches("spiffe://a/**", "spiffe://a/x"));
    }

    #[test]
    fn refuses_half_wildcards_and_wild_trust_domains() {
        for text in ["spiffe://a/ns/sh*p", "spiffe://*/ns", "spiffe://a", "a/*", "spiffe://a/*/", "spiffe://a/***"] {
            assert!(text.parse::<IdPattern>().is_err(), "{text}");
        }
        assert_eq!("spiffe://a/**/b".parse::<IdPattern>(), Err(PatternError::RestInTheMiddle));
    }

    proptest! {
        #[test]
        fn an_id_as_a_pattern_matches_itself_alone(a in "[a-z]{1,3}(/[a-z]{1,3}){0,4}", b in "[a-z]{1,3}(/[a-z]{1,3}){0,4}") {
            let pattern: IdPattern = format!("spiffe://td/{a}").parse().unwrap();
            prop_assert_eq!(pattern.matches(&format!("spiffe://td/{b}").parse().unwrap()), a == b);
        }

        #[test]
        fn a_pattern_prints_as_it_was_read(text in "spiffe://[a-z*]{0,3}(/[a-z*.]{0,3}){0,4}") {
            if let Ok(pattern) = text.parse::<IdPattern>() {
                prop_assert_eq!(pattern.to_string(), text);
            }
        }
    }
}
