//! Environment variables for containers: those in files, so that a secret need not be in an argument, which every user
//! of the machine can read.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::error::{CliError, Result};

/// More than fits into a request is not read.
const MAX_BYTES: u64 = 1 << 20;

/// Returns the variables of files, and those of the command line after them, so that they win.
pub(crate) fn all(
    files: &[impl AsRef<Path>],
    given: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for file in files {
        all.extend(of_file(file.as_ref())?);
    }
    all.extend(given);
    Ok(all)
}

fn of_file(file: &Path) -> Result<Vec<(String, String)>> {
    let is_stdin = file == Path::new("-");
    let shown = if is_stdin { "standard input".to_owned() } else { file.display().to_string() };
    let mut bytes = Vec::new();
    let read = match is_stdin {
        true => io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes),
        false => File::open(file).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)),
    };
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CliError::usage(format!("there is no file {shown}"))
                .hint("name a file with a line NAME=VALUE for each variable, or - for standard input"));
        }
        Err(error) => return Err(CliError::io(format!("cannot read {shown}"), &error)),
        Ok(_) if bytes.len() as u64 > MAX_BYTES => {
            return Err(CliError::usage(format!("{shown} is longer than {MAX_BYTES} bytes"))
                .hint("large values go into the container by `gx cp`"));
        }
        Ok(_) => {}
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        CliError::usage(format!("{shown} is not UTF-8")).hint("files go into the container by `gx cp`")
    })?;
    of_text(&text).map_err(|(line, why)| {
        // The line itself is not told: it may be most of a secret.
        CliError::usage(format!("{shown}:{line}: {why}")).hint(
            "a line is NAME=VALUE, everything after = as it stands; lines that begin with # are passed over",
        )
    })
}

fn of_text(text: &str) -> Result<Vec<(String, String)>, (usize, &'static str)> {
    let mut all = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once('=') {
            Some((name, value)) if !name.is_empty() => all.push((name.to_owned(), value.to_owned())),
            Some(_) => return Err((number, "there is no name before the =")),
            None => return Err((number, "there is no = in the line")),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_variables_and_the_command_line_wins() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("env");
        std::fs::write(&file, "# a comment\nA=1\n\nB=x = \"y\" #z\nC=\n").unwrap();
        let given = [("A".to_owned(), "2".to_owned())];
        let all = all(&[file], given).unwrap();
        let all: Vec<_> = all.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(all, [("A", "1"), ("B", "x = \"y\" #z"), ("C", ""), ("A", "2")]);
    }

    #[test]
    fn what_is_wrong_is_told_without_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("env");
        for (content, message) in [
            (&b"A=1\nhunter2\n"[..], "env:2: there is no = in the line"),
            (b"=hunter2", "env:1: there is no name before the ="),
            (b"A=\xff", "is not UTF-8"),
        ] {
            std::fs::write(&file, content).unwrap();
            let error = of_file(&file).unwrap_err();
            assert!(error.message.ends_with(message) && !error.hints.is_empty(), "{error:?}");
            assert!(!format!("{error:?}").contains("hunter2"));
        }
        std::fs::write(&file, vec![b'#'; MAX_BYTES as usize + 1]).unwrap();
        assert!(of_file(&file).unwrap_err().message.contains("is longer than"));
        assert!(of_file(Path::new("/not/there")).unwrap_err().message.contains("there is no file"));
    }
}
