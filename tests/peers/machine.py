"""Describes the machine, and measures how much other programs use it during a measurement."""

import os
import platform
from pathlib import Path

# Instruction-set extensions that matter for convolutions in fp32 and reduced precisions.
RELEVANT_FLAGS = (
    "avx2 fma avx512f avx512_bf16 avx512_vnni avx512_fp16 avx_vnni amx_tile amx_bf16 amx_int8 asimd asimddp bf16 i8mm sve"
).split()


def _cpuinfo():
    """Returns the fields of /proc/cpuinfo, one dictionary per logical processor; empty if the file cannot be read."""
    try:
        blocks = Path("/proc/cpuinfo").read_text().strip().split("\n\n")
    except OSError:
        return []
    rows = ((line.partition(":") for line in block.splitlines()) for block in blocks)
    return [{key.strip(): value.strip() for key, _, value in block} for block in rows]


def cores():
    """Returns the number of physical cores that this process may use. Convolutions gain nothing from hyper-threading."""
    allowed = os.sched_getaffinity(0)
    processors = [processor for processor in _cpuinfo() if int(processor.get("processor", -1)) in allowed]
    physical = {(processor["physical id"], processor["core id"]) for processor in processors if "core id" in processor}
    return len(physical) or len(allowed)


def describe():
    """Returns the processor, memory and operating system as a dictionary for JSON."""
    first = next(iter(_cpuinfo()), {})
    flags = (first.get("flags") or first.get("Features") or "").split()
    numbers = [first[key] for key in ("cpu family", "model", "stepping") if key in first]
    return {
        "processor": first.get("model name") or platform.machine(),
        "family_model_stepping": "/".join(numbers),
        "flags": [flag for flag in RELEVANT_FLAGS if flag in flags],
        "cores": cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
    }


class ContentionMonitor:
    """Measures the processor time that other programs and the hypervisor have taken since the creation of this object."""

    def __init__(self):
        self.before = self._read()

    @staticmethod
    def _read():
        """Returns four times in seconds: of all processors, of this process and its finished children, idle, and stolen."""
        # Fields of /proc/stat (see proc_stat(5)): user nice system idle iowait irq softirq steal.
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
        seconds = [int(field) / os.sysconf("SC_CLK_TCK") for field in fields]
        own = sum(os.times()[:4])
        return sum(seconds), own, seconds[3] + seconds[4], seconds[7]

    def shares(self):
        """Returns the shares of processor time that other programs used (`others`) and that the hypervisor took (`stolen`)."""
        total, own, idle, stolen = (after - before for before, after in zip(self.before, self._read()))
        return {"others": round(max(total - own - idle - stolen, 0) / total, 3), "stolen": round(stolen / total, 3)}
