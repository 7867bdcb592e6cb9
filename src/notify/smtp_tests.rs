//! Tests of emails against an SMTP server in the same process: without TLS, with TLS, and with
//! `STARTTLS`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use strict_http::secret::Secret;

use super::tests::{channel, context, start_clock};
use super::{ChannelKind, EmailConfig, SmtpTls, send_test};

fn email(tls: SmtpTls, server: &str, port: u16) -> EmailConfig {
    EmailConfig {
        server: server.to_owned(),
        port,
        tls,
        login: Some((
            "stock@shop.example".to_owned(),
            Secret::new("canary-password"),
        )),
        from: "Stock <stock@shop.example>".parse().unwrap(),
        to: vec!["ops@shop.example".parse().unwrap()],
    }
}

/// Lines of an SMTP dialogue that a test server has received.
type SmtpLines = Vec<String>;

/// Encryption that a test server offers.
#[derive(Clone, Copy, Eq, PartialEq)]
enum TlsOffer {
    /// None.
    Nothing,
    /// From the first byte.
    Implicit,
    /// After `STARTTLS`.
    StartTls,
    /// `STARTTLS` is in the list of extensions, but the server refuses it.
    RefusedStartTls,
}

/// What a test server has received, before and after the encryption of the connection.
#[derive(Default)]
struct SmtpDialogue {
    plain: SmtpLines,
    encrypted: SmtpLines,
}

/// Greets and serves one SMTP dialogue.
fn serve_smtp(stream: &mut (impl Read + Write), offer: TlsOffer) -> SmtpLines {
    reply(stream, "220 smtp.test ESMTP");
    answer_commands(stream, offer)
}

/// Confirms each command until the end or `STARTTLS`. Returns the received lines.
fn answer_commands(stream: &mut (impl Read + Write), offer: TlsOffer) -> SmtpLines {
    let mut received = SmtpLines::new();
    let mut is_data = false;
    loop {
        let Some(line) = read_line(stream) else {
            return received;
        };
        received.push(line.clone());
        let response = match line.split(' ').next().unwrap_or_default() {
            "." if is_data => {
                is_data = false;
                "250 taken"
            }
            _ if is_data => continue,
            "EHLO" if matches!(offer, TlsOffer::StartTls | TlsOffer::RefusedStartTls) => {
                "250-smtp.test\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN"
            }
            "EHLO" => "250-smtp.test\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN",
            "STARTTLS" if offer == TlsOffer::StartTls => {
                reply(stream, "220 go ahead");
                return received;
            }
            "STARTTLS" => "454 not now",
            "AUTH" => "235 welcome",
            "DATA" => {
                is_data = true;
                "354 go on"
            }
            "QUIT" => {
                reply(stream, "221 bye");
                return received;
            }
            _ => "250 ok",
        };
        reply(stream, response);
    }
}

fn reply(stream: &mut impl Write, text: &str) {
    // The client may be gone.
    let _ignored = stream.write_all(format!("{text}\r\n").as_bytes());
    let _ignored = stream.flush();
}

fn read_line(stream: &mut impl Read) -> Option<String> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) if byte[0] == b'\n' => return String::from_utf8(line).ok(),
            Ok(1) if byte[0] == b'\r' => {}
            Ok(1) => line.push(byte[0]),
            _ => return None,
        }
    }
}

/// SMTP server for one connection.
fn start_smtp(offer: TlsOffer) -> (u16, JoinHandle<SmtpDialogue>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        let mut dialogue = SmtpDialogue::default();
        if offer != TlsOffer::Implicit {
            dialogue.plain = serve_smtp(&mut tcp, offer);
        }
        let is_encrypted = match offer {
            TlsOffer::Implicit => true,
            TlsOffer::StartTls => dialogue.plain.last().is_some_and(|line| line == "STARTTLS"),
            TlsOffer::Nothing | TlsOffer::RefusedStartTls => false,
        };
        if is_encrypted {
            let mut connection = rustls::ServerConnection::new(Arc::new(tls_server())).unwrap();
            let mut stream = rustls::Stream::new(&mut connection, &mut tcp);
            // The server greets only once.
            dialogue.encrypted = match offer {
                TlsOffer::Implicit => serve_smtp(&mut stream, TlsOffer::Nothing),
                _ => answer_commands(&mut stream, TlsOffer::Nothing),
            };
        }
        dialogue
    });
    (port, server)
}

/// True if the lines have a login or a message.
fn has_login_or_message(lines: &SmtpLines) -> bool {
    let is_one = |line: &String| {
        let command = line.split(' ').next().unwrap_or_default();
        matches!(command, "AUTH" | "MAIL" | "RCPT" | "DATA") || line.contains("canary")
    };
    lines.iter().any(is_one)
}

fn fixture(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("fixtures/notify").join(name)
}

fn tls_server() -> rustls::ServerConfig {
    let certificate = CertificateDer::from_pem_file(fixture("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture("server_key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap()
}

async fn send_email(config: EmailConfig, ca_file: Option<PathBuf>) -> Result<(), String> {
    let (clock, alarms) = start_clock();
    let mut context = context(&alarms, clock);
    context.outbound.extra_ca_file = ca_file;
    send_test(&channel("mail", ChannelKind::Email(config)), &context).await
}

#[tokio::test]
async fn an_email_goes_through_plain_smtp_of_this_machine() {
    let (port, server) = start_smtp(TlsOffer::Nothing);
    send_email(email(SmtpTls::None, "127.0.0.1", port), None)
        .await
        .unwrap();
    let lines = server.join().unwrap().plain;
    for expected in [
        "MAIL FROM:<stock@shop.example>",
        "RCPT TO:<ops@shop.example>",
        "Subject: Test message of stockbridge",
        "From: Stock <stock@shop.example>",
        "The channel mail works: alarms will arrive here.",
    ] {
        assert!(
            lines.iter().any(|line| line.starts_with(expected)),
            "{expected}: {lines:#?}"
        );
    }
    assert!(lines.iter().any(|line| line.starts_with("AUTH PLAIN ")));
}

#[tokio::test]
async fn an_email_goes_through_smtp_with_tls() {
    let (port, server) = start_smtp(TlsOffer::Implicit);
    let config = email(SmtpTls::Implicit, "localhost", port);
    send_email(config, Some(fixture("authority.pem")))
        .await
        .unwrap();
    let lines = server.join().unwrap().encrypted;
    assert!(lines.iter().any(|line| line == "."));
}

#[tokio::test]
async fn unknown_certificates_are_refused() {
    let (port, server) = start_smtp(TlsOffer::Implicit);
    let config = email(SmtpTls::Implicit, "localhost", port);
    // The trusted certificate is another one: that of the server itself, which cannot sign.
    let error = send_email(config, Some(fixture("server.pem")))
        .await
        .unwrap_err();
    assert!(!error.contains("canary"), "{error}");
    let dialogue = server.join().unwrap();
    assert!(dialogue.encrypted.is_empty(), "nothing was sent");
}

#[tokio::test]
async fn a_login_follows_starttls() {
    let (port, server) = start_smtp(TlsOffer::StartTls);
    let config = email(SmtpTls::StartTls, "localhost", port);
    send_email(config, Some(fixture("authority.pem")))
        .await
        .unwrap();
    let SmtpDialogue { plain, encrypted } = server.join().unwrap();
    assert_eq!(plain.len(), 2, "{plain:?}");
    assert!(plain[0].starts_with("EHLO ") && plain[1] == "STARTTLS");
    // Extensions that were listed before the encryption may be forged, so the client asks again.
    assert!(encrypted[0].starts_with("EHLO "), "{encrypted:?}");
    assert!(encrypted.iter().any(|line| line.starts_with("AUTH PLAIN ")));
    assert!(encrypted.iter().any(|line| line == "."));
}

#[tokio::test]
async fn nothing_is_sent_without_encryption() {
    for (offer, ca_file) in [
        // The extension is missing, because of the server or of a proxy in between, or it is refused.
        (TlsOffer::Nothing, "authority.pem"),
        (TlsOffer::RefusedStartTls, "authority.pem"),
        // The certificate is not trusted.
        (TlsOffer::StartTls, "server.pem"),
    ] {
        let (port, server) = start_smtp(offer);
        let config = email(SmtpTls::StartTls, "localhost", port);
        let error = send_email(config, Some(fixture(ca_file)))
            .await
            .unwrap_err();
        assert!(!error.contains("canary"), "{error}");
        let SmtpDialogue { plain, encrypted } = server.join().unwrap();
        assert!(!has_login_or_message(&plain), "{plain:?}");
        assert!(encrypted.is_empty(), "{encrypted:?}");
    }
}

#[tokio::test]
async fn starttls_needs_the_name_of_the_server() {
    let (port, server) = start_smtp(TlsOffer::StartTls);
    // The certificate is for localhost.
    let config = email(SmtpTls::StartTls, "127.0.0.1", port);
    send_email(config, Some(fixture("authority.pem")))
        .await
        .unwrap_err();
    let SmtpDialogue { plain, encrypted } = server.join().unwrap();
    assert!(!has_login_or_message(&plain), "{plain:?}");
    assert!(encrypted.is_empty(), "{encrypted:?}");
}
