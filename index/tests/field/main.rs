//! The late-interaction field against a naive oracle, through everything that tantivy does to an index.

mod batch;
mod codes;
mod commits;
mod composing;
mod concurrent;
mod crash;
mod damage;
mod data;
mod directories;
mod frozen;
mod lifecycle;
mod models;
mod oracle;
mod proven;
mod ranged;
mod reencode;
mod rescore;
mod shapes;
mod shelf;
mod sorted;
