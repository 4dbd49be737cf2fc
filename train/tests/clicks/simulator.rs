//! People who search, and people who cheat: writes the click log of days over any ranking, knowing the truth.
//!
//! Honest users follow one of two models. *Position*: rank `r` is examined with probability `(1 / r)^eta`, whatever else
//! happens. *Cascade*: they read from the top and stop after a click with probability `stop`. An examined page is clicked
//! with probability 0.7 if it is relevant, `other` if not. Ten pages are shown. Queries are drawn by Zipf's law from those
//! of the day, 30 % of which are new each day; a session asks one to several of them.

use colqwen_index_train::clicks::record::{Click, Impression, LoggedQuery, Record, ShownPage, Time};
use colqwen_index_train::data::PageId;
use colqwen_index_train::random::{Purpose, Stream};

/// Pages of a list.
const SHOWN: usize = 10;
/// The probability of a click on a relevant page that is examined.
const RELEVANT: f64 = 0.7;
/// Share of a day's queries that are new.
const NEW: f64 = 0.3;
/// Midnight of the first day, 2026-03-02, in seconds since 1970.
const START: i64 = 1_772_409_600;

/// How people read a list.
#[derive(Clone, Copy, Debug)]
pub enum User {
    /// Ranks by chance.
    Position { eta: f64, other: f64 },
    /// From the top.
    Cascade { stop: f64, other: f64 },
    /// Clicks that have nothing to do with pages; rank `r` gets one with probability `rate / r`.
    Noise { rate: f64 },
}

/// All users of the issue.
pub fn users() -> Vec<User> {
    let others = [0.05, 0.2];
    let position = [0.5, 1.0, 2.0].into_iter().flat_map(|eta| others.map(|other| User::Position { eta, other }));
    let cascade = [0.3, 0.7].into_iter().flat_map(|stop| others.map(|other| User::Cascade { stop, other }));
    position.chain(cascade).collect()
}

/// Who wants a page clicked.
#[derive(Clone, Debug)]
pub enum Adversary {
    /// So large a share of the sessions asks for queries that show the page, and clicks nothing else.
    OnePage { page: PageId, share: f64 },
    /// So many sessions ask one query each that shows the page, and click it.
    Sybils { page: PageId, sessions: usize },
    /// A page that stands at some rank for a share of all queries from some day on, and that every user clicks if they
    /// examine it, whatever they asked.
    NewPage { page: PageId, day: usize, share: f64 },
}

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Simulation<'a> {
    pub days: usize,
    pub impressions: usize,
    /// Queries that are asked on one day.
    pub queries_a_day: usize,
    pub user: User,
    pub adversary: Option<Adversary>,
    /// Queries that a session asks at most.
    pub asked: usize,
    /// Whether applications log how long a page was looked at.
    pub dwell: bool,
    pub seed: u64,
    /// All queries there are; each day takes the next new ones.
    pub queries: &'a [String],
}

impl Simulation<'_> {
    /// Runs it over a ranking (best page first) and the truth.
    pub fn run(&self, ranking: impl Fn(&str) -> Vec<PageId>, truth: impl Fn(&str, &PageId) -> bool) -> Vec<Record> {
        let mut run = Run {
            simulation: self,
            ranking: &ranking,
            truth: &truth,
            records: Vec::new(),
            impressions: 0,
            sessions: 0,
        };
        let mut today: Vec<usize> = (0..self.queries_a_day.min(self.queries.len())).collect();
        let mut next = today.len();
        for day in 0..self.days {
            let mut stream = Stream::new(self.seed, Purpose::Choice, &[0, day as u64]);
            if day > 0 {
                let places: Vec<usize> = (0..today.len()).filter(|_| stream.unit() < NEW).collect();
                for place in places {
                    today[place] = next % self.queries.len();
                    next += 1;
                }
            }
            run.day(day, &today);
        }
        run.records
    }
}

struct Run<'a, R, T> {
    simulation: &'a Simulation<'a>,
    ranking: &'a R,
    truth: &'a T,
    records: Vec<Record>,
    impressions: usize,
    sessions: usize,
}

impl<R: Fn(&str) -> Vec<PageId>, T: Fn(&str, &PageId) -> bool> Run<'_, R, T> {
    fn day(&mut self, day: usize, today: &[usize]) {
        let simulation = self.simulation;
        let until = simulation.impressions * (day + 1) / simulation.days;
        let mut sybils = match simulation.adversary {
            Some(Adversary::Sybils { sessions, .. }) => sessions / simulation.days,
            _ => 0,
        };
        while self.impressions < until {
            let mut stream = Stream::new(simulation.seed, Purpose::Choice, &[1, self.sessions as u64]);
            let session = format!("s{}", self.sessions);
            self.sessions += 1;
            let asked = 1 + stream.below(simulation.asked);
            let second = START + day as i64 * 86_400 + stream.below(80_000) as i64;
            match &simulation.adversary {
                Some(Adversary::OnePage { page, share }) if stream.unit() < *share => {
                    (0..asked).for_each(|at| self.cheat(page, &session, second + 60 * at as i64, today, &mut stream));
                }
                Some(Adversary::Sybils { page, .. }) if sybils > 0 && stream.unit() < 0.5 => {
                    sybils -= 1;
                    self.cheat(page, &session, second, today, &mut stream);
                }
                _ => (0..asked).for_each(|at| {
                    let query = &simulation.queries[today[zipf(today.len(), &mut stream)]];
                    self.honest(day, &session, second + 60 * at as i64, query, &mut stream);
                }),
            }
        }
    }

    fn honest(&mut self, day: usize, session: &str, second: i64, query: &str, stream: &mut Stream) {
        let mut shown = self.shown(query);
        let mut striking = None;
        if let Some(Adversary::NewPage { page, day: from, share }) = &self.simulation.adversary {
            let mut place = Stream::new(self.simulation.seed, Purpose::Order, &[hash(query)]);
            if day >= *from && place.unit() < *share {
                shown.retain(|other| other != page);
                shown.insert(place.below(SHOWN).min(shown.len()), page.clone());
                shown.truncate(SHOWN);
                striking = Some(page.clone());
            }
        }
        let clicks = self.clicks(query, &shown, striking.as_ref(), stream);
        self.write(session, second, query, &shown, &clicks, stream);
    }

    /// Asks a query that shows the page although it is not relevant, and clicks it.
    fn cheat(&mut self, page: &PageId, session: &str, second: i64, today: &[usize], stream: &mut Stream) {
        for _ in 0..1000 {
            let query = &self.simulation.queries[today[zipf(today.len(), stream)]];
            let shown = self.shown(query);
            let place = shown.iter().position(|other| other == page);
            if let Some(place) = place.filter(|_| !(self.truth)(query, page)) {
                return self.write(session, second, query, &shown, &[(place as u32 + 1, true)], stream);
            }
        }
    }

    fn shown(&self, query: &str) -> Vec<PageId> {
        (self.ranking)(query).into_iter().take(SHOWN).collect()
    }

    /// Ranks that are clicked, and whether they are looked at for long.
    fn clicks(
        &self,
        query: &str,
        shown: &[PageId],
        striking: Option<&PageId>,
        stream: &mut Stream,
    ) -> Vec<(u32, bool)> {
        let mut clicks = Vec::new();
        for (page, rank) in shown.iter().zip(1u32..) {
            let relevant = (self.truth)(query, page);
            let attractive = |other: f64| if relevant || striking == Some(page) { RELEVANT } else { other };
            let (examined, attraction, stop) = match self.simulation.user {
                User::Position { eta, other } => (f64::from(rank).powf(-eta), attractive(other), 0.0),
                User::Cascade { stop, other } => (1.0, attractive(other), stop),
                User::Noise { rate } => (1.0 / f64::from(rank), rate, 0.0),
            };
            if stream.unit() < examined * attraction {
                clicks.push((rank, stream.unit() < if relevant { 0.9 } else { 0.3 }));
                if stream.unit() < stop {
                    break;
                }
            }
        }
        clicks
    }

    fn write(
        &mut self,
        session: &str,
        second: i64,
        query: &str,
        shown: &[PageId],
        clicks: &[(u32, bool)],
        stream: &mut Stream,
    ) {
        let id = format!("i{}", self.impressions);
        self.impressions += 1;
        let time = |second: i64| Time::from_micros(second * 1_000_000).unwrap();
        let shown = shown.iter().zip(1..).map(|(page, rank)| ShownPage { page: page.clone(), rank, score: None });
        self.records.push(Record::Impression(Impression {
            id: id.clone(),
            time: time(second),
            session: session.to_owned(),
            query: LoggedQuery::Text(query.to_owned()),
            shown: shown.collect(),
            generation: Some("1".to_owned()),
            query_fingerprint: None,
            randomised: false,
        }));
        for ((rank, long), at) in clicks.iter().zip(1..) {
            let dwell = if *long { 40_000 + stream.below(60_000) } else { 1_000 + stream.below(15_000) };
            let dwell_ms = self.simulation.dwell.then_some(dwell as u64);
            self.records.push(Record::Click(Click {
                impression: id.clone(),
                time: time(second + at),
                rank: *rank,
                dwell_ms,
            }));
        }
    }
}

/// A number below `count`, the first ones most often.
fn zipf(count: usize, stream: &mut Stream) -> usize {
    let all: f64 = (1..=count).map(|rank| 1.0 / rank as f64).sum();
    let mut left = stream.unit() * all;
    for rank in 1..=count {
        left -= 1.0 / rank as f64;
        if left <= 0.0 {
            return rank - 1;
        }
    }
    count.saturating_sub(1)
}

fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
