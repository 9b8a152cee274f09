//! Memory usage of this process, read from `/proc` on Linux. On other systems, it is not available.

use serde::Serialize;
use std::fs;

/// Memory usage, in bytes.
#[derive(Serialize)]
pub struct MemoryUsage {
    /// Peak resident memory since the process started.
    pub peak: usize,
    /// Resident memory at the baseline.
    pub resident: usize,
    /// Peak increase since the baseline.
    pub runs: usize,
}

/// Returns the peak resident memory of this process so far, in bytes, if the system reports it.
pub fn peak() -> Option<usize> {
    status("VmHWM")
}

/// Memory usage when the measurement started.
pub struct Baseline {
    peak: usize,
    resident: usize,
}

impl Baseline {
    /// Records the current usage, and resets the peak. Returns `None` if the system does not report it.
    pub fn record() -> Option<Self> {
        let baseline = Baseline { peak: status("VmHWM")?, resident: status("VmRSS")? };
        // The value 5 resets the peak: see proc_pid_clear_refs(5).
        fs::write("/proc/self/clear_refs", "5").ok()?;
        Some(baseline)
    }

    /// Returns the usage since this baseline.
    pub fn usage(self) -> Option<MemoryUsage> {
        let Baseline { peak, resident } = self;
        let peak_since = status("VmHWM")?;
        Some(MemoryUsage { peak: peak.max(peak_since), resident, runs: peak_since.saturating_sub(resident) })
    }
}

/// Returns a field of `/proc/self/status`, in bytes. The file's unit is 1024 bytes.
fn status(field: &str) -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()? * 1024)
}
