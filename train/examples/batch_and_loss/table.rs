//! The comparison as Markdown tables.

use std::fmt::Write;

use colqwen_index_train::watch::StepRecord;

use crate::cell::{Event, Line};
use crate::memory::{Peak, Work};
use crate::setup::Loss;

/// The lines of each training, in the order in which they were run.
pub fn trainings(lines: &[Line]) -> impl Iterator<Item = (Loss, usize, &[Line])> {
    let same = |one: &Line, other: &Line| (one.loss, one.batch) == (other.loss, other.batch);
    lines.chunk_by(same).map(|lines| (lines[0].loss, lines[0].batch, lines))
}

/// The steps among them.
pub fn steps(lines: &[Line]) -> Vec<&StepRecord> {
    let mut steps = Vec::new();
    for line in lines {
        if let Event::Step(step) = &line.event {
            steps.push(step);
        }
    }
    steps
}

/// Both tables.
pub fn markdown(lines: &[Line], peaks: &[(Work, Peak)], seconds: f64) -> String {
    let mut text = String::new();
    trained(&mut text, lines, seconds).and_then(|()| memory(&mut text, peaks)).unwrap_or_default();
    text
}

fn trained(text: &mut String, lines: &[Line], seconds: f64) -> std::fmt::Result {
    writeln!(
        text,
        "{seconds:.0} CPU seconds each; loss and in-batch accuracy: means of the last tenth of the steps\n"
    )?;
    writeln!(
        text,
        "| loss | batch | steps | loss at the end | without learning | accuracy | nDCG@5 (95 %) | unseen words | shuffled | verdict |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|---|---|")?;
    for (loss, batch, lines) in trainings(lines) {
        let steps = steps(lines);
        let last = &steps[steps.len() - steps.len().div_ceil(10)..];
        let mean = |of: fn(&StepRecord) -> f64| last.iter().map(|step| of(step)).sum::<f64>() / last.len() as f64;
        let verdict = lines.iter().rev().find_map(|line| match &line.event {
            Event::Verdict { kind, .. } => Some(kind.as_str()),
            _ => None,
        });
        let verdict = verdict.filter(|kind| !kind.is_empty()).unwrap_or("none");
        let ndcg = lines.iter().rev().find_map(|line| match line.event {
            Event::HeldOut { ndcg_5, .. } => Some(ndcg_5),
            _ => None,
        });
        let Some(Event::Controls { interval: [low, high], shuffled, unseen }) = lines.last().map(|line| &line.event)
        else {
            continue;
        };
        writeln!(
            text,
            "| {} | {batch} | {} | {:.3} | {:.3} | {:.2} | {:.3} ({low:.3} to {high:.3}) | {unseen:.3} | {shuffled:.3} | \
             {verdict} |",
            loss.name(),
            steps.len(),
            mean(|step| step.loss),
            mean(|step| step.no_learning),
            mean(|step| step.accuracy),
            ndcg.unwrap_or_default(),
        )?;
    }
    Ok(())
}

fn memory(text: &mut String, peaks: &[(Work, Peak)]) -> std::fmt::Result {
    writeln!(
        text,
        "\n| pages | batch | mini-batch | negatives per query | peak RSS, MB | of these before the first step |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|")?;
    for (Work { pages, batch, mini_batch }, Peak { before, after, negatives }) in peaks {
        writeln!(text, "| {pages} | {batch} | {mini_batch} | {negatives} | {after} | {before} |")?;
    }
    Ok(())
}
