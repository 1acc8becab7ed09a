use std::{fmt, str::FromStr};

/// The serial number of a certificate (RFC 5280 §4.1.2.2): positive, at most 20 bytes, written as lower-case hex.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(Box<[u8]>);

/// Why bytes or a string are no serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SerialError {
    /// Zero or empty.
    #[error("a serial number is positive")]
    NotPositive,
    /// More than 20 bytes.
    #[error("a serial number has at most 20 bytes")]
    TooLong,
    /// Not pairs of hex digits.
    #[error("a serial number is written as pairs of hex digits")]
    NotHex,
}

impl Serial {
    /// From the big-endian bytes of the DER integer; leading zeros fall away.
    ///
    /// # Errors
    /// When the number is zero or longer than 20 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SerialError> {
        let first = bytes.iter().position(|b| *b != 0).ok_or(SerialError::NotPositive)?;
        let digits = bytes.get(first..).unwrap_or_default();
        if digits.len() > 20 { Err(SerialError::TooLong) } else { Ok(Self(digits.into())) }
    }

    /// The big-endian bytes, without leading zeros.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
        let digits = digits.filter(|d| d.len() % 2 == 0).ok_or(SerialError::NotHex)?;
        let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, d| byte << 4 | d)).collect();
        Self::from_bytes(&bytes)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

crate::id::serde_as_string!(Serial);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_positive_short_and_hex() {
        assert_eq!(Serial::from_bytes(&[0, 0x80, 1]).unwrap().to_string(), "8001");
        assert_eq!("8001".parse::<Serial>().unwrap(), Serial::from_bytes(&[0x80, 1]).unwrap());
        assert_eq!(Serial::from_bytes(&[0, 0]), Err(SerialError::NotPositive));
        assert_eq!(Serial::from_bytes(&[1; 21]), Err(SerialError::TooLong));
        assert_eq!("80 1".parse::<Serial>(), Err(SerialError::NotHex));
        assert_eq!("801".parse::<Serial>(), Err(SerialError::NotHex));
    }
}
