//! Command `waxwing tls show`: TLS settings of each port, and certificates with expiry.

use std::io::Write;
use std::path::Path;

use serde_json::json;
use waxwing_config::{ClientCertificateMode, Config, ListenerConfig, ListenerTlsMode, TlsProtocols};
use waxwing_control::{ControlRequest, ControlResponse};
use waxwing_net::{CertificateInfo, Certificates, load_authorities, readable_by_others};
use waxwing_types::Timestamp;

use crate::formatting::sanitize;
use crate::paths::load_config;
use crate::queue::print_json;
use crate::{ControlClient, ToolError};

/// Prints listeners and certificates of the configuration. The error lists broken certificates, certificates with an expiry within `days`,
/// and certificates not in use by the running server.
pub(crate) fn show(
    file: &Path,
    client: Result<ControlClient, ToolError>,
    days: u32,
    json: bool,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), ToolError> {
    let config = load_config(file)?;
    let mut problems = Vec::new();
    for listen in &config.listen {
        print_listener(&config, listen, json, out)?;
    }
    if config.tls.smtpd_tls_chain_files.is_empty() {
        if !json {
            writeln!(out, "no certificates: smtpd_tls_chain_files is empty")?;
        }
        return Ok(());
    }
    match Certificates::load(&config.tls.smtpd_tls_chain_files) {
        Err(error) => problems.push(error.to_string()),
        Ok(certificates) => {
            let served = served_fingerprints(client)?;
            for (index, info) in certificates.descriptions().enumerate() {
                let in_use = served.as_ref().map(|served| served.contains(&info.fingerprint));
                problems.extend(certificate_problems(info, in_use, days, now));
                print_certificate(info, index == 0, in_use, now, json, out)?;
            }
            if served.is_none() && !json {
                writeln!(out, "no server answers: this is what the files say")?;
            }
        }
    }
    if let Some(file) = &config.tls.smtpd_tls_CAfile
        && let Err(error) = load_authorities(file)
    {
        problems.push(error.to_string());
    }
    for (file, mode) in readable_by_others(&config.tls.smtpd_tls_chain_files) {
        if !json {
            writeln!(
                out,
                "warning: {} has a private key, and others than its owner can read it (mode {mode:04o})",
                file.display()
            )?;
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(ToolError::UnexpectedResult(problems.join("\n"))) }
}

/// Returns the fingerprints of certificates in use; `None` without a running server.
fn served_fingerprints(client: Result<ControlClient, ToolError>) -> Result<Option<Vec<String>>, ToolError> {
    let mut client = match client {
        Ok(client) => client,
        Err(ToolError::NoServer { .. }) => return Ok(None),
        Err(other) => return Err(other),
    };
    let ControlResponse::Tls { certificates } = client.request(&ControlRequest::TlsShow)? else {
        return Err(ToolError::UnexpectedResponse);
    };
    Ok(Some(certificates))
}

fn print_listener(config: &Config, listen: &ListenerConfig, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    let tls = match (config.listener_tls(listen), listen.tls_required) {
        (ListenerTlsMode::None, _) => "none",
        (ListenerTlsMode::Starttls, false) => "starttls",
        (ListenerTlsMode::Starttls, true) => "starttls, required",
        (ListenerTlsMode::Implicit, _) => "implicit",
    };
    let (versions, clients) = match config.listener_tls(listen) {
        ListenerTlsMode::None => ("", ""),
        ListenerTlsMode::Starttls | ListenerTlsMode::Implicit => {
            let versions = match config.listener_tls_protocols(listen) {
                TlsProtocols::From12 => "TLSv1.2 TLSv1.3",
                TlsProtocols::From13 => "TLSv1.3",
            };
            let clients = match listen.client_certificates {
                ClientCertificateMode::None => "",
                ClientCertificateMode::Ask => "clients' certificates asked for",
                ClientCertificateMode::Require => "clients' certificates required",
            };
            (versions, clients)
        }
    };
    let (name, address) = (sanitize(&listen.name), sanitize(&listen.address.to_string()).into_owned());
    if json {
        let object = json!({ "listener": name, "address": address, "tls": tls, "versions": versions, "clients": clients });
        return print_json(&object, out);
    }
    let parts: Vec<&str> = [tls, versions, clients].into_iter().filter(|part| !part.is_empty()).collect();
    Ok(writeln!(out, "{address} ({name}): {}", parts.join(", "))?)
}

fn print_certificate(
    info: &CertificateInfo,
    is_default: bool,
    in_use: Option<bool>,
    now: Timestamp,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), ToolError> {
    let left = days_left(info, now);
    if json {
        let object = json!({
            "file": info.file, "names": info.names, "issuer": info.issuer, "not_before": info.not_before, "not_after": info.not_after,
            "days_left": left, "fingerprint": info.fingerprint, "default": is_default, "in_use": in_use,
        });
        return print_json(&object, out);
    }
    let names = sanitize(&info.names.join(", ")).into_owned();
    writeln!(out, "certificate for {}{}", names, if is_default { " (shown by default)" } else { "" })?;
    writeln!(out, "  file     {}", info.file.display())?;
    writeln!(out, "  issuer   {}", sanitize(&info.issuer))?;
    writeln!(out, "  expires  {} ({left} days left)", format_day(info.not_after))?;
    writeln!(out, "  sha-256  {}", info.fingerprint)?;
    match in_use {
        Some(true) => writeln!(out, "  the running server shows it")?,
        Some(false) => writeln!(out, "  the running server does not show it")?,
        None => {}
    }
    Ok(())
}

/// Returns the problems of a certificate for the administrator.
fn certificate_problems(info: &CertificateInfo, in_use: Option<bool>, days: u32, now: Timestamp) -> Vec<String> {
    let names = sanitize(&info.names.join(", ")).into_owned();
    let mut all = Vec::new();
    let left = days_left(info, now);
    if info.not_before > now.as_secs().try_into().unwrap_or(i64::MAX) {
        all.push(format!("the certificate for {names} is not valid before {}", format_day(info.not_before)));
    }
    if left < 0 {
        all.push(format!("the certificate for {names} has expired on {}", format_day(info.not_after)));
    } else if left < i64::from(days) {
        all.push(format!("the certificate for {names} expires in {left} days"));
    }
    if in_use == Some(false) {
        all.push(format!("the running server does not show the certificate for {names}: its log says why"));
    }
    all
}

/// Returns full days until expiry, rounded down: -1 from the first second after the end.
fn days_left(info: &CertificateInfo, now: Timestamp) -> i64 {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    info.not_after.saturating_sub(now).div_euclid(86_400)
}

fn format_day(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| format!("{seconds} s"), |time| time.strftime("%Y-%m-%d %H:%MZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    fn info(not_after_days: i64) -> CertificateInfo {
        CertificateInfo {
            file: "/x.pem".into(),
            names: vec!["mx.example".into()],
            issuer: "CN=x".into(),
            not_before: 0,
            not_after: not_after_days * 86_400,
            fingerprint: "ab".into(),
        }
    }

    #[test]
    fn what_ends_soon_is_told() {
        let now = Timestamp::from_millis(100 * DAY);
        assert_eq!(certificate_problems(&info(114), None, 14, now), Vec::<String>::new());
        assert_eq!(certificate_problems(&info(113), Some(true), 14, now), ["the certificate for mx.example expires in 13 days"]);
        assert!(certificate_problems(&info(99), None, 14, now)[0].contains("has expired on 1970-04-10"));
        assert!(certificate_problems(&info(500), Some(false), 14, now)[0].contains("does not show"));
        let unborn = CertificateInfo { not_before: 101 * 86_400, ..info(500) };
        assert!(certificate_problems(&unborn, None, 14, now)[0].contains("not valid before"));
    }

    #[test]
    fn files_are_looked_at_without_a_server() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("waxwing.toml");
        std::fs::write(
            &file,
            "smtpd_tls_chain_files = [\"c.pem\"]\n[[listen]]\nname = \"a\"\naddress = \"127.0.0.1:2465\"\ntls = \"implicit\"\n",
        )
        .unwrap();
        let shown = || {
            let mut out = Vec::new();
            let nobody = Err(ToolError::NoServer { socket: "/x".into(), error: std::io::ErrorKind::NotFound.into() });
            let result = show(&file, nobody, 14, false, Timestamp::from_millis(1_800_000_000_000), &mut out);
            (result.map_err(|error| error.to_string()), String::from_utf8(out).unwrap())
        };
        assert!(shown().0.unwrap_err().contains("c.pem"));
        std::fs::write(dir.path().join("c.pem"), waxwing_net::self_signed(&["mx.example".to_owned()]).unwrap()).unwrap();
        let (result, text) = shown();
        result.unwrap();
        assert!(text.contains("127.0.0.1:2465 (a): implicit, TLSv1.2 TLSv1.3\n"), "{text}");
        assert!(text.contains("certificate for mx.example (shown by default)\n") && text.contains("no server answers"), "{text}");
    }
}
