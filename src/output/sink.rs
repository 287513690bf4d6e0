//! Sinks: where records go, and in which of the three shapes.

use std::io;
use std::sync::Arc;

use super::destination::{BUFFER_BYTES, BufferedLines, Counted, Destination, RecordEnd};
use super::field_value::{FieldRef, Globals, TextMode, push_scalar};
use super::jsonl::{self, Member};
use super::table_view::{TableRow, draw};
use super::template::{RecordTemplate, render_global};
use crate::event::{Layout, Record, Scalar, text};

/// A column of a CSV file or a member of a JSON object, as the config asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkColumn {
    /// A field by its name.
    Field(String),
    /// A name and the template of its text.
    Template(String, String),
}

impl SinkColumn {
    /// The column's or member's name.
    pub fn name(&self) -> &str {
        let (SinkColumn::Field(name) | SinkColumn::Template(name, _)) = self;
        name
    }
}

/// The shape of a sink's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkFormat {
    /// Lines of text.
    Text { template: String, header: Option<String> },
    /// What a program adds up, as tables and histograms for a person.
    Pretty { header: Option<String> },
    /// Comma-separated values. The columns are never empty.
    Csv { columns: Vec<SinkColumn> },
    /// JSON Lines; `None`: every field of the record's program.
    Jsonl { fields: Option<Vec<SinkColumn>> },
}

/// Where one value of a record comes from, for one probe.
#[derive(Debug)]
pub enum Cell {
    /// A field.
    Field(FieldRef),
    /// A template.
    Template(Box<RecordTemplate>),
    /// A field that this probe's program does not have, but another one's of the same sink.
    Absent,
}

/// Why a record was not written.
#[derive(Debug)]
pub enum WriteError {
    /// A template could not be rendered; the sink goes on.
    Record(String),
    /// The file took no more; the sink is done.
    File(io::Error),
}

/// A probe that a sink writes the records of.
#[derive(Debug, Clone, Copy)]
pub struct RecordSource<'a> {
    /// The shape of its events.
    pub layout: &'a Arc<Layout>,
    /// Its name.
    pub name: &'a str,
}

/// A sink at work.
#[derive(Debug)]
pub struct OpenSink {
    writer: SinkWriter,
    scratch: String,
    /// What each of its files begins with.
    header: Header,
}

#[derive(Debug)]
enum Header {
    Line(String),
    Columns(Vec<String>),
    None,
}

/// The lists have one entry a probe of the config, `None` where it does not write here.
#[derive(Debug)]
enum SinkWriter {
    Text {
        templates: Vec<Option<RecordTemplate>>,
        lines: BufferedLines,
    },
    Drawn {
        probes: Vec<Option<(String, Arc<Layout>)>>,
        waiting: Vec<(usize, TableRow)>,
        width: Option<usize>,
        lines: BufferedLines,
    },
    Csv {
        cells: Vec<Option<Vec<Cell>>>,
        mode: TextMode,
        row: csv::ByteRecord,
        csv: Box<csv::Writer<Counted>>,
    },
    Jsonl {
        members: Vec<Option<Vec<Member>>>,
        lines: BufferedLines,
    },
}

impl OpenSink {
    /// A sink of `shape`. `sources` has an entry for each probe of the config, by its index: `None` where the probe
    /// does not write here.
    ///
    /// # Errors
    /// If a template is wrong, or the header can't be made; the plan finds both before.
    pub fn new(
        shape: &SinkFormat,
        sources: &[Option<RecordSource<'_>>],
        globals: &Arc<Globals>,
        output: Destination,
    ) -> Result<Self, String> {
        let line = |header: &Option<String>| match header {
            None => Ok(Header::None),
            Some(header) => render_global(header, globals).map(|line| Header::Line(line + "\n")),
        };
        // On a terminal a person reads it, and names must not run the terminal
        let table_mode = if output.is_terminal() { TextMode::Shown } else { TextMode::Lossless };
        let width = output.width();
        let lines = |output| BufferedLines { buffer: String::new(), output: Counted::from(output) };
        let (writer, header) = match shape {
            SinkFormat::Text { template, header } => {
                let make = |source: RecordSource<'_>| {
                    RecordTemplate::new(template, source.layout, source.name, globals, TextMode::Shown)
                };
                (SinkWriter::Text { templates: each(sources, make)?, lines: lines(output) }, line(header)?)
            }
            SinkFormat::Pretty { header } => {
                let probe = |source: &Option<RecordSource<'_>>| {
                    source.map(|source| (source.name.to_owned(), Arc::clone(source.layout)))
                };
                let probes = sources.iter().map(probe).collect();
                (SinkWriter::Drawn { probes, waiting: Vec::new(), width, lines: lines(output) }, line(header)?)
            }
            SinkFormat::Csv { columns } => {
                let cells = each(sources, |source| cells(columns, source, globals, table_mode))?;
                let columns = columns.iter().map(|column| column.name().to_owned()).collect();
                let csv = Box::new(table(output));
                (
                    SinkWriter::Csv { cells, mode: table_mode, row: csv::ByteRecord::new(), csv },
                    Header::Columns(columns),
                )
            }
            SinkFormat::Jsonl { fields } => {
                let make = |source: RecordSource<'_>| {
                    let all =
                        || FieldRef::all(source.layout).iter().map(|(_, n)| SinkColumn::Field((*n).into())).collect();
                    let columns: Vec<SinkColumn> = fields.clone().unwrap_or_else(all);
                    let cells = cells(&columns, source, globals, TextMode::Lossless)?;
                    let named = columns.iter().map(|column| column.name().to_owned()).zip(cells);
                    // What this program does not have is left out: unlike a row, an object can do without
                    Ok(jsonl::members(named.filter(|(_, cell)| !matches!(cell, Cell::Absent)).collect()))
                };
                (SinkWriter::Jsonl { members: each(sources, make)?, lines: lines(output) }, Header::None)
            }
        };
        let mut sink = OpenSink { writer, scratch: String::new(), header };
        sink.begin().map_err(|error| error.to_string())?;
        Ok(sink)
    }

    /// Puts the header into a file that is empty.
    fn begin(&mut self) -> io::Result<()> {
        match (&mut self.writer, &self.header) {
            (SinkWriter::Text { lines, .. } | SinkWriter::Drawn { lines, .. }, Header::Line(line)) => {
                lines.buffer.push_str(line)
            }
            (SinkWriter::Csv { csv, .. }, Header::Columns(columns)) => csv.write_record(columns).map_err(csv_io)?,
            _ => {}
        }
        Ok(())
    }

    /// Writes to another file from now on, which begins like the first one. Everything has to be flushed before.
    ///
    /// # Errors
    /// If the new file takes nothing.
    pub fn continue_in(&mut self, output: Destination) -> io::Result<()> {
        match &mut self.writer {
            SinkWriter::Text { lines, .. } | SinkWriter::Drawn { lines, .. } | SinkWriter::Jsonl { lines, .. } => {
                lines.output = Counted::from(output);
            }
            SinkWriter::Csv { csv, .. } => **csv = table(output),
        }
        self.begin()
    }

    /// Bytes of the current file, with those that wait for the next flush. A table does not tell of the latter.
    #[inline]
    pub fn bytes(&self) -> u64 {
        match &self.writer {
            SinkWriter::Text { lines, .. } | SinkWriter::Drawn { lines, .. } | SinkWriter::Jsonl { lines, .. } => {
                lines.output.bytes() + lines.buffer.len() as u64
            }
            SinkWriter::Csv { csv, .. } => csv.get_ref().bytes(),
        }
    }

    /// Takes a record of the probe with index `probe`; the file has it after the next [`OpenSink::flush`].
    ///
    /// # Errors
    /// See [`WriteError`].
    #[inline]
    pub fn write(&mut self, probe: usize, record: &Record<'_>) -> Result<(), WriteError> {
        match &mut self.writer {
            SinkWriter::Text { templates, lines } => {
                let Some(template) = &mut templates[probe] else { return Ok(()) };
                template.render(record, &mut lines.buffer).map_err(WriteError::Record)?;
                lines.buffer.push('\n');
                lines.flush_if_full().map_err(WriteError::File)
            }
            SinkWriter::Drawn { probes, waiting, .. } => {
                let Some((_, layout)) = &probes[probe] else { return Ok(()) };
                let (layout, raw) = (Arc::clone(layout), record.raw.to_vec());
                waiting.push((probe, TableRow { layout, raw, time: record.time }));
                Ok(())
            }
            SinkWriter::Csv { cells, mode, row, csv } => {
                let Some(cells) = &mut cells[probe] else { return Ok(()) };
                row.clear();
                for cell in cells {
                    push_cell(cell, record, *mode, &mut self.scratch, row).map_err(WriteError::Record)?;
                }
                csv.write_byte_record(row).map_err(|error| WriteError::File(csv_io(error)))
            }
            SinkWriter::Jsonl { members, lines } => {
                let Some(members) = &mut members[probe] else { return Ok(()) };
                let start = lines.buffer.len();
                jsonl::push_line(members, record, &mut self.scratch, &mut lines.buffer).map_err(|error| {
                    lines.buffer.truncate(start);
                    WriteError::Record(error)
                })?;
                lines.flush_if_full().map_err(WriteError::File)
            }
        }
    }

    /// Notes that records are missing, in a shape that has a place for it: JSON Lines.
    ///
    /// # Errors
    /// If the file takes no more.
    pub fn gap(&mut self, time: i64, probe: &str, lost: u64, cause: &str) -> io::Result<()> {
        match &mut self.writer {
            SinkWriter::Jsonl { lines, .. } => {
                jsonl::push_gap(time, probe, lost, cause, &mut lines.buffer);
                lines.flush_if_full()
            }
            SinkWriter::Text { .. } | SinkWriter::Csv { .. } | SinkWriter::Drawn { .. } => Ok(()),
        }
    }

    /// Notes that a reading of the aggregate is complete, whose rows have the indices `streams`: now it can be drawn.
    ///
    /// # Errors
    /// If the file takes no more.
    pub fn end_of_reading(&mut self, streams: std::ops::Range<usize>) -> io::Result<()> {
        let SinkWriter::Drawn { probes, waiting, width, lines } = &mut self.writer else { return Ok(()) };
        let (rows, others): (Vec<_>, Vec<_>) =
            std::mem::take(waiting).into_iter().partition(|(stream, _)| streams.contains(stream));
        *waiting = others;
        let Some((name, _)) = streams.clone().find_map(|stream| probes.get(stream)?.as_ref()) else { return Ok(()) };
        let rows: Vec<TableRow> = rows.into_iter().map(|(_, row)| row).collect();
        draw(name, &rows, *width, &mut lines.buffer);
        lines.flush_if_full()
    }

    /// Hands everything to the file.
    ///
    /// # Errors
    /// If the file takes no more.
    pub fn flush(&mut self) -> io::Result<()> {
        match &mut self.writer {
            SinkWriter::Text { lines, .. } | SinkWriter::Drawn { lines, .. } | SinkWriter::Jsonl { lines, .. } => {
                lines.flush()
            }
            SinkWriter::Csv { csv, .. } => csv.flush(),
        }
    }

    /// The error of earlier writes that a file system has kept until now. Everything has to be flushed before.
    ///
    /// # Errors
    /// As close(2).
    pub fn delayed_error(&self) -> io::Result<()> {
        match &self.writer {
            SinkWriter::Text { lines, .. } | SinkWriter::Drawn { lines, .. } | SinkWriter::Jsonl { lines, .. } => {
                lines.output.delayed_error()
            }
            SinkWriter::Csv { csv, .. } => csv.get_ref().delayed_error(),
        }
    }

    /// A sink of this run takes no more, and nothing more is written to any. A regular file ends with a whole record
    /// then; a pipe may have taken a part of one.
    pub fn fail(&mut self) {
        match &mut self.writer {
            SinkWriter::Text { lines, .. } | SinkWriter::Drawn { lines, .. } | SinkWriter::Jsonl { lines, .. } => {
                lines.buffer.clear();
                lines.output.cut_to_records(RecordEnd::Line);
            }
            SinkWriter::Csv { csv, .. } => csv.get_ref().cut_to_records(RecordEnd::UnquotedLine),
        }
    }
}

/// RFC 4180 but for the line's end: a carriage return would stick to the last column in a shell.
fn table(output: Destination) -> csv::Writer<Counted> {
    csv::WriterBuilder::new().buffer_capacity(BUFFER_BYTES).from_writer(Counted::from(output))
}

/// What `make` makes of each probe that writes here.
fn each<T>(
    sources: &[Option<RecordSource<'_>>],
    make: impl Fn(RecordSource<'_>) -> Result<T, String>,
) -> Result<Vec<Option<T>>, String> {
    sources.iter().map(|source| source.map(&make).transpose()).collect()
}

fn cells(
    columns: &[SinkColumn],
    source: RecordSource<'_>,
    globals: &Arc<Globals>,
    mode: TextMode,
) -> Result<Vec<Cell>, String> {
    let cell = |column: &SinkColumn| match column {
        SinkColumn::Field(name) => Ok(FieldRef::find(name, source.layout).map_or(Cell::Absent, Cell::Field)),
        SinkColumn::Template(_, text) => {
            let template = RecordTemplate::new(text, source.layout, source.name, globals, mode)?;
            Ok(Cell::Template(Box::new(template)))
        }
    };
    columns.iter().map(cell).collect()
}

#[inline]
fn push_cell(
    cell: &mut Cell,
    record: &Record<'_>,
    mode: TextMode,
    scratch: &mut String,
    row: &mut csv::ByteRecord,
) -> Result<(), String> {
    scratch.clear();
    match cell {
        Cell::Absent => row.push_field(b""),
        // Numbers, times and addresses can't be mistaken for a formula
        Cell::Field(field) => match field.read(record) {
            Scalar::Uint(value) => row.push_field(itoa::Buffer::new().format(value).as_bytes()),
            Scalar::Int(value) => row.push_field(itoa::Buffer::new().format(value).as_bytes()),
            other @ (Scalar::Float(_) | Scalar::Bool(_) | Scalar::Time(_) | Scalar::Ip(_)) => {
                push_scalar(other, mode, scratch);
                row.push_field(scratch.as_bytes());
            }
            Scalar::Text(bytes) => match text::plain(bytes) {
                Some(plain) => push_safe(plain, row),
                None => {
                    mode.push(bytes, scratch);
                    push_safe(scratch, row);
                }
            },
            Scalar::Name(name) => push_safe(name, row),
            text => {
                push_scalar(text, mode, scratch);
                push_safe(scratch, row);
            }
        },
        Cell::Template(template) => {
            template.render(record, scratch)?;
            if scratch.parse::<f64>().is_ok() {
                row.push_field(scratch.as_bytes());
            } else {
                push_safe(scratch, row);
            }
        }
    }
    Ok(())
}

/// A spreadsheet runs text that begins like a formula: an apostrophe in front stops it. The apostrophe itself gets one
/// too, so that taking one away is always right.
#[inline]
fn push_safe(text: &str, row: &mut csv::ByteRecord) {
    if text.starts_with(text::FORMULA) || text.starts_with('\'') {
        row.push_field(format!("'{text}").as_bytes());
    } else {
        row.push_field(text.as_bytes());
    }
}

fn csv_io(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}
