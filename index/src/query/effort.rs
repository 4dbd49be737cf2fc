//! The one knob between speed and recall.

use std::str::FromStr;

/// How much work goes into a search.
///
/// An effort is how many of the true hits a search may expect to lose: pages are scored in the order of what is known of
/// them so far, until the rest is expected to hold less than that. So its meaning depends on neither the size of the corpus
/// nor its structure: where estimates say little, more pages are scored, at worst all of them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Effort {
    /// From 0 to 1: `low` is 0.2, `default` 0.5 (aims at 0.98 of the exact hits or more), `high` 0.8, and 1 looks at every
    /// page that the inverted lists give.
    Share(f32),
    /// Every live page that passes the filter, at the highest precision stored.
    Exact,
}

impl Effort {
    /// 0.2: one hit in twelve may be lost.
    pub const LOW: Self = Self::Share(0.2);
    /// 0.8: one hit in 800 may be lost.
    pub const HIGH: Self = Self::Share(0.8);

    /// The share of the hits that may be lost; `None` for exact search.
    pub(crate) fn loss(self) -> Option<f64> {
        match self {
            Self::Exact => None,
            Self::Share(share) if share >= 1.0 => Some(0.0),
            // .08 at low, .01 at default, .0013 at high.
            Self::Share(share) => Some(10f64.powf(-0.5 - 3.0 * f64::from(share.max(0.0)))),
        }
    }
}

impl Default for Effort {
    fn default() -> Self {
        Self::Share(0.5)
    }
}

impl FromStr for Effort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "low" => Ok(Self::LOW),
            "default" => Ok(Self::default()),
            "high" => Ok(Self::HIGH),
            "exact" => Ok(Self::Exact),
            number => match number.parse::<f32>() {
                Ok(share) if (0.0..=1.0).contains(&share) => Ok(Self::Share(share)),
                _ => Err(format!("{text:?} is not low, default, high, exact or a number from 0 to 1")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn efforts_are_names_or_shares() {
        assert_eq!("high".parse(), Ok(Effort::Share(0.8)));
        assert_eq!("0.3".parse(), Ok(Effort::Share(0.3)));
        assert_eq!("exact".parse(), Ok(Effort::Exact));
        assert!("1.5".parse::<Effort>().unwrap_err().contains("0 to 1") && "fast".parse::<Effort>().is_err());
    }

    #[test]
    fn more_effort_loses_less() {
        let losses: Vec<f64> = [0.0, 0.2, 0.5, 0.8, 1.0].iter().filter_map(|e| Effort::Share(*e).loss()).collect();
        assert!(losses.is_sorted_by(|one, two| one > two), "{losses:?}");
        assert!(losses[2] < 0.02 && Effort::Exact.loss().is_none());
    }
}
