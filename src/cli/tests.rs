//! Tests of the help texts: each command has examples that parse, and each argument a description.

use clap::{Arg, Command, CommandFactory as _, Parser as _};

use super::Cli;

/// Words of an example, as a shell splits them. Quotes are single ones; a redirection or a pipe
/// ends the command.
fn words(example: &str) -> Vec<String> {
    let command = example.split(['>', '|']).next().unwrap_or_default();
    let parts = command.split('\'').enumerate();
    let mut words = Vec::new();
    for (index, part) in parts {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// The examples of a command, without variables and pipes in front of the program.
fn examples(command: &Command) -> Vec<String> {
    let help = command.get_after_help().unwrap().to_string();
    let mut lines = help.lines();
    assert_eq!(lines.next(), Some("Examples:"), "{}", command.get_name());
    lines
        .map(|line| line.strip_prefix("  ").unwrap())
        .map(|line| {
            let (_, arguments) = line.split_once("stockbridge ").unwrap();
            format!("stockbridge {arguments}")
        })
        .collect()
}

#[test]
fn examples_of_each_command_parse() {
    for command in Cli::command().get_subcommands() {
        let examples = examples(command);
        assert!((2..=4).contains(&examples.len()), "{}", command.get_name());
        for example in examples {
            let words = words(&example);
            assert_eq!(words[1], command.get_name(), "{example}");
            assert!(Cli::try_parse_from(words).is_ok(), "{example}");
        }
    }
}

#[test]
fn each_argument_has_a_description() {
    for command in Cli::command().get_subcommands() {
        let arguments = command.get_arguments().filter(|arg| arg.get_id() != "help");
        for argument in arguments {
            let help = argument.get_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            let name = Arg::get_id(argument);
            assert!(
                help.starts_with(char::is_alphabetic) || help.starts_with('`'),
                "{name}: {help}"
            );
        }
    }
}
