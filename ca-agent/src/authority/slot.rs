//! When an authority or a certificate is due to be replaced. Pure: `now` is an argument.

use std::time::{Duration, SystemTime};

use super::template::BACKDATE;

/// When the issuing authority is to be replaced: once a third of its life is left.
///
/// `None` when a successor would not live longer, because their root ends first: replacing it would help nobody.
pub(crate) fn replace_at(
    not_before: SystemTime,
    not_after: SystemTime,
    root_not_after: SystemTime,
) -> Option<SystemTime> {
    if root_not_after <= not_after {
        return None;
    }
    let born = not_before + BACKDATE;
    let life = not_after.duration_since(born).unwrap_or_default();
    Some(not_after - life / 3)
}

/// Whether it is time.
pub(crate) fn should_replace(
    not_before: SystemTime,
    not_after: SystemTime,
    root_not_after: SystemTime,
    now: SystemTime,
) -> bool {
    replace_at(not_before, not_after, root_not_after).is_some_and(|due| due <= now)
}

/// When our own serving SVID is renewed: at half of what was left when it was issued, give or take a tenth.
/// `share` is from 0 to 1.
pub(crate) fn renew_at(issued_at: SystemTime, not_after: SystemTime, share: f64) -> SystemTime {
    let left = not_after.duration_since(issued_at).unwrap_or_default();
    issued_at + left.mul_f64(0.45 + 0.1 * share.clamp(0.0, 1.0))
}

/// How long from `now` until `then`, not at all when it is over.
pub(crate) fn until(then: SystemTime, now: SystemTime) -> Duration {
    then.duration_since(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn an_authority_is_replaced_when_a_third_of_its_life_is_left() {
        let root = at(1_000_000);
        // Born at 1000 for 90 s, so not before 940.
        let due = |now| should_replace(at(940), at(1090), root, at(now));
        for (now, expected) in [(900, false), (1000, false), (1059, false), (1060, true), (1090, true), (9999, true)] {
            assert_eq!(due(now), expected, "{now}");
        }
    }

    #[test]
    fn an_authority_that_lives_as_long_as_its_root_is_not_replaced() {
        assert_eq!(replace_at(at(940), at(1090), at(1090)), None);
        assert!(!should_replace(at(940), at(1090), at(1090), at(1089)));
        assert!(should_replace(at(940), at(1090), at(1091), at(1089)));
    }

    #[test]
    fn our_own_svid_is_renewed_around_half() {
        let renew = |share| renew_at(at(1000), at(1100), share);
        assert_eq!(renew(0.0), at(1045));
        assert_eq!(renew(0.5), at(1050));
        assert_eq!(renew(1.0), at(1055));
        assert_eq!(renew(7.0), at(1055));
        assert_eq!(renew_at(at(1000), at(900), 0.5), at(1000));
    }
}
