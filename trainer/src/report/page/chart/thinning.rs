//! Reduction of the number of points of a curve, for pages of bounded size.

use super::Point;

/// Number of groups of adjacent points. At most three points of each are kept.
const GROUPS: usize = 200;

/// Returns at most about 600 points. The smallest and the largest value of each group of adjacent points are kept, so that
/// spikes remain visible, and one of its missing values (NaN), as a gap.
pub fn thin(points: &[Point]) -> Vec<Point> {
    if points.len() <= 3 * GROUPS {
        return points.to_vec();
    }
    let size = points.len().div_ceil(GROUPS);
    let groups = points.chunks(size).enumerate();
    let last = points.len() - 1;
    let kept = groups.flat_map(|(group, points)| {
        let by_value = |a: &usize, b: &usize| points[*a].y.total_cmp(&points[*b].y);
        let present = || (0..points.len()).filter(|&index| points[index].y.is_finite());
        let gap = (0..points.len()).find(|&index| !points[index].y.is_finite());
        let mut kept: Vec<usize> =
            [present().min_by(by_value), present().max_by(by_value), gap].into_iter().flatten().collect();
        kept.sort_unstable();
        kept.dedup();
        kept.into_iter().map(move |index| group * size + index)
    });
    // The ends of the curve remain, so that it starts and ends where the measurements do.
    let mut indices: Vec<usize> = [0].into_iter().chain(kept).chain([last]).collect();
    indices.dedup();
    indices.into_iter().map(|index| points[index]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_and_gaps_are_preserved() {
        let mut points: Vec<_> =
            (0..45_000).map(|index| Point { x: f64::from(index), y: f64::from(index % 7), note: None }).collect();
        points[12_345].y = 99.0;
        points[23_456].y = -99.0;
        points[34_567].y = f64::NAN;
        let thinned = thin(&points);
        assert!(thinned.len() <= 602, "{}", thinned.len());
        assert!(thinned.is_sorted_by(|a, b| a.x < b.x));
        assert_eq!((thinned[0].x, thinned[thinned.len() - 1].x), (0.0, 44_999.0));
        for index in [12_345.0, 23_456.0, 34_567.0] {
            assert!(thinned.iter().any(|point| point.x == index), "{index}");
        }
    }

    #[test]
    fn short_curves_are_unchanged() {
        let points: Vec<_> = (0..600).map(|index| Point { x: f64::from(index), y: 1.0, note: None }).collect();
        assert_eq!(thin(&points), points);
    }
}
