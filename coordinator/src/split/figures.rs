//! The sizes of a plan's chunks in a few numbers: what `plan` shows before anything is sealed.

use serde::Serialize;

/// Smallest, median, mean and largest, and how far the largest stands out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SizeFigures {
    /// The smallest chunk.
    pub min: i64,
    /// Half of the chunks are at most this large.
    pub median: i64,
    /// The mean.
    pub mean: f64,
    /// The largest chunk.
    pub max: i64,
    /// Largest divided by mean: 1.0 is even; 1.0 as well where every chunk is empty.
    pub skew: f64,
}

impl SizeFigures {
    /// The figures of these sizes; `None` of none. Reorders the sizes.
    #[must_use]
    pub fn of(sizes: &mut [i64]) -> Option<Self> {
        let middle = sizes.len().checked_sub(1)? / 2;
        let min = *sizes.iter().min()?;
        let max = *sizes.iter().max()?;
        let total: i128 = sizes.iter().map(|&size| i128::from(size)).sum();
        let mean = total as f64 / sizes.len() as f64;
        let (_, median, _) = sizes.select_nth_unstable(middle);
        Some(Self {
            min,
            median: *median,
            mean,
            max,
            skew: if mean > 0.0 { max as f64 / mean } else { 1.0 },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::SizeFigures;

    #[test]
    fn figures_describe_even_skewed_and_empty_plans() {
        assert_eq!(SizeFigures::of(&mut []), None);
        let even = SizeFigures::of(&mut [5, 5, 5]).unwrap();
        assert_eq!((even.min, even.median, even.max), (5, 5, 5));
        assert!((even.skew - 1.0).abs() < 1e-9);
        let skewed = SizeFigures::of(&mut [10, 1, 1, 0]).unwrap();
        assert_eq!((skewed.min, skewed.median, skewed.max), (0, 1, 10));
        assert!((skewed.mean - 3.0).abs() < 1e-9 && (skewed.skew - 10.0 / 3.0).abs() < 1e-9);
        assert!((SizeFigures::of(&mut [0]).unwrap().skew - 1.0).abs() < 1e-9);
    }
}
