//! Words that options take, and what each stands for.

use clap::ValueEnum;

/// What learns.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TrainedName {
    /// The last layer.
    Projection,
    /// Low-rank updates.
    Lora,
    /// All weights.
    Full,
}

/// Whose vectors learn.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SideName {
    /// Those of queries and pages.
    Both,
    /// Those of queries.
    Query,
}

/// What is asked of the scores.
#[derive(Clone, Copy, ValueEnum)]
pub enum LossName {
    /// Cross entropy over all pages of the batch.
    InfoNce,
    /// The hardest page of the batch against the right one.
    Pairwise,
    /// A yes or no for every page.
    Sigmoid,
}

/// How mined negatives enter the loss.
#[derive(Clone, Copy, ValueEnum)]
pub enum MinedName {
    /// In a term of their own: each against the right page.
    Pairs,
    /// As further pages of the batch, for the query they were mined for.
    Candidates,
}

/// How the learning rate falls.
#[derive(Clone, Copy, ValueEnum)]
pub enum DecayName {
    /// Not at all.
    Constant,
    /// In a straight line.
    Linear,
    /// Along half a cosine.
    Cosine,
}
