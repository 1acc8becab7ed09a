//! Values of flags and variables that any process of ours may have, with errors that say what was expected.

use std::time::Duration;

/// Beyond this, adding to a clock's time could fail.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A duration, zero included, such as `30s` or `1m 30s`.
///
/// # Errors
/// What was expected, when it is none or longer than 100 years.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        Ok(_) => Err("expected a duration of at most 100 years".to_owned()),
        Err(error) => Err(format!("{error}; expected a duration such as 500ms, 30s, 10m or 4h")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_and_a_bound() {
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "10", "soon", "-1s", "200y"] {
            assert!(duration(wrong).unwrap_err().contains("expected a duration"), "{wrong}");
        }
    }
}
