//! The certificates that the kubelet has mounted, described without their keys. Does I/O, reading only.
//!
//! NGINX reads the files itself, by the name a client asks for, and anew when they change: nothing needs a reload. But
//! nobody else in the pod may read them, so this is where it shows what there is to serve with.

use crate::control::Certificate;
use crate::lock;
use crate::names::SecretId;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use stomaton_crds::edge_state::CertificateFault;
use stomaton_crds::hex::hex;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use sha2::{Digest, Sha256};
use webpki::EndEntityCert;
use yasna::tags::TAG_UTCTIME;
use yasna::{ASN1Result, BERReader, Tag, parse_der};

/// Files by inode and time: another one has another.
type Stamp = [Option<(u64, i64, i64)>; 2];

/// The mounted certificates.
pub(super) struct Certificates {
    dir: PathBuf,
    /// To check that a key belongs to a certificate takes a while: once for each pair of files.
    known: Mutex<HashMap<SecretId, (Stamp, Certificate)>>,
}

impl Certificates {
    /// Those below `dir`, which need not be there.
    pub(super) fn below(dir: PathBuf) -> Self {
        Self { dir, known: Mutex::default() }
    }

    /// What is there now, in order of name. The kubelet's own entries are no certificates.
    pub(super) fn look(&self) -> Vec<Certificate> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut ids: Vec<SecretId> = names.filter_map(|name| SecretId::parse(&name).ok()).collect();
        ids.sort();
        let mut known = lock(&self.known);
        known.retain(|id, _| ids.contains(id));
        for id in ids.iter() {
            let files = ["tls.crt", "tls.key"].map(|file| self.dir.join(id.as_str()).join(file));
            let stamp = [stamp(&files[0]), stamp(&files[1])];
            if known.get(id).is_none_or(|(before, _)| *before != stamp) {
                known.insert(id.clone(), (stamp, read(id, &files)));
            }
        }
        ids.iter().filter_map(|id| Some(known.get(id)?.1.clone())).collect()
    }
}

fn stamp(file: &Path) -> Option<(u64, i64, i64)> {
    let meta = fs::metadata(file).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec()))
}

fn read(id: &SecretId, [certificate, key]: &[PathBuf; 2]) -> Certificate {
    let pair = fs::read(certificate).and_then(|certificate| io::Result::Ok((certificate, fs::read(key)?)));
    let described = match pair {
        Ok((certificate, key)) => describe(&certificate, &key),
        Err(_) => Certificate { fault: Some(CertificateFault::Unusable), ..Certificate::default() },
    };
    Certificate { id: id.to_string(), ..described }
}

/// What PEM files hold. Pure.
fn describe(certificate: &[u8], key: &[u8]) -> Certificate {
    let fault = |fault| Certificate { fault: Some(fault), ..Certificate::default() };
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(certificate).collect();
    let Ok(chain) = chain else { return fault(CertificateFault::Unusable) };
    let Some(leaf) = chain.first().cloned() else { return fault(CertificateFault::Unusable) };
    let Ok((not_before, not_after)) = validity(&leaf) else { return fault(CertificateFault::Unusable) };
    Certificate {
        id: String::new(),
        fingerprint: Some(hex(&Sha256::digest(&leaf))),
        not_before,
        not_after,
        names: names(&leaf),
        fault: match PrivateKeyDer::from_pem_slice(key) {
            Err(_) => Some(CertificateFault::Unusable),
            Ok(key) => is_of_another(chain, key).then_some(CertificateFault::KeyMismatch),
        },
    }
}

/// Whether the key is that of another certificate. A kind of key that is not known here may still be known to NGINX.
fn is_of_another(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> bool {
    let pair = CertifiedKey::from_der(chain, key, &default_provider());
    matches!(pair, Err(TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)))
}

/// Names that a certificate is for; only these count for browsers, not the common name. To be shown to people: nobody is
/// trusted by them.
fn names(leaf: &CertificateDer<'_>) -> Vec<String> {
    let parsed = EndEntityCert::try_from(leaf).ok();
    parsed.iter().flat_map(|leaf| leaf.valid_dns_names()).map(str::to_ascii_lowercase).collect()
}

/// Beginning and end of a certificate's validity, seconds since the epoch: the fifth part of what is signed, or the
/// fourth where the version is left out (RFC 5280, 4.1).
fn validity(leaf: &[u8]) -> ASN1Result<(i64, i64)> {
    parse_der(leaf, |reader| {
        reader.read_sequence(|certificate| {
            let validity = certificate.next().read_sequence(|signed| {
                signed.read_optional(|version| version.read_tagged(Tag::context(0), |v| v.read_der()))?;
                for _serial_algorithm_issuer in 0..3 {
                    signed.next().read_der()?;
                }
                let validity =
                    signed.next().read_sequence(|times| Ok((time(times.next())?, time(times.next())?)))?;
                while signed.read_optional(|rest| rest.read_der())?.is_some() {}
                Ok(validity)
            })?;
            for _algorithm_signature in 0..2 {
                certificate.next().read_der()?;
            }
            Ok(validity)
        })
    })
}

fn time(reader: BERReader<'_, '_>) -> ASN1Result<i64> {
    Ok(if reader.lookahead_tag()? == TAG_UTCTIME {
        reader.read_utctime()?.datetime().unix_timestamp()
    } else {
        reader.read_generalized_time()?.datetime().unix_timestamp()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use std::os::unix::fs::symlink;

    /// A certificate for these names and its key, as PEM.
    fn pair(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn told((certificate, key): (&str, &str)) -> Certificate {
        describe(certificate.as_bytes(), key.as_bytes())
    }

    #[test]
    fn a_certificate_is_described_by_what_clients_see_of_it() {
        let (certificate, key) = pair(&["Shop.example", "*.shop.example", "10.0.0.1"]);
        let found = told((&certificate, &key));
        assert_eq!(found.fault, None);
        assert_eq!(found.names, ["shop.example", "*.shop.example"]);
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        assert_eq!(found.fingerprint.unwrap(), hex(&Sha256::digest(&der)));
    }

    #[test]
    fn validity_is_read_in_both_forms_of_time() {
        // Until 2049 with two digits of the year, after that with four.
        for (year, end) in [(2031, 1_925_078_400), (2061, 2_871_849_600)] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            params.not_before = date_time_ymd(2026, 1, 1);
            params.not_after = date_time_ymd(year, 1, 2);
            let certificate = params.self_signed(&key).unwrap();
            let found = told((&certificate.pem(), &key.serialize_pem()));
            assert_eq!((found.not_before, found.not_after), (1_767_225_600, end));
        }
    }

    #[test]
    fn what_cannot_be_served_is_told_apart() {
        let ((certificate, key), (_, other)) = (pair(&["a.example"]), pair(&["a.example"]));
        let cases = [
            ((certificate.as_str(), other.as_str()), CertificateFault::KeyMismatch),
            ((certificate.as_str(), ""), CertificateFault::Unusable),
            ((certificate.as_str(), certificate.as_str()), CertificateFault::Unusable),
            (("", key.as_str()), CertificateFault::Unusable),
            (("nonsense", key.as_str()), CertificateFault::Unusable),
            (
                ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", key.as_str()),
                CertificateFault::Unusable,
            ),
        ];
        for (pem, fault) in cases {
            assert_eq!(told(pem).fault, Some(fault), "{pem:?}");
        }
    }

    #[test]
    fn what_the_kubelet_brings_changes_and_takes_away_is_seen() {
        const ID: &str = "00000000000000aa";
        let root = tempfile::tempdir().unwrap();
        let certificates = Certificates::below(root.path().join("tls"));
        assert_eq!(certificates.look(), []);

        // As the kubelet does it: a new directory, and one rename of the link to it.
        let mut number = 0;
        let mut bring = |files: &[(&str, &str)]| {
            number += 1;
            let version = root.path().join(format!("tls/..{number}/{ID}"));
            fs::create_dir_all(&version).unwrap();
            for (file, content) in files {
                fs::write(version.join(file), content).unwrap();
            }
            let next = root.path().join("tls/..data_tmp");
            symlink(format!("..{number}"), &next).unwrap();
            fs::rename(&next, root.path().join("tls/..data")).unwrap();
        };
        let (first, second) = (pair(&["a.example"]), pair(&["a.example"]));
        bring(&[("tls.crt", &first.0), ("tls.key", &first.1)]);
        symlink(format!("..data/{ID}"), root.path().join("tls").join(ID)).unwrap();
        let one = certificates.look();
        assert_eq!((one.len(), one[0].id.as_str(), one[0].fault), (1, ID, None));
        assert_eq!(certificates.look(), one);

        bring(&[("tls.crt", &second.0), ("tls.key", &second.1)]);
        let other = certificates.look();
        assert!(other[0].fingerprint.is_some() && other[0].fingerprint != one[0].fingerprint);

        bring(&[("tls.crt", &second.0)]);
        assert_eq!(certificates.look()[0].fault, Some(CertificateFault::Unusable));
        fs::remove_file(root.path().join("tls").join(ID)).unwrap();
        assert_eq!(certificates.look(), []);
    }
}
