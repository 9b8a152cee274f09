//! Command lines as a user would type them, for logs and reports.

use std::env;

/// Returns the command line of this process.
pub fn of_this_process() -> String {
    command_line(env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()))
}

/// Returns a command line of the trainer with these arguments. Those with spaces or special characters are quoted.
pub fn command_line(arguments: impl IntoIterator<Item = String>) -> String {
    std::iter::once("trainer".to_owned()).chain(arguments.into_iter().map(quote)).collect::<Vec<_>>().join(" ")
}

/// Quotes an argument for a POSIX shell, if necessary.
fn quote(argument: String) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=./,:@+%".contains(&byte);
    if !argument.is_empty() && argument.bytes().all(is_plain) {
        argument
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_for_a_shell() {
        let arguments = ["report", "my run", "it's", "<b>", "", "a=1"].map(str::to_owned);
        assert_eq!(command_line(arguments), r"trainer report 'my run' 'it'\''s' '<b>' '' a=1");
    }
}
