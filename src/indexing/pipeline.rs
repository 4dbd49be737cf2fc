//! Rendering, encoding and storing side by side, with a few pages between them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use colqwen_index_field::PageVectors;
use colqwen_index_ingest::colqwen2::HiddenStates;
use colqwen_index_ingest::embeddings::PageRecord;
use colqwen_index_ingest::encoder::EncoderError;
use colqwen_index_ingest::page::{Document, Page, PageError, PixelBudget};
use colqwen_index_ingest::pooling::{PoolFactor, pool_page};
use image::RgbImage;
use rayon::prelude::*;

use super::store::Store;
use super::{FileTask, IndexingOptions, IndexingReport, OnError, Progress};
use crate::Error;
use crate::model::Model;

/// Rendered pages that wait for the model, and encoded pages that wait for the disk: enough that neither side waits long,
/// few enough that memory stays small.
const WAITING: usize = 4;

/// A page's vectors, and the states they were made of where these are kept.
type PageWithStates = (PageVectors, Option<HiddenStates>);

/// What the renderer hands over.
enum Rendered<'t> {
    Begin(&'t FileTask),
    Page(&'t FileTask, Box<Page>),
    Unreadable(PageError),
    End,
}

/// What the encoder hands over.
enum Encoded<'t> {
    Begin(&'t FileTask),
    Page(Box<PageRecord>, Option<HiddenStates>),
    End,
}

pub(super) fn run(
    tasks: &[FileTask],
    model: &Model,
    factor: PoolFactor,
    options: &IndexingOptions,
    store: &mut Store,
    report: &mut IndexingReport,
    progress: &mut impl FnMut(Progress<'_>),
) -> Result<(), Error> {
    let budget = model.encoder.page_budget();
    let (to_encoder, rendered) = sync_channel(WAITING);
    let (to_store, encoded) = sync_channel(WAITING);
    // Either side stops by dropping its end of a channel; the flag only makes the renderer notice sooner.
    let stop = &*options.stop;
    thread::scope(|scope| {
        let renderer = scope.spawn(move || render(tasks, &budget, stop, &to_encoder));
        let storing = scope.spawn(move || keep(store, &encoded));
        let encoding = encode(&rendered, &to_store, model, factor, options, report, progress);
        drop((rendered, to_store));
        let stored = storing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        renderer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // A full disk ends encoding too: its own reason is the one to tell.
        report.resumed += stored?;
        encoding
    })
}

fn render<'t>(tasks: &'t [FileTask], budget: &PixelBudget, stop: &AtomicBool, out: &SyncSender<Rendered<'t>>) {
    for task in tasks {
        // A failed send means that the encoder has stopped.
        if stop.load(Ordering::SeqCst) || render_file(task, budget, stop, out).is_err() {
            return;
        }
    }
}

type Stopped = Result<(), std::sync::mpsc::SendError<()>>;

fn render_file<'t>(
    task: &'t FileTask,
    budget: &PixelBudget,
    stop: &AtomicBool,
    out: &SyncSender<Rendered<'t>>,
) -> Stopped {
    let send = |message| out.send(message).map_err(|_| std::sync::mpsc::SendError(()));
    let document = match Document::open(&task.path) {
        Ok(document) if document.content_hash() == task.file_hash => document,
        // Changed since it was planned: the next run will take it as it is then.
        Ok(_) => return Ok(()),
        Err(error) => return send(Rendered::Unreadable(error)),
    };
    send(Rendered::Begin(task))?;
    let mut reader = document.reader();
    for number in &task.pages {
        if stop.load(Ordering::SeqCst) {
            return Err(std::sync::mpsc::SendError(()));
        }
        match reader.page(*number, budget) {
            Ok(page) => send(Rendered::Page(task, Box::new(page)))?,
            Err(error) => send(Rendered::Unreadable(error))?,
        }
    }
    send(Rendered::End)
}

fn encode<'t>(
    rendered: &Receiver<Rendered<'t>>,
    out: &SyncSender<Encoded<'t>>,
    model: &Model,
    factor: PoolFactor,
    options: &IndexingOptions,
    report: &mut IndexingReport,
    progress: &mut impl FnMut(Progress<'_>),
) -> Result<(), Error> {
    // A failed send means that storing has failed; its error is told by the caller.
    let mut batch: Vec<(&FileTask, Box<Page>)> = Vec::new();
    while let Ok(message) = rendered.recv() {
        match message {
            Rendered::Page(task, page) => {
                batch.push((task, page));
                if batch.len() < model.encoder.pages_at_once() {
                    continue;
                }
                if !encode_batch(&mut batch, out, model, factor, options, report, progress)? {
                    return Ok(());
                }
            }
            other => {
                if !encode_batch(&mut batch, out, model, factor, options, report, progress)? {
                    return Ok(());
                }
                match other {
                    Rendered::Unreadable(error) => skip(error.into(), options, report, progress)?,
                    Rendered::Begin(task) => drop(out.send(Encoded::Begin(task))),
                    _ => drop(out.send(Encoded::End)),
                }
            }
        }
        if options.stop.load(Ordering::SeqCst) {
            return Ok(());
        }
    }
    encode_batch(&mut batch, out, model, factor, options, report, progress).map(drop)
}

/// Encodes the waiting pages; `false` if nobody takes them any more.
fn encode_batch(
    batch: &mut Vec<(&FileTask, Box<Page>)>,
    out: &SyncSender<Encoded<'_>>,
    model: &Model,
    factor: PoolFactor,
    options: &IndexingOptions,
    report: &mut IndexingReport,
    progress: &mut impl FnMut(Progress<'_>),
) -> Result<bool, Error> {
    if batch.is_empty() {
        return Ok(true);
    }
    let images: Vec<_> = batch.iter_mut().map(|(_, page)| std::mem::take(&mut page.image)).collect();
    // One page that the model refuses fails its batch; alone it fails by its name, and the others are kept.
    let encode = |images: &[RgbImage]| match options.keep_hidden {
        true => model.encoder.encode_pages_with_states(images),
        false => Ok(model.encoder.encode_pages(images)?.into_iter().map(|vectors| (vectors, None)).collect()),
    };
    let encoded: Vec<Result<Option<PageWithStates>, EncoderError>> = match encode(&images) {
        Ok(together) => together.into_iter().map(|page| Ok(Some(page))).collect(),
        Err(_) => images.into_iter().map(|image| encode(&[image]).map(|mut alone| alone.pop())).collect(),
    };
    let pool = |page: Result<Option<PageWithStates>, EncoderError>| {
        page.map(|page| page.map(|(vectors, states)| pool_page(vectors, factor).map(|vectors| (vectors, states))))
    };
    let pooled: Vec<_> = encoded.into_par_iter().map(pool).collect();
    for ((task, page), vectors) in batch.drain(..).zip(pooled) {
        let (path, number) = (task.path.clone(), page.number);
        let (vectors, states) = match vectors {
            Ok(Some(Ok(page))) => page,
            // An encoder gives one result per page.
            Ok(None) => continue,
            Ok(Some(Err(cause))) => {
                skip(Error::NotPooled { path, page: number, cause }, options, report, progress)?;
                continue;
            }
            Err(cause) => {
                skip(Error::NotEncoded { path, page: number, cause }, options, report, progress)?;
                continue;
            }
        };
        let mut record = PageRecord::new(task.doc_id.clone(), page.number, vectors);
        record.text = page.text.map(|text| text.text());
        let source = task.path.canonicalize().unwrap_or_else(|_| task.path.clone());
        record.source = Some(source.to_string_lossy().into_owned());
        record.content_hash = Some(task.content_hash.clone());
        if out.send(Encoded::Page(Box::new(record), states)).is_err() {
            return Ok(false);
        }
        report.encoded += 1;
        progress(Progress::Page { doc_id: &task.doc_id });
    }
    Ok(true)
}

fn skip(
    error: Error,
    options: &IndexingOptions,
    report: &mut IndexingReport,
    progress: &mut impl FnMut(Progress<'_>),
) -> Result<(), Error> {
    if options.on_error == OnError::Fail {
        return Err(error);
    }
    let problem = error.to_string();
    progress(Progress::Skipped { problem: &problem });
    report.skipped.push(problem);
    Ok(())
}

/// Stores until the encoder is done; returns how many pages came from an interrupted run.
fn keep(store: &mut Store, encoded: &Receiver<Encoded<'_>>) -> Result<u64, Error> {
    let mut restored = 0;
    while let Ok(message) = encoded.recv() {
        match message {
            Encoded::Begin(task) => restored += store.begin_file(task)?,
            Encoded::Page(page, states) => store.page(&page, states)?,
            Encoded::End => store.end_file()?,
        }
    }
    Ok(restored)
}
