//! Identities: how they are obtained, renewed, lost and found again.
