//! Kinds of errors of a database server, and what to do about each of them.

use std::fmt;
use std::io;

/// Kind of an error of a database server, as far as its cure differs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DatabaseProblem {
    /// The server does not have the database.
    MissingDatabase,
    /// The server does not accept the password.
    WrongPassword,
    /// The server does not let the user in, with any password.
    NotAdmitted,
    /// The user may not do what was tried.
    MissingRight,
    /// The server, the database or the user has no connection left.
    TooManyConnections,
    /// The server starts or stops.
    NotReady,
    /// No program listens at the host and port.
    Refused,
    /// The name of the host has no address.
    UnknownHost,
    /// The server, the network between, or another process needs too long.
    NoResponse,
    /// The server does not confirm commits, as without the standby for which it waits.
    Unconfirmed,
    /// The connection ended.
    Disconnected,
    /// The server does not speak TLS.
    WithoutTls,
    /// The server's certificate is not valid for `sslmode`.
    InvalidCertificate,
    /// The text of the error has its cure.
    Described,
    /// Any other error.
    Other,
}

/// Error of a connection whose kind is known.
#[derive(Clone, Debug)]
pub(super) struct ConnectionFailure {
    pub(super) what: String,
    pub(super) problem: DatabaseProblem,
}

impl ConnectionFailure {
    /// Wraps the failure, so that it can be returned as an error of the driver.
    pub(super) fn into_error(self) -> sqlx::Error {
        sqlx::Error::Io(io::Error::other(self))
    }
}

impl std::error::Error for ConnectionFailure {}

impl fmt::Display for ConnectionFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl DatabaseProblem {
    /// Returns the kind of an error of the driver.
    pub(super) fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(database) => {
                Self::of_code(database.code().as_deref().unwrap_or_default())
            }
            sqlx::Error::Io(error) => Self::of_io(error),
            sqlx::Error::Tls(error) if error.to_string().contains("does not support TLS") => {
                Self::WithoutTls
            }
            sqlx::Error::Tls(_) => Self::InvalidCertificate,
            _ => Self::Other,
        }
    }

    /// Returns the kind of an SQLSTATE. Source: PostgreSQL's documentation, appendix A.
    fn of_code(code: &str) -> Self {
        match code {
            "3D000" => Self::MissingDatabase,
            "28P01" => Self::WrongPassword,
            "28000" => Self::NotAdmitted,
            "42501" => Self::MissingRight,
            "53300" => Self::TooManyConnections,
            "57P01" | "57P02" | "57P03" => Self::NotReady,
            // The server has ended a transaction in which this process was silent for too long.
            "25P03" => Self::Disconnected,
            // Timeouts of a statement and of a lock.
            "57014" | "55P03" => Self::NoResponse,
            _ => Self::Other,
        }
    }

    fn of_io(error: &io::Error) -> Self {
        if let Some(inner) = error.get_ref()
            && let Some(failure) = inner.downcast_ref::<ConnectionFailure>()
        {
            return failure.problem;
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable => Self::NoResponse,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof => Self::Disconnected,
            // rustls reports an invalid certificate so.
            io::ErrorKind::InvalidData => Self::InvalidCertificate,
            // The standard library has no kind for it.
            _ if error.to_string().contains("lookup address") => Self::UnknownHost,
            _ => Self::Other,
        }
    }

    /// Returns what to do, if the address is in the file of this setting. `None` if the text of the
    /// error says it.
    #[must_use]
    pub fn cure(self, setting: &str) -> Option<String> {
        Some(match self {
            Self::MissingDatabase => format!(
                "create it with CREATE DATABASE, or correct its name in the file of {setting}"
            ),
            Self::WrongPassword => format!(
                "correct the user and the password in the file of {setting}; in it, write reserved \
                 characters such as # @ / % in percent-encoding"
            ),
            Self::NotAdmitted => format!(
                "correct the user in the file of {setting}, or give it LOGIN and a line in \
                 pg_hba.conf that fits this machine and the sslmode"
            ),
            Self::MissingRight => format!(
                "make the user in the file of {setting} the owner of the database and of its schema \
                 stockbridge"
            ),
            Self::TooManyConnections => format!(
                "raise max_connections of the server, or CONNECTION LIMIT of the database or of the \
                 user in the file of {setting}"
            ),
            Self::NotReady => "wait until the server has started, or start it".to_owned(),
            Self::Refused => format!(
                "start the server, or correct host and port in the file of {setting}; the server \
                 must listen there, see its listen_addresses"
            ),
            Self::UnknownHost => {
                format!("correct the host in the file of {setting}, or the DNS of this machine")
            }
            Self::NoResponse => format!(
                "check the load of the server, the network, and host and port in the file of \
                 {setting}"
            ),
            Self::Unconfirmed => {
                let cure = "if synchronous_standby_names of the server is set, start the standby that \
                            it names, or remove it from there until it is back; otherwise check the \
                            disk of the server and the network";
                cure.to_owned()
            }
            Self::Disconnected => "check the server, its log and the network".to_owned(),
            Self::WithoutTls => format!(
                "switch on TLS at the server (ssl = on), or set another sslmode in the file of \
                 {setting}: prefer works without TLS"
            ),
            Self::InvalidCertificate => format!(
                "the sslmode in the file of {setting} decides what is checked: verify-ca and \
                 verify-full need a certificate of an authority in the file of sslrootcert or of \
                 this machine, and verify-full also the name of the host in it"
            ),
            Self::Described => return None,
            Self::Other => format!(
                "check the server and its log, the address in the file of {setting}, and the \
                 rights of its user"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_has_a_cure_with_its_setting() {
        use DatabaseProblem as P;
        for (code, problem, word) in [
            ("3D000", P::MissingDatabase, "CREATE DATABASE"),
            ("28P01", P::WrongPassword, "percent-encoding"),
            ("28000", P::NotAdmitted, "pg_hba.conf"),
            ("42501", P::MissingRight, "owner"),
            ("53300", P::TooManyConnections, "max_connections"),
            ("57014", P::NoResponse, "network"),
            ("XX000", P::Other, "rights"),
        ] {
            let found = P::of_code(code);
            assert_eq!(found, problem, "{code}");
            let cure = found.cure("store_url_file").unwrap();
            assert!(
                cure.contains(word) && cure.contains("store_url_file"),
                "{cure}"
            );
        }
        assert_eq!(P::of_code("57P03"), P::NotReady);
    }

    #[test]
    fn errors_of_the_network_have_kinds() {
        use DatabaseProblem as P;
        let of = |kind: io::ErrorKind| P::of(&sqlx::Error::Io(kind.into()));
        assert_eq!(of(io::ErrorKind::ConnectionRefused), P::Refused);
        assert_eq!(of(io::ErrorKind::TimedOut), P::NoResponse);
        assert_eq!(of(io::ErrorKind::UnexpectedEof), P::Disconnected);
        let text = "failed to lookup address information: Name or service not known";
        assert_eq!(
            P::of(&sqlx::Error::Io(io::Error::other(text))),
            P::UnknownHost
        );
        let tls = |text: &str| P::of(&sqlx::Error::Tls(text.into()));
        assert_eq!(tls("server does not support TLS"), P::WithoutTls);
        assert_eq!(tls("invalid peer certificate"), P::InvalidCertificate);
        // The kind of a failure is kept while no new connection is tried.
        let failure = ConnectionFailure {
            what: "refused".to_owned(),
            problem: P::Refused,
        };
        let error = failure.into_error();
        assert_eq!(
            (P::of(&error), error.to_string().contains("refused")),
            (P::Refused, true)
        );
    }
}
