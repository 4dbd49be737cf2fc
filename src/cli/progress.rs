//! Progress on stderr: a bar where somebody watches, nothing where nobody does.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over `total` pages, with speed and time left.
pub fn pages(total: u64, quiet: bool) -> ProgressBar {
    bar(total, "pages", quiet)
}

/// A bar over `total` steps of a training.
#[cfg(feature = "train")]
pub fn steps(total: u64, quiet: bool) -> ProgressBar {
    bar(total, "steps", quiet)
}

fn bar(total: u64, unit: &'static str, quiet: bool) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(
        Some(total),
        if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() },
    );
    let style = ProgressStyle::with_template(&format!(
        "{{bar:30}} {{human_pos}}/{{human_len}} {unit}  {{per_sec:.1}}  {{elapsed_precise}} elapsed, {{eta_precise}} left  {{wide_msg}}",
    ));
    if let Ok(style) = style {
        let speed = move |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{:.1} {unit}/s", state.per_sec());
        };
        bar.set_style(style.with_key("per_sec", speed));
    }
    bar
}

/// A remark on stderr.
pub fn remark(quiet: bool, text: &str) {
    if !quiet {
        eprintln!("{text}");
    }
}
