//! Impressions with the clicks and views that belong to them, whatever order the lines came in.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde::Serialize;

use super::FileRead;
use crate::clicks::record::{Click, Impression, Record};

/// An impression and what became of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Seen {
    /// What was shown.
    pub impression: Impression,
    /// What was clicked, in order of time, then rank.
    pub clicks: Vec<Click>,
    /// The last rank that came into view, where it was logged.
    pub depth: Option<u32>,
}

/// What the lines of a log came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct LogCounts {
    /// Impressions.
    pub impressions: u64,
    /// Clicks on them.
    pub clicks: u64,
    /// Impressions whose view was logged.
    pub views: u64,
    /// Lines that say what another line said.
    pub repeated: u64,
    /// Impressions that have the id of an earlier, different one; left out.
    pub contradicting: u64,
    /// Clicks whose impression is in none of the files, or in a part that an earlier run has read; left out.
    pub clicks_without_impression: u64,
    /// Views without an impression; left out.
    pub views_without_impression: u64,
    /// Clicks on a rank at which nothing was shown; left out.
    pub clicks_off_the_list: u64,
}

/// Everything that was read.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Log {
    /// The impressions, in order of time, then id.
    pub seen: Vec<Seen>,
    /// How many lines of what kind.
    pub counts: LogCounts,
    /// What was read of each file.
    pub files: Vec<FileRead>,
}

pub(super) fn join(records: Vec<Record>, files: Vec<FileRead>) -> Log {
    let mut log = Log { files, ..Log::default() };
    let mut places = HashMap::new();
    let (mut clicks, mut views) = (Vec::new(), Vec::new());
    for record in records {
        match record {
            Record::Impression(impression) => log.place(impression, &mut places),
            Record::Click(click) => clicks.push(click),
            Record::View(view) => views.push(view),
        }
    }
    for click in clicks {
        match places.get(&click.impression) {
            Some(place) => log.click(*place, click),
            None => log.counts.clicks_without_impression += 1,
        }
    }
    for view in views {
        let Some(place) = places.get(&view.impression) else {
            log.counts.views_without_impression += 1;
            continue;
        };
        let depth = &mut log.seen[*place].depth;
        let count = if depth.is_some() { &mut log.counts.repeated } else { &mut log.counts.views };
        *count += 1;
        *depth = (*depth).max(Some(view.depth));
    }
    log.seen.sort_by(|one, other| {
        let key = |seen: &Seen| (seen.impression.time, seen.impression.id.clone());
        key(one).cmp(&key(other))
    });
    log.seen.iter_mut().for_each(|seen| seen.clicks.sort_by_key(|click| (click.time, click.rank)));
    log
}

impl Log {
    fn place(&mut self, impression: Impression, places: &mut HashMap<String, usize>) {
        match places.entry(impression.id.clone()) {
            Entry::Occupied(earlier) if self.seen[*earlier.get()].impression == impression => self.counts.repeated += 1,
            Entry::Occupied(_) => self.counts.contradicting += 1,
            Entry::Vacant(free) => {
                free.insert(self.seen.len());
                self.counts.impressions += 1;
                self.seen.push(Seen { impression, clicks: Vec::new(), depth: None });
            }
        }
    }

    fn click(&mut self, place: usize, click: Click) {
        let seen = &mut self.seen[place];
        if !seen.impression.shown.iter().any(|shown| shown.rank == click.rank) {
            self.counts.clicks_off_the_list += 1;
            return;
        }
        let same = |other: &&mut Click| (other.rank, other.time) == (click.rank, click.time);
        match seen.clicks.iter_mut().find(same) {
            Some(earlier) => {
                // The line that knows how long the page was looked at may come second.
                earlier.dwell_ms = earlier.dwell_ms.max(click.dwell_ms);
                self.counts.repeated += 1;
            }
            None => {
                seen.clicks.push(click);
                self.counts.clicks += 1;
            }
        }
    }
}
