//! Distinguished names as strings (RFC 4514).

use std::fmt::Write as _;

use x509_parser::{
    objects::{oid_registry, oid2abbrev},
    x509::X509Name,
};

/// The name as an RFC 4514 string: the last RDN first, special characters escaped.
pub(crate) fn rfc4514(name: &X509Name<'_>) -> String {
    let mut rdns: Vec<String> = name
        .iter_rdn()
        .map(|rdn| {
            let parts: Vec<String> = rdn
                .iter()
                .map(|part| {
                    let kind = oid2abbrev(part.attr_type(), oid_registry())
                        .map_or_else(|_| part.attr_type().to_id_string(), str::to_owned);
                    let value = part.as_str().map_or_else(|_| hash_form(part.as_slice()), escape);
                    format!("{kind}={value}")
                })
                .collect();
            parts.join("+")
        })
        .collect();
    rdns.reverse();
    rdns.join(",")
}

fn hash_form(bytes: &[u8]) -> String {
    format!("#{}", hex::encode(bytes))
}

fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (position, c) in value.chars().enumerate() {
        let edge = (position == 0 && matches!(c, ' ' | '#')) || (position == last && c == ' ');
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', c]),
            _ if edge => text.extend(['\\', c]),
            // Control characters could steer a terminal.
            _ if c.is_control() => {
                let mut utf8 = [0; 4];
                for byte in c.encode_utf8(&mut utf8).bytes() {
                    let _ = write!(text, "\\{byte:02x}");
                }
            }
            _ => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_are_escaped() {
        for (value, expected) in [
            ("Kith root", "Kith root"),
            (" a ", "\\ a\\ "),
            ("#a#", "\\#a#"),
            ("a,b+c\\", "a\\,b\\+c\\\\"),
            ("\x1b[31m", "\\1b[31m"),
        ] {
            assert_eq!(escape(value), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_steers_a_terminal_or_ends_a_name_gets_through(value in "\\PC{0,20}|[\\x00-\\x7f]{0,20}") {
            let text = escape(&value);
            proptest::prop_assert!(!text.chars().any(char::is_control));
            let mut escaped = false;
            for c in text.chars() {
                proptest::prop_assert!(escaped || !matches!(c, ',' | '+' | '"' | ';' | '<' | '>'), "{}", text);
                escaped = c == '\\' && !escaped;
            }
        }
    }
}
