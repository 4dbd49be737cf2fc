//! The whole network under training on the parity fixtures: gradients against PyTorch, and what is saved.

mod fixtures;
mod gradients;
mod saving;
