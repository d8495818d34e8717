//! The client's half of the chat, without socket, terminal and clock: what is kept, what a typed line means, what is shown,
//! and [`Talk`], which turns frames and lines into frames and lines.

mod export;
mod line;
mod room;
mod shown;
mod talk;
mod week;

#[cfg(test)]
mod tests;

pub use export::{Exported, Exporter, Format, clock, text_line};
pub use line::{LOG_OUT, Typed, help, typed};
pub use shown::shown;
pub use talk::{Effect, Shown, Talk, hello};
pub use week::{Place, Retention, Waiting, Week, WeekError};
