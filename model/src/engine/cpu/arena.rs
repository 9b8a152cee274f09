//! Memory planning: all values of a run share one buffer, in which values whose lifetimes do not overlap reuse memory.

use std::ops::Range;

/// Alignment of ranges, in f32 values: one cache line.
const ALIGNMENT: usize = 16;

/// A value to place in the arena.
#[derive(Clone, Debug)]
pub struct AllocationRequest {
    /// Number of f32 values.
    pub length: usize,
    /// First and last step between which the value must be preserved.
    pub lifetime: (usize, usize),
}

/// Returns a range for each request, and the length of the arena. Requests are placed in order of decreasing length,
/// each at the lowest offset that overlaps no range with an overlapping lifetime (Pisarchyk and Lee, "Efficient Memory
/// Management for Deep Neural Net Inference", 2020).
pub fn allocate(requests: &[AllocationRequest]) -> (Vec<Range<usize>>, usize) {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(requests[index].length));
    let mut ranges = vec![0..0; requests.len()];
    let mut placed: Vec<usize> = Vec::new();
    for index in order {
        let AllocationRequest { length, lifetime } = requests[index];
        let is_concurrent = |other: &&usize| {
            let other = requests[**other].lifetime;
            lifetime.0 <= other.1 && other.0 <= lifetime.1
        };
        let mut occupied: Vec<Range<usize>> =
            placed.iter().filter(is_concurrent).map(|&other| ranges[other].clone()).collect();
        occupied.sort_by_key(|range| range.start);
        let mut start = 0;
        for range in occupied {
            if start + length <= range.start {
                break;
            }
            start = start.max(range.end.next_multiple_of(ALIGNMENT));
        }
        ranges[index] = start..start + length;
        placed.push(index);
    }
    let length = ranges.iter().map(|range| range.end).max().unwrap_or(0);
    (ranges, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_with_disjoint_lifetimes_share_memory() {
        let request = |length, first, last| AllocationRequest { length, lifetime: (first, last) };
        let requests =
            [request(100, 0, 1), request(160, 1, 2), request(100, 2, 4), request(48, 3, 4), request(0, 2, 2)];
        let (ranges, length) = allocate(&requests);
        for (i, a) in requests.iter().enumerate() {
            assert_eq!(ranges[i].len(), a.length);
            assert_eq!(ranges[i].start % ALIGNMENT, 0);
            for (j, b) in requests.iter().enumerate().skip(i + 1) {
                if a.lifetime.0 <= b.lifetime.1 && b.lifetime.0 <= a.lifetime.1 {
                    let disjoint = ranges[i].end <= ranges[j].start || ranges[j].end <= ranges[i].start;
                    assert!(disjoint, "{:?} and {:?} overlap", ranges[i], ranges[j]);
                }
            }
        }
        assert_eq!(length, 260, "the sum of the two largest concurrent requests");
    }
}
