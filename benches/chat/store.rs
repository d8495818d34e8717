//! The store alone: pages, searches and exports of a week that is full.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use gx_chat::client::{Exporter, Format};
use gx_chat::store::{ChatStore, NewMessage, Range, SqliteStore};
use gx_chat::{GroupId, Seq};
use serde_json::{Value, json};

use crate::Result;

/// Messages of a batch, and of a page.
const BATCH: u64 = 256;
const PAGE: u32 = 200;
/// So many messages have the same rare word.
const RARE: u64 = 2_000;
/// How often each is measured.
const PAGES: u64 = 400;
const SEARCHES: u64 = 40;
const EXPORTS: usize = 5;

/// Fills a store with so many messages, and measures.
pub(crate) fn measure(folder: &Path, rows: u64) -> Result<Value> {
    let store = SqliteStore::open(folder)?;
    let group: GroupId = "g".parse()?;
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let began = now.saturating_sub(rows);
    for first in (1..=rows).step_by(usize::try_from(BATCH)?) {
        let batch: Vec<NewMessage> = (first..=rows.min(first + BATCH - 1))
            .map(|number| message(&group, number))
            .collect::<Result<_>>()?;
        store.append(&batch, began + first)?;
    }
    let groups = BTreeSet::from([group.clone()]);
    let search = |words: &str| store.search(words, &groups, PAGE, 0);
    search("report")?; // takes all words into the index
    let mut page_ms = Vec::new();
    for number in 0..PAGES {
        // Here and there, and never where it was before.
        let after =
            Seq::new(number * 7_919 % rows.saturating_sub(u64::from(PAGE)).max(1)).unwrap_or(Seq::ZERO);
        let began = Instant::now();
        let page = store.read(&group, Range::After(after), PAGE, 0)?;
        page_ms.push(began.elapsed().as_secs_f64() * 1e3);
        if page.messages.len() != PAGE as usize {
            return Err(format!("a page has {} messages", page.messages.len()).into());
        }
    }
    let [mut rare_ms, mut common_ms] = [Vec::new(), Vec::new()];
    for number in 0..SEARCHES {
        for (words, times) in [
            (format!("word{}", number * 37 % RARE), &mut rare_ms),
            ("fuel report".to_owned(), &mut common_ms),
        ] {
            let began = Instant::now();
            let found = search(&words)?;
            times.push(began.elapsed().as_secs_f64() * 1e3);
            if found.hits.is_empty() {
                return Err(format!("nothing is found for {words}").into());
            }
        }
    }
    let (text_per_s, json_per_s) =
        (exports(&store, &group, Format::Text)?, exports(&store, &group, Format::JsonLines)?);
    Ok(json!({
        "page_ms": page_ms, "rare_ms": rare_ms, "common_ms": common_ms,
        "text_per_s": text_per_s, "json_per_s": json_per_s,
    }))
}

fn message(group: &GroupId, number: u64) -> Result<NewMessage> {
    let text = format!(
        "fuel report {number}: word{} and so on, until there are a hundred bytes of it, as there are elsewhere in this bench",
        number % RARE
    );
    Ok(NewMessage {
        group: group.clone(),
        from: format!("Writer{}", number % 64 + 1).parse()?,
        cid: format!("m{number}").parse()?,
        text: text.chars().take(100).collect(),
    })
}

/// Reads all messages page by page and puts them into words, some times; returns how many a second.
fn exports(store: &SqliteStore, group: &GroupId, format: Format) -> Result<Vec<f64>> {
    let mut speeds = Vec::new();
    for _ in 0..EXPORTS {
        let mut exporter = Exporter::new(format, group.clone());
        let (began, mut after, mut text) = (Instant::now(), Seq::ZERO, String::new());
        loop {
            let page = store.read(group, Range::After(after), PAGE, 0)?;
            text.clear();
            page.messages.iter().for_each(|message| exporter.add(message, &mut text));
            match page.messages.last() {
                Some(last) if page.more => after = last.seq,
                _ => break,
            }
        }
        speeds.push(exporter.count() as f64 / began.elapsed().as_secs_f64());
    }
    Ok(speeds)
}
