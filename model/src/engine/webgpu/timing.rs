//! How long each dispatch takes, by the GPU's own clock.

use super::gpu::Gpu;
use std::time::Duration;
use wgpu::{BufferUsages, CommandEncoder, ComputePassTimestampWrites};

/// A query set holds no more timestamps, by WebGPU.
const MOST: usize = 4096;

/// Of the dispatches of one submission.
pub struct Timer {
    timestamps: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    readback: wgpu::Buffer,
}

impl Timer {
    /// `None` if the adapter has no clock.
    pub fn new(gpu: &Gpu, dispatches: usize) -> Option<Self> {
        let count = 2 * dispatches;
        let timestamps = (count <= MOST).then(|| gpu.timestamps(count as u32))??;
        let size = (count * size_of::<u64>()) as u64;
        let resolved = gpu.buffer("timestamps", size, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC);
        let readback = gpu.buffer("timestamps", size, BufferUsages::MAP_READ | BufferUsages::COPY_DST);
        Some(Timer { timestamps, resolved, readback })
    }

    /// For a pass that holds one dispatch alone.
    pub fn around(&self, dispatch: usize) -> ComputePassTimestampWrites<'_> {
        let first = 2 * dispatch as u32;
        ComputePassTimestampWrites {
            query_set: &self.timestamps,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        }
    }

    /// Behind the last dispatch.
    pub fn finish(&self, encoder: &mut CommandEncoder) {
        let size = self.readback.size();
        encoder.resolve_query_set(&self.timestamps, 0..(size / 8) as u32, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.readback, 0, size);
    }

    pub fn readback(&self) -> &wgpu::Buffer {
        &self.readback
    }
}

/// Pairs of timestamps in units of so many nanoseconds.
pub fn durations(timestamps: &[u64], nanoseconds: f32) -> Vec<Duration> {
    let pairs = timestamps.as_chunks::<2>().0;
    // A clock that was set back between the two tells nothing.
    let units = pairs.iter().map(|[begin, end]| end.saturating_sub(*begin));
    units.map(|units| Duration::from_secs_f64(units as f64 * f64::from(nanoseconds) * 1e-9)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_between_pairs() {
        let timestamps = [1000, 3000, 3000, 3500, 900, 800];
        let expected = [2.0, 0.5, 0.0].map(|microseconds| Duration::from_secs_f64(microseconds * 1e-6));
        assert_eq!(durations(&timestamps, 1.0), expected);
        assert_eq!(durations(&timestamps[..2], 2.5), [Duration::from_micros(5)]);
    }
}
