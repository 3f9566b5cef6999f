//! Where a machine leaves what it wants done.

use std::collections::VecDeque;

/// The actions of one input, in order. The driver empties it after every input; a machine that finds it full of
/// earlier actions has a driver that breaks the contract.
#[derive(Debug, Clone)]
pub struct Outbox<A> {
    actions: VecDeque<A>,
}

impl<A> Default for Outbox<A> {
    fn default() -> Self {
        Self { actions: VecDeque::new() }
    }
}

impl<A> Outbox<A> {
    /// Adds an action.
    pub fn push(&mut self, action: A) {
        self.actions.push_back(action);
    }

    /// Takes the oldest action.
    pub fn pop(&mut self) -> Option<A> {
        self.actions.pop_front()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.actions.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }
}
