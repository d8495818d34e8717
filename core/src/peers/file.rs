//! The table as text: `{"ip_address": […]}`, as people know it from the predecessor, on disk and over HTTP.
//!
//! A row with a `record` and a `signature` is a server with a key; one without is known by its address only. Fields that
//! are not known are passed over, figures that others measured too. Where the text is kept, and that it is written whole
//! or not at all, is not decided here.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::id::{NodeId, Timestamp};
use crate::peers::address::{Network, Source};
use crate::peers::exchange::{Answer, Ask};
use crate::peers::observation::{Freshness, Observation};

use crate::peers::record::{RecordError, Signature, SignedRecord, VerifiedRecord, Verify, clean_text};
use crate::peers::table::{Entry, Inserted, Merged, Page, PeerTable, Refused, TableLimits, last_address};

/// The port of a row that names none, as the predecessor had it.
const LEGACY_PORT: u16 = 8_088;

/// One server in a file, a page or an upload.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Row {
    /// What the server says of itself, as it was signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// Its signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// Its IPv4 address, for the predecessor's programs.
    #[serde(
        alias = "IPV4",
        alias = "Ipv4",
        deserialize_with = "lenient",
        skip_serializing_if = "String::is_empty"
    )]
    pub ipv4: String,
    /// Its IPv6 address.
    #[serde(
        alias = "IPV6",
        alias = "Ipv6",
        deserialize_with = "lenient",
        skip_serializing_if = "String::is_empty"
    )]
    pub ipv6: String,
    /// Its port.
    #[serde(alias = "ServerPort", deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub serverport: String,
    /// What it is called.
    #[serde(alias = "Name", deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Only in a file of one's own: what I measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observation>,
    /// Only in a file of one's own: it is kept whatever happens.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// Only in a file of one's own: the network it was told by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Only in a file of one's own: its addresses that may be dialled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dial: Option<Vec<SocketAddr>>,
    /// Only in a file of one's own: another text of the same seq, which quarantines the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rival: Option<SignedRecord>,
}

/// Reads what should be a text and may be a number, or anything else, which is nothing.
fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => text,
        serde_json::Value::Number(number) => number.to_string(),
        _ => String::new(),
    })
}

/// The answer to `GET /ip_table?after=&limit=`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TablePage {
    /// The servers, in the order of their node ids.
    pub ip_address: Vec<Row>,
    /// What to give as `after` for the next page; without it this is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<NodeId>,
}

/// What `POST /ip_table` carries as the part `json` of its multipart form; the predecessor's programs send the rows only.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Upload {
    /// Servers.
    #[serde(default)]
    pub ip_address: Vec<Row>,
    /// What is asked for in return; without it the answer is a [`TablePage`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<Ask>,
}

/// The answer to an [`Upload`] with an [`Ask`], as the asking end reads it.
pub type Reply = Answer<SignedRecord>;

/// A text that is no table, and where it stops being one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the table of servers is damaged at line {line}, column {column}: {because}")]
pub struct FileError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1; 0 is before the first.
    pub column: usize,
    /// What is wrong: a lower-case fragment.
    pub because: String,
}

/// What came of reading rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Read {
    /// What became of those with a key.
    pub keyed: Merged,
    /// Rows without a key that were new.
    pub keyless: usize,
    /// Rows that were passed over: which one, from 0, and why.
    pub skipped: Vec<(usize, Skipped)>,
}

/// Why a row was passed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Skipped {
    /// It is no row at all, or has no address.
    #[error("it says of no server where it is")]
    Nothing,
    /// Its record is no good.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The table does not take it.
    #[error(transparent)]
    Refused(#[from] Refused),
}

#[derive(Deserialize)]
struct Document {
    ip_address: Vec<Lenient>,
}

/// A row, or what is in the place of one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lenient {
    Row(Box<Row>),
    Other(serde::de::IgnoredAny),
}

/// Reads rows from a text; `None` is what is in the place of one.
///
/// # Errors
/// [`FileError`] when it is no JSON, or has no `ip_address`.
pub fn rows(text: &str) -> Result<Vec<Option<Row>>, FileError> {
    let document: Document = serde_json::from_str(text).map_err(|error| {
        let told = error.to_string();
        let because = told.split(" at line ").next().unwrap_or_default();
        FileError { line: error.line(), column: error.column(), because: clean_text(because, 160) }
    })?;
    let row = |lenient| match lenient {
        Lenient::Row(row) => Some(*row),
        Lenient::Other(_) => None,
    };
    Ok(document.ip_address.into_iter().map(row).collect())
}

impl PeerTable {
    /// Takes in rows that somebody else told. Whatever they say beside records and addresses is passed over.
    pub fn merge_rows(
        &mut self,
        rows: &[Option<Row>],
        source: Source,
        verify: Verify<'_>,
        now: Timestamp,
    ) -> Read {
        let mut read = Read::default();
        for (at, row) in rows.iter().enumerate() {
            if let Err(why) = self.merge_row(row.as_ref(), source, verify, now, &mut read) {
                read.skipped.push((at, why));
            }
        }
        read
    }

    fn merge_row(
        &mut self,
        row: Option<&Row>,
        source: Source,
        verify: Verify<'_>,
        now: Timestamp,
        read: &mut Read,
    ) -> Result<(), Skipped> {
        let row = row.ok_or(Skipped::Nothing)?;
        if let Some(signed) = row.signed() {
            let record = signed.verify(verify, now)?;
            let result = self.insert(record, source, now);
            read.keyed.count(result);
            return Ok(result.map(drop)?);
        }
        let address = row.address().ok_or(Skipped::Nothing)?;
        let inserted = self.insert_legacy(address, &row.name, source, now)?;
        read.keyless += usize::from(inserted == Inserted::New);
        Ok(())
    }

    /// Fills the table from a file of one's own, as [`to_text`](PeerTable::to_text) wrote it: with what was measured,
    /// pinned and quarantined. A server that answered once and whose record has ended since is kept as a row without a key,
    /// so that it can be asked anew, until it has not answered for as long as the table's limits say.
    ///
    /// # Errors
    /// [`FileError`] when the text is damaged; the table is then as it was.
    pub fn read_own(&mut self, text: &str, verify: Verify<'_>, now: Timestamp) -> Result<Read, FileError> {
        let rows = rows(text)?;
        let mut read = Read::default();
        for (at, row) in rows.iter().enumerate() {
            let Some(row) = row else {
                read.skipped.push((at, Skipped::Nothing));
                continue;
            };
            if let Err(why) = self.restore_row(row, verify, now, &mut read) {
                read.skipped.push((at, why));
            }
        }
        Ok(read)
    }

    fn restore_row(
        &mut self,
        row: &Row,
        verify: Verify<'_>,
        now: Timestamp,
        read: &mut Read,
    ) -> Result<(), Skipped> {
        let Some(signed) = row.signed() else {
            let address = row.address().ok_or(Skipped::Nothing)?;
            return self.restore_legacy(address, row, read, now);
        };
        let record = match signed.verify(verify, now) {
            Err(ended @ RecordError::Expired { node, .. }) if self.own() != Some(node) => {
                let TableLimits { stale_after, drop_after, .. } = self.limits();
                let wanted = row.observed.is_some_and(|seen| {
                    seen.last_seen.is_some()
                        && seen.freshness(stale_after, drop_after, now) != Freshness::Dropped
                });
                let address = row.last_address().filter(|_| wanted || row.pinned).ok_or(ended)?;
                return self.restore_legacy(address, row, read, now);
            }
            other => other?,
        };
        let rival = row.rival.as_ref().and_then(|rival| rival.verify(verify, now).ok());
        let result = self.restore(record, rival, row, now);
        read.keyed.count(result);
        Ok(result.map(drop)?)
    }

    fn restore_legacy(
        &mut self,
        address: SocketAddr,
        row: &Row,
        read: &mut Read,
        now: Timestamp,
    ) -> Result<(), Skipped> {
        // As a public address would be told by anybody, so that only pinned ones are above all quotas.
        let source = if row.pinned { Source::Own } else { Source::Peer(address.ip()) };
        let inserted = self.insert_legacy(address, &row.name, source, now)?;
        self.put_back_legacy(address, row);
        read.keyless += usize::from(inserted == Inserted::New);
        Ok(())
    }

    /// Returns the table as text for a file of one's own.
    pub fn to_text(&self) -> String {
        let keyed = self.iter().map(|(_, entry)| Row {
            observed: entry.observed(),
            pinned: entry.is_pinned(),
            source: entry.source().map(|network| network.to_string()),
            dial: Some(entry.addresses().collect()),
            rival: entry.rival().map(VerifiedRecord::signed),
            ..Row::of(entry.record())
        });
        let keyless = self.legacy().map(|(address, legacy)| Row {
            name: legacy.name.clone(),
            observed: Some(legacy.seen).filter(|seen| *seen != Observation::default()),
            pinned: legacy.pinned,
            source: legacy.source.map(|network| network.to_string()),
            ..Row::at(Some(address))
        });
        // A line for each server: a person finds it, and a program that compares versions shows what changed.
        let mut text = String::from("{\"ip_address\":[");
        for (at, row) in keyed.chain(keyless).enumerate() {
            text.push_str(if at == 0 { "\n" } else { ",\n" });
            text.push_str(&serde_json::to_string(&row).unwrap_or_else(|_| "{}".to_owned()));
        }
        text.push_str("\n]}\n");
        text
    }
}

impl Row {
    /// Returns a record as a row, with its first address beside it for the predecessor's programs.
    pub fn of(record: &VerifiedRecord) -> Self {
        let SignedRecord { record: text, signature } = record.signed();
        let address = record.addresses().first().copied();
        Self { record: Some(text), signature: Some(signature), ..Self::at(address) }
    }

    fn at(address: Option<SocketAddr>) -> Self {
        let Some(address) = address else { return Self::default() };
        let ip = address.ip().to_string();
        let (ipv4, ipv6) = if address.is_ipv4() { (ip, String::new()) } else { (String::new(), ip) };
        Self { ipv4, ipv6, serverport: address.port().to_string(), ..Self::default() }
    }

    /// Returns the record in it, not yet verified.
    pub fn signed(&self) -> Option<SignedRecord> {
        Some(SignedRecord { record: self.record.clone()?, signature: self.signature? })
    }

    /// Returns the address that it names beside a record.
    pub fn address(&self) -> Option<SocketAddr> {
        let port =
            if self.serverport.is_empty() { LEGACY_PORT } else { self.serverport.trim().parse().ok()? };
        let [v4, v6] = [&self.ipv4, &self.ipv6].map(|text| text.trim().parse::<IpAddr>().ok());
        Some(SocketAddr::new(v4.or(v6)?, port))
    }

    /// Returns where to ask for a server whose record has ended, as [`Entry`] has it.
    fn last_address(&self) -> Option<SocketAddr> {
        last_address(self.dial.iter().flatten().copied(), self.network())
    }

    pub(super) fn network(&self) -> Option<Network> {
        self.source.as_ref()?.parse().ok()
    }
}

impl From<Page> for TablePage {
    fn from(page: Page) -> Self {
        Self { ip_address: page.records.iter().map(Row::of).collect(), next: page.next }
    }
}

impl From<&Entry> for Row {
    fn from(entry: &Entry) -> Self {
        Self::of(entry.record())
    }
}
