//! How the program's log is written: an event is one line, and nothing in it steers a terminal, whatever peers, engines
//! and requests have put there.

use std::fmt::{self, Debug};
use std::io::{self, Write};

use tracing::Subscriber;
use tracing::field::Field;
use tracing_subscriber::Layer;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::{MakeWriter, layer};
use tracing_subscriber::registry::LookupSpan;

use super::clean;

/// Returns what writes events for people.
pub(super) fn text<S, W>(writer: W, colour: bool) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    layer().with_writer(writer).with_ansi(colour).fmt_fields(debug_fn(field).delimited(" "))
}

/// Returns what writes events as a line of JSON each.
pub(super) fn json<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    layer().json().with_writer(Cleaned(writer))
}

fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    let text = format!("{value:?}");
    let text = clean::line(&text);
    match field.name() {
        "message" => write!(writer, "{text}"),
        name => write!(writer, "{name}={text}"),
    }
}

/// Writes JSON to another, without what steers a terminal.
struct Cleaned<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Cleaned<W> {
    type Writer = Cleaned<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Cleaned(self.0.make_writer())
    }
}

impl<W: Write> Write for Cleaned<W> {
    // Whole lines are written at once.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(clean::json(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::prelude::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns what is written of an event that has everything from outside which could do harm.
    fn written<L: Layer<tracing_subscriber::Registry> + Send + Sync>(
        layer: impl FnOnce(Page) -> L,
    ) -> String {
        let page = Page::default();
        let subscriber = tracing_subscriber::registry().with(layer(page.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let evil = "a\u{1b}[2Jb\r\nINFO forged\u{9b}2J\u{7f}\u{202e}";
            tracing::info!(path = %evil, from = evil, name = ?Some(evil), "refused {evil}");
        });
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_event_is_one_line_that_steers_no_terminal() {
        let text = written(|page| text(move || page.clone(), false));
        let line = text.strip_suffix('\n').unwrap();
        assert_eq!(clean::line(line), line);
        assert!(line.contains("refused ab INFO forged") && line.contains("path=ab INFO forged"), "{line}");
    }

    #[test]
    fn an_event_in_json_is_one_line_that_steers_no_terminal() {
        let text = written(|page| json(move || page.clone()));
        let line = text.strip_suffix('\n').unwrap();
        assert_eq!(clean::line(line), line);
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            value["fields"]["path"], "a\u{1b}[2Jb\r\nINFO forged\u{9b}2J\u{7f}\u{202e}",
            "and nothing is lost"
        );
    }
}
