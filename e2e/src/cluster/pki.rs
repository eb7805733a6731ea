//! Certificates and kubeconfigs of a throw-away cluster.
//! Takes names and addresses, gives PEM files in one directory. I/O: writes that directory.

use super::cmd::{Doing as _, Fault};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Why the certificates could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate could not be encoded or signed.
    #[error("make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A file could not be written.
    #[error(transparent)]
    Io(#[from] Fault),
}

/// A directory of certificates under one authority.
pub(crate) struct Pki {
    dir: PathBuf,
    authority: Issuer<'static, KeyPair>,
}

impl Pki {
    /// Makes the authority (`ca.crt`) and the key that signs service account tokens (`sa.key`,
    /// `sa.pub`).
    pub(crate) fn create(dir: PathBuf) -> Result<Self, Error> {
        super::dirs::make_private(&dir)?;
        let (authority, certificate) = authority("stomaton-local")?;
        write(&dir.join("ca.crt"), &certificate)?;
        let tokens = KeyPair::generate()?;
        write(&dir.join("sa.key"), &tokens.serialize_pem())?;
        write(&dir.join("sa.pub"), &tokens.public_key_pem())?;
        Ok(Self { dir, authority })
    }

    /// Issues `NAME.crt` and `NAME.key`, good for server and client. `group` is the Kubernetes
    /// group, `names` are DNS names and IP addresses.
    pub(crate) fn issue(
        &self,
        name: &str,
        user: &str,
        group: Option<&str>,
        names: &[&str],
    ) -> Result<(), Error> {
        let mut params = CertificateParams::new(names.iter().map(|n| n.to_string()).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        write(&self.dir.join(format!("{name}.crt")), &params.signed_by(&key, &self.authority)?.pem())?;
        write(&self.dir.join(format!("{name}.key")), &key.serialize_pem())?;
        Ok(())
    }
}

/// A new authority, and its certificate in PEM.
pub(crate) fn authority(name: &str) -> Result<(Issuer<'static, KeyPair>, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), certificate))
}

/// Writes a kubeconfig for the certificate `NAME` of the directory `pki`. The context is called
/// `context`; JSON, which is YAML.
pub(crate) fn write_kubeconfig(
    file: &Path,
    pki: &Path,
    name: &str,
    server: &str,
    context: &str,
) -> Result<(), Fault> {
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": context, "cluster": {
            "server": server,
            "certificate-authority": pki.join("ca.crt"),
        }}],
        "users": [{"name": context, "user": {
            "client-certificate": pki.join(format!("{name}.crt")),
            "client-key": pki.join(format!("{name}.key")),
        }}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
        "current-context": context,
    });
    write(file, &format!("{config:#}\n"))
}

/// Writes a file whole or not at all, readable by its owner only.
fn write(path: &Path, content: &str) -> Result<(), Fault> {
    let temporary = path.with_extension("new");
    OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .and_then(|()| fs::rename(&temporary, path))
        .doing_at("write", path)
}
