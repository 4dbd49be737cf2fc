//! The whole network under training on the parity fixtures: gradients against PyTorch, what is saved, and how it goes on.

mod fixtures;
mod gradients;
mod resuming;
mod saving;
