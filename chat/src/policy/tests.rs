//! What policies say: the army example against the page's table, refusals with their places, and random policies
//! against a naive interpreter.

mod army;
mod company;
mod random;
mod refusals;
