//! Measures the duration of each dispatch with the GPU's timestamp queries.

use super::gpu::Gpu;
use std::time::Duration;
use wgpu::{BufferUsages, CommandEncoder, ComputePassTimestampWrites};

/// Maximum number of timestamps in a query set, by WebGPU's specification.
const MAX_TIMESTAMPS: usize = 4096;

/// Timestamps at the beginning and the end of each dispatch of a submission.
pub struct DispatchTimer {
    timestamps: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    readback: wgpu::Buffer,
}

impl DispatchTimer {
    /// Creates a timer, or returns `None` if the adapter has no timestamp queries or there are too many dispatches.
    pub fn new(gpu: &Gpu, dispatches: usize) -> Option<Self> {
        let count = 2 * dispatches;
        let timestamps = (count <= MAX_TIMESTAMPS).then(|| gpu.create_timestamps(count as u32))??;
        let size = (count * size_of::<u64>()) as u64;
        let resolved = gpu.create_buffer("timestamps", size, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC);
        let readback = gpu.create_buffer("timestamps", size, BufferUsages::MAP_READ | BufferUsages::COPY_DST);
        Some(DispatchTimer { timestamps, resolved, readback })
    }

    /// Returns the timestamps of a pass that consists of one dispatch only.
    pub fn timestamp_writes(&self, dispatch: usize) -> ComputePassTimestampWrites<'_> {
        let first = 2 * dispatch as u32;
        ComputePassTimestampWrites {
            query_set: &self.timestamps,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        }
    }

    /// Copies the timestamps to the readback buffer. Must be called after the last dispatch.
    pub fn resolve(&self, encoder: &mut CommandEncoder) {
        let size = self.readback.size();
        encoder.resolve_query_set(&self.timestamps, 0..(size / 8) as u32, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.readback, 0, size);
    }

    pub fn readback(&self) -> &wgpu::Buffer {
        &self.readback
    }
}

/// Converts pairs of timestamps, in units of `period` nanoseconds, to durations.
pub fn durations(timestamps: &[u64], period: f32) -> Vec<Duration> {
    let pairs = timestamps.as_chunks::<2>().0;
    // If the clock was reset between two timestamps, their difference is negative and counts as zero.
    let units = pairs.iter().map(|[begin, end]| end.saturating_sub(*begin));
    units.map(|units| Duration::from_secs_f64(units as f64 * f64::from(period) * 1e-9)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_differences_of_pairs() {
        let timestamps = [1000, 3000, 3000, 3500, 900, 800];
        let expected = [2.0, 0.5, 0.0].map(|microseconds| Duration::from_secs_f64(microseconds * 1e-6));
        assert_eq!(durations(&timestamps, 1.0), expected);
        assert_eq!(durations(&timestamps[..2], 2.5), [Duration::from_micros(5)]);
    }
}
