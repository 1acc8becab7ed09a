use std::fmt::Write as _;

use x509_parser::{
    oid_registry::Oid,
    prelude::{AttributeTypeAndValue, FromDer, X509Certificate, X509Name},
};

/// The issuer's name of a DER certificate as an RFC 4514 string; empty when there is none.
#[must_use]
pub fn issuer_name(der: &[u8]) -> String {
    X509Certificate::from_der(der).map(|(_, cert)| rfc4514(cert.issuer())).unwrap_or_default()
}

/// The subject's name of a DER certificate as an RFC 4514 string; empty when there is none.
#[must_use]
pub fn subject_name(der: &[u8]) -> String {
    X509Certificate::from_der(der).map(|(_, cert)| rfc4514(cert.subject())).unwrap_or_default()
}

fn rfc4514(name: &X509Name<'_>) -> String {
    // RFC 4514 §2.1: the last relative name comes first.
    let mut parts: Vec<String> =
        name.iter().map(|rdn| rdn.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    match (short_name(attribute.attr_type()), attribute.as_str()) {
        (Some(short), Ok(value)) => format!("{short}={}", escape(value)),
        (short, _) => {
            let oid = attribute.attr_type().to_id_string();
            // RFC 4514 §2.4: a value without a string form is written as '#' and its bytes.
            let hex = attribute.attr_value().data.iter().fold(String::from("#"), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            format!("{}={hex}", short.map_or(oid, str::to_owned))
        }
    }
}

/// The names of RFC 4514 §3.
fn short_name(oid: &Oid<'_>) -> Option<&'static str> {
    Some(match oid.to_id_string().as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        _ => return None,
    })
}

/// RFC 4514 §2.4.
fn escape(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut escaped = String::with_capacity(value.len());
    for (at, c) in value.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => escaped.extend(['\\', c]),
            '#' if at == 0 => escaped.push_str("\\#"),
            ' ' if at == 0 || at == last => escaped.push_str("\\ "),
            // Not demanded, but nobody's terminal is to obey a certificate.
            c if c.is_control() => c.to_string().bytes().for_each(|byte| {
                let _ = write!(escaped, "\\{byte:02x}");
            }),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn issuer_of(parts: &[(DnType, &str)]) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        issuer_name(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    }

    #[test]
    fn the_last_part_comes_first() {
        let name = issuer_of(&[(DnType::OrganizationName, "Kith"), (DnType::CommonName, "example.org issuing")]);
        assert_eq!(name, "CN=example.org issuing,O=Kith");
    }

    #[test]
    fn what_would_be_read_as_syntax_is_escaped() {
        let name = issuer_of(&[(DnType::CommonName, "#a, b+c\\ \u{1b}[31m ")]);
        assert_eq!(name, "CN=\\#a\\, b\\+c\\\\ \\1b[31m\\ ");
    }

    #[test]
    fn nameless_is_empty() {
        assert_eq!(issuer_of(&[]), "");
        assert_eq!(issuer_name(b"garbage"), "");
        assert_eq!(subject_name(b"garbage"), "");
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
