//! JSON lines, from where an earlier run stopped.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::{FileRead, Position};
use crate::Error;
use crate::clicks::record::Record;

/// Bytes that are hashed at a time.
const CHUNK: usize = 1 << 16;

/// Reads the records of a file beyond the longest known beginning, and no further than the longest that `until` knows.
pub(super) fn read(
    path: &Path,
    (known, until): (&[Position], &[Position]),
    records: &mut Vec<Record>,
) -> Result<FileRead, Error> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let (_, end) = known_beginning(&mut file, until).map_err(Error::io(path))?;
    file.rewind().map_err(Error::io(path))?;
    let (mut hasher, start) = known_beginning(&mut file, known).map_err(Error::io(path))?;
    let mut read = FileRead::new(path);
    (read.from, read.position.bytes, read.position.lines) = (start.bytes, start.bytes, start.lines);
    file.seek(SeekFrom::Start(start.bytes)).map_err(Error::io(path))?;
    let most = if end.bytes > 0 { end.bytes.saturating_sub(start.bytes) } else { u64::MAX };
    let (mut reader, mut line) = (BufReader::new(file.take(most)), Vec::new());
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line).map_err(Error::io(path))?;
        if length == 0 {
            break;
        }
        let text = line.trim_ascii();
        let record = (!text.is_empty()).then(|| Record::parse(text));
        if !line.ends_with(b"\n") && !matches!(record, Some(Ok(_))) {
            // Somebody is writing it.
            read.unfinished = true;
            break;
        }
        hasher.update(&line);
        read.position.bytes += length as u64;
        read.position.lines += 1;
        if let Some(record) = record {
            read.take(read.position.lines, record, records);
        }
    }
    read.position.blake3 = hasher.finalize().to_hex().to_string();
    Ok(read)
}

struct Start {
    bytes: u64,
    lines: u64,
}

/// The longest known position whose bytes this file begins with, and the hash of them.
fn known_beginning(file: &mut File, known: &[Position]) -> std::io::Result<(blake3::Hasher, Start)> {
    let length = file.metadata()?.len();
    let mut candidates: Vec<&Position> =
        known.iter().filter(|position| (1..=length).contains(&position.bytes)).collect();
    candidates.sort_by_key(|position| position.bytes);
    let (mut hasher, mut hashed) = (blake3::Hasher::new(), 0);
    let mut best = (blake3::Hasher::new(), Start { bytes: 0, lines: 0 });
    let mut buffer = vec![0; CHUNK];
    for position in candidates {
        while hashed < position.bytes {
            let wanted = buffer.len().min((position.bytes - hashed) as usize);
            file.read_exact(&mut buffer[..wanted])?;
            hasher.update(&buffer[..wanted]);
            hashed += wanted as u64;
        }
        if hasher.finalize().to_hex().as_str() == position.blake3 {
            best = (hasher.clone(), Start { bytes: position.bytes, lines: position.lines });
        }
    }
    Ok(best)
}
