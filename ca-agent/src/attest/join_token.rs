//! One-time join tokens: `<secret>.<root's key hash>`. The secret is 256 random bits as base64url; only its hash is
//! stored. What stands behind the dot is for the workload, which knows the root by it at first contact.

use std::time::SystemTime;

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use kith_identity::{Serial, TrustDomain};
use zeroize::Zeroizing;

use super::{AttestError, Subject, check_token_subject};
use crate::hash::Hash;
use crate::store::{Attestation, Spent, TokenRecord};

/// A new token, as it is shown once.
pub(crate) struct NewSecret {
    pub(crate) id: String,
    pub(crate) text: Zeroizing<String>,
    pub(crate) hash: Hash,
}

/// Makes a token that pins a root. `None` when the system gives no random numbers.
pub(crate) fn generate(root_spki_sha256: &str) -> Option<NewSecret> {
    let mut secret = Zeroizing::new([0; 32]);
    rand::fill(secret.as_mut_slice()).ok()?;
    let mut id = [0; 8];
    rand::fill(&mut id).ok()?;
    let text = Zeroizing::new(format!("{}.{root_spki_sha256}", URL_SAFE_NO_PAD.encode(secret.as_slice())));
    Some(NewSecret { id: hex::encode(id), text, hash: Hash::of(secret.as_slice()) })
}

/// The hash to look a token up by; `None` when it can't be one.
pub(crate) fn hash_of(token: &str) -> Option<Hash> {
    let secret = token.trim().split('.').next()?;
    let mut bytes = Zeroizing::new([0; 32]);
    let length = URL_SAFE_NO_PAD.decode_slice(secret, bytes.as_mut_slice()).ok()?;
    (length == bytes.len()).then(|| Hash::of(bytes.as_slice()))
}

/// What a token proves at this moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Proved {
    /// It waits to be spent.
    Fresh(Subject),
    /// It was spent on this certificate, by the same key.
    Again(Serial),
}

/// Judges a stored token for a key.
pub(crate) fn attest(
    token: &TokenRecord,
    public_key_hash: Hash,
    trust_domain: &TrustDomain,
    workloads: bool,
    now: SystemTime,
) -> Result<Proved, AttestError> {
    check_token_subject(&token.spiffe_id, trust_domain, workloads)?;
    if let Some(spent) = &token.spent {
        return again(spent, public_key_hash).map(Proved::Again);
    }
    if token.expires_at <= now {
        return Err(AttestError::TokenExpired);
    }
    Ok(Proved::Fresh(Subject {
        id: token.spiffe_id.clone(),
        attestation: Attestation::JoinToken,
        attested_at: now,
        renews: None,
    }))
}

/// The certificate that a spent token stands for, if the same key asks again: its first answer may have been lost.
pub(crate) fn again(spent: &Spent, public_key_hash: Hash) -> Result<Serial, AttestError> {
    if spent.public_key_hash == public_key_hash { Ok(spent.serial.clone()) } else { Err(AttestError::TokenSpent) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_found_by_its_secret_alone() {
        let pin = "a".repeat(64);
        let made = generate(&pin).unwrap();
        let (secret, shown_pin) = made.text.split_once('.').unwrap();
        assert_eq!((secret.len(), shown_pin), (43, pin.as_str()));
        assert_eq!(hash_of(&made.text), Some(made.hash));
        assert_eq!(hash_of(secret), Some(made.hash));
        assert_eq!(hash_of(&format!(" {secret}.other\n")), Some(made.hash));
        for wrong in ["", ".", "abc", &secret[1..], &format!("{secret}A"), &"A".repeat(10_000)] {
            assert_eq!(hash_of(wrong), None, "{wrong}");
        }
        assert_ne!(generate(&pin).unwrap().hash, made.hash);
    }

    #[test]
    fn a_token_works_in_time_for_one_key() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let (key, other) = (Hash([1; 32]), Hash([2; 32]));
        let token = TokenRecord {
            id: "t".into(),
            spiffe_id: "spiffe://td/web".parse().unwrap(),
            created_at: now,
            expires_at: now + Duration::from_secs(1),
            spent: None,
        };
        let judge = |token: &TokenRecord, key, now| attest(token, key, &"td".parse().unwrap(), false, now);
        assert!(matches!(judge(&token, key, now), Ok(Proved::Fresh(_))));
        assert_eq!(judge(&token, key, token.expires_at), Err(AttestError::TokenExpired));

        let serial: Serial = "01".parse().unwrap();
        let spent = Some(Spent { at: now, public_key_hash: key, serial: serial.clone() });
        let spent = TokenRecord { spent, ..token };
        assert_eq!(judge(&spent, key, now + Duration::from_secs(99)), Ok(Proved::Again(serial)));
        assert_eq!(judge(&spent, other, now), Err(AttestError::TokenSpent));
    }

    proptest! {
        #[test]
        fn any_text_is_a_token_or_not_and_whole_secrets_only(text in "[A-Za-z0-9_=.+/-]{0,90}|\\PC{0,60}") {
            let secret = text.trim().split('.').next().unwrap();
            prop_assert!(hash_of(&text).is_none() || secret.len() == 43, "{}", text);
        }
    }
}
