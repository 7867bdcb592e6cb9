//! What the commands of `cli` and `setup` share: printing, progress, the async runtime, and the
//! client of a running service.

pub(crate) mod ops_client;
pub(crate) mod progress;
pub(crate) mod readback_pass;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use tracing::warn;

use crate::config::{Config, ConfigError};
use crate::telemetry::printable_lines;

/// Limit of open files that is requested: 100 000, the largest value of `max_connections`, and 1000
/// for everything else.
const OPEN_FILE_LIMIT: u64 = 101_000;

/// Argument for the configuration file.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file, in TOML.
    #[arg(long, env = "STOCKBRIDGE_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
}

impl ConfigArgs {
    pub(crate) fn load(&self) -> Result<Config, ConfigError> {
        Config::load(&self.config)
    }
}

/// Prints a line on standard output.
///
/// Parts of the text come from sellers' files and from other servers, so characters that mislead a
/// terminal are escaped. JSON keeps its meaning, because the escapes are those of JSON.
pub(crate) fn print_line(text: &str) {
    // The reader of a pipe, such as `head`, may have closed it. That is not an error of the
    // command.
    let _ignored = writeln!(std::io::stdout(), "{}", printable_lines(text));
}

/// Prints a line about a problem on standard error, with the escapes of [`print_line`].
pub(crate) fn print_error(text: &str) {
    let _ignored = writeln!(std::io::stderr(), "{}", printable_lines(text));
}

/// Returns the exit code of a command that did its work: 1 if its result is not good.
pub(crate) fn exit_code(is_success: bool) -> ExitCode {
    ExitCode::from(u8::from(!is_success))
}

/// Builds the async runtime of every command that uses the network.
///
/// Each connection needs an open file, and the default limit of many systems is 1024, so the limit
/// is raised first. If that fails, the accept loop waits until a connection closes.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    if let Err(error) = rlimit::increase_nofile_limit(OPEN_FILE_LIMIT) {
        warn!(error = %error, "failed to raise the limit of open files");
    }
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}
