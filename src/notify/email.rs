//! Email: one message over SMTP, with TLS except to this machine.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use strict_http::secret::Secret;

use super::message::Notification;
use super::send_failure::SendFailure;

/// Timeout for the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Characters of the subject. A longer one is cut, because mail programs show one line.
const MAX_SUBJECT_CHARS: usize = 150;

/// Encryption of an SMTP connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum SmtpTls {
    /// TLS from the first byte, usually on port 465.
    Implicit,
    /// TLS after the command `STARTTLS`, which the server must know. Usually on port 587.
    StartTls,
    /// Plain text, only to this machine.
    None,
}

impl SmtpTls {
    /// Returns the name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns the usual port.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Implicit => 465,
            Self::StartTls => 587,
            Self::None => 25,
        }
    }
}

/// Settings of a mail account and its recipients.
#[derive(Clone, Debug)]
pub struct EmailConfig {
    /// Host name of the SMTP server, which its certificate must have.
    pub server: String,
    /// Port of the SMTP server.
    pub port: u16,
    /// Encryption of the connection.
    pub tls: SmtpTls,
    /// Login and password; `None` if the server needs none.
    pub login: Option<(String, Secret)>,
    /// Sender.
    pub from: Mailbox,
    /// Recipients, at least one.
    pub to: Vec<Mailbox>,
}

/// Connection settings of one mail account, ready to send.
pub(super) struct EmailSender {
    config: EmailConfig,
    transport: AsyncSmtpTransport<Tokio1Executor>,
}

impl EmailSender {
    /// Prepares the connection. Reads the trusted certificates.
    pub(super) fn new(config: &EmailConfig, ca_file: Option<&PathBuf>) -> Result<Self, String> {
        let tls = match config.tls {
            SmtpTls::Implicit => Tls::Wrapper(tls_parameters(&config.server, ca_file)?),
            SmtpTls::StartTls => Tls::Required(tls_parameters(&config.server, ca_file)?),
            SmtpTls::None => Tls::None,
        };
        let server = config.server.as_str();
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server)
            .port(config.port)
            .tls(tls)
            .timeout(Some(CONNECT_TIMEOUT));
        if let Some((login, password)) = &config.login {
            let password = password.expose().to_owned();
            builder = builder.credentials(Credentials::new(login.clone(), password));
        }
        Ok(Self {
            config: config.clone(),
            transport: builder.build(),
        })
    }

    /// Sends one message to all recipients.
    pub(super) async fn send(
        &self,
        message: &Notification,
        now: DateTime<Utc>,
    ) -> Result<(), SendFailure> {
        let email = compose(&self.config, message, now)
            .map_err(|error| SendFailure::permanent(format!("cannot write the email: {error}")))?;
        let result = self.transport.send(email).await;
        result.map(drop).map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &SmtpError) -> SendFailure {
        let server = format!("{}:{}", self.config.server, self.config.port);
        let status = error.status().map(u16::from);
        let remedy = match status {
            Some(530 | 534 | 535 | 538) => {
                "Check login and password_file: most providers need a password for programs"
            }
            Some(550 | 551 | 553 | 554) => "Check from and to: many servers require from = login",
            Some(_) => "Read the server's reply",
            None if error.is_tls() => "Check server, ca_file, and tls with its port",
            None => "Check server, port and tls, and that this machine may call it",
        };
        let text = format!("the SMTP server {server} does not take the message: {error}. {remedy}");
        let failure = if error.is_permanent() || error.is_client() || error.is_tls() {
            SendFailure::permanent(text)
        } else {
            SendFailure::temporary(text)
        };
        match &self.config.login {
            Some((_, password)) => failure.without(password),
            None => failure,
        }
    }
}

/// Trust of the system's certificate authorities, and of those in the file.
fn tls_parameters(server: &str, ca_file: Option<&PathBuf>) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(server.to_owned());
    if let Some(path) = ca_file {
        let place = path.display();
        let pem = std::fs::read(path).map_err(|error| format!("ca_file {place}: {error}"))?;
        let certificate = Certificate::from_pem(&pem);
        let certificate = certificate.map_err(|error| format!("ca_file {place}: {error}"))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder
        .build_rustls()
        .map_err(|error| format!("cannot set up TLS for {server}: {error}"))
}

/// Writes the email. A text with line ends cannot add a header: the subject is one line, and other
/// headers have no text of an alarm.
fn compose(
    config: &EmailConfig,
    message: &Notification,
    now: DateTime<Utc>,
) -> Result<Message, lettre::error::Error> {
    let subject: String = message
        .subject
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_SUBJECT_CHARS)
        .collect();
    let domain = config.from.email.domain();
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    let mut builder = Message::builder()
        .from(config.from.clone())
        .subject(subject)
        .date(now.into())
        // The same for each attempt, so that mail programs recognise a repeated message.
        .message_id(Some(format!("<{}@{domain}>", message.id)))
        .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
        .header(ContentType::TEXT_PLAIN);
    for recipient in &config.to {
        builder = builder.to(recipient.clone());
    }
    builder.body(message.text.clone())
}

#[cfg(test)]
mod tests {
    use chrono::FixedOffset;

    use super::*;
    use crate::i18n::Language;
    use crate::notify::message::MessageStyle;

    fn config(tls: SmtpTls) -> EmailConfig {
        EmailConfig {
            server: "smtp.example".to_owned(),
            port: tls.default_port(),
            tls,
            login: None,
            from: "Stock <stock@shop.example>".parse().unwrap(),
            to: vec!["ops@shop.example".parse().unwrap()],
        }
    }

    fn message(subject: &str, body: &str) -> Notification {
        let style = MessageStyle {
            channel: "mail".to_owned(),
            language: Language::English,
            time_zone: FixedOffset::east_opt(0).unwrap(),
            page_url: None,
            shops: Vec::new(),
        };
        let mut message = style.test_message(DateTime::UNIX_EPOCH);
        (message.subject, message.text) = (subject.to_owned(), body.to_owned());
        message
    }

    fn headers(email: &str) -> Vec<&str> {
        let head = email.split("\r\n\r\n").next().unwrap();
        let fields = head.lines().filter(|line| !line.starts_with(' '));
        fields
            .filter_map(|line| Some(line.split_once(':')?.0))
            .collect()
    }

    #[test]
    fn a_text_cannot_add_headers() {
        let plain = compose(
            &config(SmtpTls::Implicit),
            &message("a", "b"),
            DateTime::UNIX_EPOCH,
        );
        let plain = String::from_utf8(plain.unwrap().formatted()).unwrap();
        for hostile in [
            "a\r\nBcc: thief@evil.example",
            "a\nBcc: thief@evil.example\n\nbody",
            "a\rBcc: thief@evil.example",
            "тревога\r\nBcc: thief@evil.example",
            "=?utf-8?B?DQpCY2M6IHRoaWVm?=",
        ] {
            let email = message(hostile, hostile);
            let email = compose(&config(SmtpTls::Implicit), &email, DateTime::UNIX_EPOCH).unwrap();
            assert_eq!(email.envelope().to().len(), 1);
            let email = String::from_utf8(email.formatted()).unwrap();
            assert_eq!(headers(&email), headers(&plain), "{email}");
        }
    }

    #[test]
    fn an_email_has_the_given_time_and_a_stable_id() {
        let email = compose(
            &config(SmtpTls::Implicit),
            &message("a", "b"),
            DateTime::UNIX_EPOCH,
        );
        let email = String::from_utf8(email.unwrap().formatted()).unwrap();
        assert!(
            email.contains("Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n"),
            "{email}"
        );
        let id = message("a", "b").id;
        assert!(email.contains(&format!("Message-ID: <{id}@shop.example>\r\n")));
        assert!(email.contains("Auto-Submitted: auto-generated\r\n"));
    }

    #[test]
    fn unreadable_ca_files_are_named() {
        let file = PathBuf::from("/nowhere/ca.pem");
        let error = EmailSender::new(&config(SmtpTls::StartTls), Some(&file))
            .err()
            .unwrap();
        assert!(error.starts_with("ca_file /nowhere/ca.pem: "), "{error}");
        assert!(EmailSender::new(&config(SmtpTls::None), Some(&file)).is_ok());
    }
}
