//! How much memory this process holds, where the system tells: Linux's `/proc`.

use serde::Serialize;
use std::fs;

/// In bytes.
#[derive(Serialize)]
pub struct Memory {
    /// The most that was resident since the process began.
    pub peak: usize,
    /// Resident at the mark.
    pub resident: usize,
    /// How much more at most since the mark.
    pub runs: usize,
}

/// What was resident when the runs began.
pub struct Mark {
    peak: usize,
    resident: usize,
}

/// Notes what is resident, and has the peak counted anew from here.
pub fn mark() -> Option<Mark> {
    let mark = Mark { peak: status("VmHWM")?, resident: status("VmRSS")? };
    // 5: proc_pid_clear_refs(5)
    fs::write("/proc/self/clear_refs", "5").ok()?;
    Some(mark)
}

/// What has been resident since the mark.
pub fn since(mark: Mark) -> Option<Memory> {
    let Mark { peak, resident } = mark;
    let peak_since = status("VmHWM")?;
    Some(Memory { peak: peak.max(peak_since), resident, runs: peak_since.saturating_sub(resident) })
}

/// A line of `/proc/self/status`, which counts in units of 1024 bytes.
fn status(field: &str) -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()? * 1024)
}
