//! Keys from PEM (RFC 7468): `PUBLIC KEY` sections and `CERTIFICATE` sections.
//!
//! Of a certificate only the key counts: its dates, names and signature are not looked at, since the
//! operator, not a chain of trust, vouches for this file. A section that cannot be used is an error
//! and not left out, for the same reason.

use jsonwebtoken::Algorithm;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::server::ParsedCertificate;

use super::jwk::KEYS_MAX;
use super::key::Key;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadPem {
    #[error("not PEM: {0}")]
    NotPem(String),
    #[error("no section `BEGIN PUBLIC KEY` or `BEGIN CERTIFICATE`")]
    Empty,
    #[error("more than {KEYS_MAX} sections")]
    TooMany,
    #[error("section {0} is a private key; only public keys and certificates belong here")]
    Private(usize),
    #[error("section {0} is neither a public key nor a certificate")]
    OtherSection(usize),
    #[error("section {0} is not a certificate that can be read: {1}")]
    Certificate(usize, String),
    #[error("section {0} fits none of the issuer's algorithms, or is RSA under 2048 bits")]
    Unfit(usize),
}

/// Reads every key of `text`, for the `algorithms` that the configuration allows.
///
/// # Errors
/// The first section that cannot be used, counted from 1.
pub fn read_keys(text: &str, algorithms: &[Algorithm]) -> Result<Vec<Key>, BadPem> {
    let mut keys = Vec::new();
    for (index, section) in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()).enumerate() {
        let number = index + 1;
        if number > KEYS_MAX {
            return Err(BadPem::TooMany);
        }
        let (kind, der) = section.map_err(|error| BadPem::NotPem(error.to_string()))?;
        let spki = match kind {
            SectionKind::PublicKey => der,
            SectionKind::Certificate => key_of_certificate(der, number)?,
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                return Err(BadPem::Private(number));
            }
            _ => return Err(BadPem::OtherSection(number)),
        };
        let key = Key::public(None, &spki, algorithms.iter().copied());
        keys.push(key.ok_or(BadPem::Unfit(number))?);
    }
    if keys.is_empty() { Err(BadPem::Empty) } else { Ok(keys) }
}

fn key_of_certificate(der: Vec<u8>, number: usize) -> Result<Vec<u8>, BadPem> {
    let certificate = CertificateDer::from(der);
    let parsed = ParsedCertificate::try_from(&certificate)
        .map_err(|error| BadPem::Certificate(number, error.to_string()))?;
    Ok(parsed.subject_public_key_info().as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::testing::pem;

    const CERTIFICATE: &str = include_str!("../../tests/data/issuer_certificate.pem");
    const PUBLIC_KEY: &str = include_str!("../../tests/data/issuer_public_key.pem");
    const SMALL_RSA: &str = include_str!("../../tests/data/rsa_1024_public_key.pem");

    fn read(text: &str) -> Result<Vec<Key>, BadPem> {
        read_keys(text, &[Algorithm::RS256, Algorithm::ES256])
    }

    #[test]
    fn a_certificate_is_worth_the_key_in_it() {
        let [key] = read(PUBLIC_KEY).unwrap().try_into().unwrap();
        let [of_certificate] = read(CERTIFICATE).unwrap().try_into().unwrap();

        assert_eq!(key.fingerprint, of_certificate.fingerprint);
        assert!(key.fits(Algorithm::ES256));
        assert!(!key.fits(Algorithm::RS256));
    }

    #[test]
    fn several_sections_are_several_keys() {
        let keys = read(&format!("# comment\n{PUBLIC_KEY}\n{CERTIFICATE}")).unwrap();

        assert_eq!(keys.len(), 2);
    }

    #[test]
    fn a_section_that_cannot_be_used_is_an_error_that_names_it() {
        let private = pem("PRIVATE KEY", b"x");
        for (text, error) in [
            (String::new(), BadPem::Empty),
            ("secret".to_owned(), BadPem::Empty),
            (pem("RSA PUBLIC KEY", b"x"), BadPem::Empty),
            (private.clone(), BadPem::Private(1)),
            (format!("{PUBLIC_KEY}{private}"), BadPem::Private(2)),
            (pem("CERTIFICATE REQUEST", b"x"), BadPem::OtherSection(1)),
            (pem("PUBLIC KEY", b"x"), BadPem::Unfit(1)),
            (SMALL_RSA.to_owned(), BadPem::Unfit(1)),
            (PUBLIC_KEY.repeat(KEYS_MAX + 1), BadPem::TooMany),
        ] {
            assert_eq!(read(&text).unwrap_err(), error, "{text}");
        }
        assert_eq!(read_keys(PUBLIC_KEY, &[Algorithm::ES384]).unwrap_err(), BadPem::Unfit(1));
    }
}
