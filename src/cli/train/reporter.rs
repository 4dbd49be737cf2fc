//! What a training says while it runs, and what it lost.

use colqwen_index::train::watch::{StepRecord, Verdict};
use colqwen_index::training::LostPages;
use indicatif::ProgressBar;

use crate::cli::progress;

/// Names pages that were lost, and how many queries go with them.
pub fn report_lost(lost: &LostPages, left_out: usize, quiet: bool) {
    for (page, problem) in lost.pages() {
        progress::remark(quiet, &format!("left out: {page}: {problem}"));
    }
    if !lost.pages().is_empty() {
        let text = format!("{} pages lost, {left_out} queries left out with them", lost.pages().len());
        progress::remark(quiet, &text);
    }
}

/// Prints steps, not too many of them, and each verdict once.
pub struct Reporter {
    quiet: bool,
    said: Option<std::mem::Discriminant<Verdict>>,
}

impl Reporter {
    pub fn new(quiet: bool) -> Self {
        Self { quiet, said: None }
    }

    pub fn step(&mut self, bar: &ProgressBar, step: &StepRecord, verdict: Option<&Verdict>) {
        if step.step < 10 || step.step.is_multiple_of(10) {
            let line = format!(
                "step {:>5}  loss {:.4} (without learning {:.4})  margin {:+.4}  accuracy {:.3}  variance {:.4}  gradient {:.3}",
                step.step,
                step.loss,
                step.no_learning,
                step.margin,
                step.accuracy,
                step.page_variance,
                step.gradient_norm
            );
            bar.suspend(|| progress::remark(self.quiet, &line));
        }
        let now = verdict.map(std::mem::discriminant);
        if let (Some(verdict), true) = (verdict, now != self.said) {
            // Also for those who asked for quiet: a run that learns nothing is no success.
            bar.suspend(|| eprintln!("warning: {verdict}"));
        }
        self.said = now;
    }
}
