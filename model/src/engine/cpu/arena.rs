//! One piece of memory for all values of a run: those that are never alive together share their place.

use std::ops::Range;

/// Places begin at cache lines.
const ALIGNMENT: usize = 16;

/// Something that needs a place.
#[derive(Clone, Debug)]
pub struct Demand {
    pub length: usize,
    /// The first and the last step at which it holds something.
    pub alive: (usize, usize),
}

/// A place for each demand, and the length of the whole: the largest first, each at the lowest offset where nothing that
/// is alive at the same time lies (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020).
pub fn place(demands: &[Demand]) -> (Vec<Range<usize>>, usize) {
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(demands[index].length));
    let mut places = vec![0..0; demands.len()];
    let mut placed: Vec<usize> = Vec::new();
    for index in order {
        let Demand { length, alive } = demands[index];
        let together = |other: &&usize| {
            let other = demands[**other].alive;
            alive.0 <= other.1 && other.0 <= alive.1
        };
        let mut taken: Vec<Range<usize>> = placed.iter().filter(together).map(|&other| places[other].clone()).collect();
        taken.sort_by_key(|range| range.start);
        let mut start = 0;
        for range in taken {
            if start + length <= range.start {
                break;
            }
            start = start.max(range.end.next_multiple_of(ALIGNMENT));
        }
        places[index] = start..start + length;
        placed.push(index);
    }
    let length = places.iter().map(|place| place.end).max().unwrap_or(0);
    (places, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alive_together_lies_apart_and_the_rest_shares() {
        let demand = |length, first, last| Demand { length, alive: (first, last) };
        let demands = [demand(100, 0, 1), demand(160, 1, 2), demand(100, 2, 4), demand(48, 3, 4), demand(0, 2, 2)];
        let (places, length) = place(&demands);
        for (i, a) in demands.iter().enumerate() {
            assert_eq!(places[i].len(), a.length);
            assert_eq!(places[i].start % ALIGNMENT, 0);
            for (j, b) in demands.iter().enumerate().skip(i + 1) {
                if a.alive.0 <= b.alive.1 && b.alive.0 <= a.alive.1 {
                    let apart = places[i].end <= places[j].start || places[j].end <= places[i].start;
                    assert!(apart, "{:?} and {:?}", places[i], places[j]);
                }
            }
        }
        assert_eq!(length, 260, "100 and 160, and nothing more");
    }
}
