//! Where lines begin in the file, for some of them.

/// More points than this are thinned out, so that a journal of any length costs at most 128 KiB.
const MOST: usize = 8192;
/// A point every so many bytes to begin with.
const STRIDE: u64 = 16 * 1024;

/// Line index to byte offset, sparse. A reader seeks to the point before and reads on from there.
#[derive(Debug)]
pub(crate) struct SparseIndex {
    points: Vec<(u64, u64)>,
    stride: u64,
}

impl SparseIndex {
    pub(crate) fn new() -> Self {
        Self { points: Vec::new(), stride: STRIDE }
    }

    /// Tells that the line begins at the offset. Lines are told in order.
    pub(crate) fn note(&mut self, index: u64, offset: u64) {
        if self.points.last().is_some_and(|&(_, last)| offset < last + self.stride) {
            return;
        }
        if self.points.len() == MOST {
            let mut odd = false;
            self.points.retain(|_| {
                odd = !odd;
                odd
            });
            self.stride *= 2;
        }
        self.points.push((index, offset));
    }

    /// The last known line at or before `index`; `None` before the first line.
    pub(crate) fn seek(&self, index: u64) -> Option<(u64, u64)> {
        let behind = self.points.partition_point(|&(at, _)| at <= index);
        behind.checked_sub(1).map(|at| self.points[at])
    }

    /// Forgets the lines from `index` on.
    pub(crate) fn truncate(&mut self, index: u64) {
        let behind = self.points.partition_point(|&(at, _)| at < index);
        self.points.truncate(behind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_lines_cost_a_bounded_number_of_points_and_stay_near() {
        let mut index = SparseIndex::new();
        for line in 0..5_000_000 {
            index.note(line, line * 100);
        }
        assert!(index.points.len() <= MOST);
        for wanted in [0, 1, 99, 1_000_000, 4_999_999] {
            let (at, offset) = index.seek(wanted).expect("there are lines");
            assert_eq!(offset, at * 100);
            assert!(at <= wanted && (wanted - at) * 100 <= 2 * index.stride, "{wanted} from {at}");
        }
        index.truncate(1000);
        assert!(index.seek(4_999_999).expect("there are lines").0 < 1000);
    }
}
