//! Which of the last numbers of a sequence were heard.

use wire::hello::Loss;

use crate::limits::{LOSS_WINDOW, LOSS_WINDOW_MIN};

/// The last [`LOSS_WINDOW`] numbers, one bit each, the newest lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    newest: u32,
    heard: u128,
    /// Numbers that could have been heard, up to the window's length.
    span: u32,
}

impl Window {
    pub(crate) fn new(first: u32) -> Self {
        Self { newest: first, heard: 1, span: 1 }
    }

    /// Takes a number; later, again, or out of order. A jump of more than the window is no loss but an absence: of a
    /// cable, or of us. The window begins anew.
    pub(crate) fn hear(&mut self, number: u32) {
        let ahead = number.wrapping_sub(self.newest);
        let behind = self.newest.wrapping_sub(number);
        if ahead == 0 {
        } else if ahead < LOSS_WINDOW {
            self.heard = self.heard.checked_shl(ahead).unwrap_or(0) | 1;
            self.span = (self.span + ahead).min(LOSS_WINDOW);
            self.newest = number;
        } else if behind < LOSS_WINDOW {
            // Before the first one we heard there was nothing to miss.
            if behind < self.span {
                self.heard |= 1 << behind;
            }
        } else {
            *self = Self::new(number);
        }
    }

    /// How many numbers that one is ahead of the newest; `None` if it is none, or more than the window.
    pub(crate) fn ahead(&self, number: u32) -> Option<u32> {
        Some(number.wrapping_sub(self.newest)).filter(|ahead| (1..LOSS_WINDOW).contains(ahead))
    }

    /// The share that was missed; nothing is said before [`LOSS_WINDOW_MIN`] numbers.
    pub(crate) fn loss(&self) -> Loss {
        if self.span < LOSS_WINDOW_MIN {
            return Loss::NONE;
        }
        let missed = self.span.saturating_sub(self.heard.count_ones());
        u16::try_from(missed * 1000 / self.span).ok().and_then(Loss::new).unwrap_or(Loss::NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss_of(numbers: impl IntoIterator<Item = u32>) -> u16 {
        let mut numbers = numbers.into_iter();
        let mut window = Window::new(numbers.next().unwrap());
        numbers.for_each(|number| window.hear(number));
        window.loss().per_mille()
    }

    #[test]
    fn gaps_are_losses() {
        assert_eq!(loss_of(0..500), 0);
        assert_eq!(loss_of((0..500).filter(|number| number % 10 != 3)), 101, "13 of 128");
        assert_eq!(loss_of((0..500).filter(|number| number % 2 == 0)), 500);
        assert_eq!(loss_of((0..31).filter(|number| number % 2 == 0)), 0, "too few to say");
    }

    #[test]
    fn late_and_repeated_ones_count_once() {
        let swapped = (0..200_u32).flat_map(|pair| [2 * pair + 1, 2 * pair, 2 * pair]);
        assert_eq!(loss_of(swapped), 0);
    }

    #[test]
    fn an_absence_is_no_loss() {
        assert_eq!(loss_of((0..200).chain(100_000..100_031)), 0);
        assert_eq!(loss_of((100_000..100_200).chain(0..200)), 0, "begun anew");
    }

    #[test]
    fn the_count_may_wrap() {
        assert_eq!(loss_of((0..300).map(|number: u32| number.wrapping_sub(150))), 0);
    }
}
