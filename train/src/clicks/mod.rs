//! What people clicked, made into training data that nobody can bend, and a judgement of what was learnt from it.
//!
//! In reading order: [`record`] is a line of a click log and [`log`] reads files of them; [`query`] says which queries are
//! the same. [`visits`] cleans the log and says what each session did about each page; [`split`] parts it into what is
//! learnt from and what judges. [`evidence`] weighs which pages answer which queries, against chance, position and those who
//! want a page clicked, and makes training data of it, by [`propensity`] where that helps. [`replay`] mixes in what was
//! learnt before, and [`gate`] decides whether a new model is better.

mod chance;
pub mod evidence;
pub mod gate;
mod graded;
pub mod log;
pub mod propensity;
pub mod query;
pub mod record;
pub mod replay;
pub mod split;
pub mod visits;
