//! From simulated click logs to training data: what is learnt is true, and nobody can bend it.

mod library;
mod pipeline;
mod propensity;
mod simulator;
mod visits;
