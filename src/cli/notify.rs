//! `notify`: sends a test message over each channel of a configuration.

use std::process::ExitCode;

use anyhow::bail;
use lifecycle::Clock;

use crate::command::{ConfigArgs, exit_code, print_line, runtime};
use crate::config::Config;
use crate::notify::{ChannelConfig, Context, Metrics, send_test};
use crate::telemetry::Alarms;

pub(super) const EXAMPLES: &str = "\
Examples:
  stockbridge notify --test --config config.toml
  stockbridge notify --test --name ops --config config.toml";

/// Arguments of `notify`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Send a test message in the language of each channel, and print a line for each.
    #[arg(long, required = true)]
    test: bool,
    /// Only the channel of this name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Sends the test messages one after the other. Fails if one was not delivered.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?;
    let channels = chosen_channels(&config, args.name.as_deref())?;
    let clock = Clock::wall();
    let context = Context {
        alarms: Alarms::new(clock),
        clock,
        outbound: config.outbound(),
        page_url: config.page_url.clone(),
        shops: config.shops.iter().map(|shop| shop.name.clone()).collect(),
        metrics: Metrics::default(),
    };
    let is_complete = runtime()?.block_on(async {
        let mut is_complete = true;
        for channel in channels {
            let result = send_test(channel, &context).await;
            is_complete &= result.is_ok();
            let result = result.map_or_else(|error| format!("FAIL: {error}"), |()| "ok".to_owned());
            print_line(&format!(
                "{} ({}): {result}",
                channel.name,
                channel.kind.name()
            ));
        }
        is_complete
    });
    Ok(exit_code(is_complete))
}

/// Returns the channel of this name, or all of them.
fn chosen_channels<'a>(
    config: &'a Config,
    name: Option<&str>,
) -> anyhow::Result<Vec<&'a ChannelConfig>> {
    let is_chosen = |channel: &&ChannelConfig| name.is_none_or(|name| channel.name == name);
    let chosen: Vec<&ChannelConfig> = config.notify.iter().filter(is_chosen).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = config.notify.iter().map(|c| c.name.as_str()).collect();
        match name {
            Some(name) if !names.is_empty() => {
                bail!(
                    "no channel has the name '{name}': the names are {}",
                    names.join(", ")
                )
            }
            Some(_) | None => bail!(
                "the configuration has no [[notify]] table: add one for each channel, as \
                 docs/notifications.md describes"
            ),
        }
    }
    Ok(chosen)
}
