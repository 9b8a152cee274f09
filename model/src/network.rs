//! The Burn module: for training, and the oracle of the plan.
