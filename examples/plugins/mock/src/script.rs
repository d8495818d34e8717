//! The shell's grammar, as far as the mock goes: commands with arguments, quotes, `$NAME`, `|`, `;`, `&`,
//! `>FILE`, `>&2`.
//!
//! What a command does is in `programs.rs`.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Command {
    /// The program and its arguments.
    pub(crate) argv: Vec<String>,
    /// Where its standard output goes instead.
    pub(crate) redirect: Option<Redirect>,
}

/// Where standard output goes instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// To standard error (`>&2`).
    Stderr,
    /// To a file (`>FILE`).
    File(String),
}

/// Commands joined by `|`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pipeline {
    /// The commands, one at least.
    pub(crate) commands: Vec<Command>,
    /// Whether it ends in `&`: nobody waits for it.
    pub(crate) background: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Pipe,
    Semicolon,
    Ampersand,
    Redirect,
}

/// Reads a script, putting in the values of variables.
///
/// # Errors
/// What is wrong with it, as a shell says it.
pub(crate) fn parse(text: &str, env: &BTreeMap<String, String>) -> Result<Vec<Pipeline>, String> {
    let mut pipelines = Vec::new();
    let mut pipeline = Pipeline::default();
    let mut command = Command::default();
    let mut tokens = tokens(text, env)?.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            Token::Word(word) => command.argv.push(word),
            Token::Redirect => {
                let to_stderr = tokens.next_if_eq(&Token::Ampersand).is_some();
                command.redirect = match (to_stderr, tokens.next()) {
                    (true, Some(Token::Word(word))) if word == "2" => Some(Redirect::Stderr),
                    (false, Some(Token::Word(path))) => Some(Redirect::File(path)),
                    _ => return Err("syntax error: bad redirection".into()),
                };
            }
            Token::Pipe => pipeline.commands.push(complete(&mut command)?),
            Token::Semicolon | Token::Ampersand => {
                pipeline.commands.push(complete(&mut command)?);
                pipeline.background = token == Token::Ampersand;
                pipelines.push(std::mem::take(&mut pipeline));
            }
        }
    }
    if command != Command::default() || !pipeline.commands.is_empty() {
        pipeline.commands.push(complete(&mut command)?);
        pipelines.push(pipeline);
    }
    Ok(pipelines)
}

fn complete(command: &mut Command) -> Result<Command, String> {
    let command = std::mem::take(command);
    if command.argv.is_empty() { Err("syntax error: a command is missing".into()) } else { Ok(command) }
}

fn tokens(text: &str, env: &BTreeMap<String, String>) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let operator = match letter {
            '|' => Some(Token::Pipe),
            ';' | '\n' => Some(Token::Semicolon),
            '&' => Some(Token::Ampersand),
            '>' => Some(Token::Redirect),
            _ => None,
        };
        match letter {
            '\'' | '"' => {
                let quoted = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        Some(end) if end == letter => break,
                        Some('$') if letter == '"' => quoted.push_str(&value(&mut letters, env)),
                        Some(inside) => quoted.push(inside),
                        None => return Err("syntax error: unterminated quoted string".into()),
                    }
                }
            }
            _ if operator.is_some() || letter.is_whitespace() => {
                tokens.extend(word.take().map(Token::Word));
                tokens.extend(operator);
            }
            '$' => word.get_or_insert_default().push_str(&value(&mut letters, env)),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    tokens.extend(word.map(Token::Word));
    Ok(tokens)
}

/// Reads the name after a `$` and returns its value; a `$` without a name is itself.
fn value(letters: &mut Peekable<Chars<'_>>, env: &BTreeMap<String, String>) -> String {
    let mut name = String::new();
    while let Some(letter) = letters.next_if(|&letter| letter == '_' || letter.is_ascii_alphanumeric()) {
        name.push(letter);
    }
    if name.is_empty() { "$".into() } else { env.get(&name).cloned().unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(argv: &[&str], redirect: Option<Redirect>) -> Command {
        Command { argv: argv.iter().map(|&word| word.to_owned()).collect(), redirect }
    }

    #[test]
    fn a_script_is_read() {
        let none = BTreeMap::new();
        let script =
            parse("trap 'exit 7' TERM; echo a>&2; sleep 5 & yes \"x y\" | head -c 9 > /tmp/f", &none)
                .unwrap();
        let one = |command| Pipeline { commands: vec![command], background: false };
        let last = Some(Redirect::File("/tmp/f".into()));
        let expected = [
            one(command(&["trap", "exit 7", "TERM"], None)),
            one(command(&["echo", "a"], Some(Redirect::Stderr))),
            Pipeline { commands: vec![command(&["sleep", "5"], None)], background: true },
            Pipeline {
                commands: vec![command(&["yes", "x y"], None), command(&["head", "-c", "9"], last)],
                background: false,
            },
        ];
        assert_eq!(script, expected);
        assert_eq!(parse("", &none).unwrap(), []);
    }

    #[test]
    fn nonsense_is_an_error() {
        for bad in ["'", "echo |", ";", "echo >", "echo >&3", "| echo"] {
            assert!(parse(bad, &BTreeMap::new()).is_err(), "{bad}");
        }
    }

    #[test]
    fn variables_have_their_values_but_not_in_single_quotes() {
        let env = BTreeMap::from([("A".to_owned(), "1 2".to_owned())]);
        let script = parse("echo $A \"<$A>\" '$A' $B. $ 5$", &env).unwrap();
        assert_eq!(script[0].commands[0].argv, ["echo", "1 2", "<1 2>", "$A", ".", "$", "5$"]);
    }
}
