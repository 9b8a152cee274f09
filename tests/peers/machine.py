"""What the figures were measured on."""

import os
import platform
from pathlib import Path

# Instruction sets that decide how fast fp32 convolutions and their reduced precisions can be.
NOTABLE = (
    "avx2 fma avx512f avx512_bf16 avx512_vnni avx512_fp16 avx_vnni amx_tile amx_bf16 amx_int8 asimd asimddp bf16 i8mm sve"
).split()


def _cpuinfo():
    """One dictionary a processor."""
    try:
        blocks = Path("/proc/cpuinfo").read_text().strip().split("\n\n")
    except OSError:
        return []
    rows = ((line.partition(":") for line in block.splitlines()) for block in blocks)
    return [{key.strip(): value.strip() for key, _, value in block} for block in rows]


def cores():
    """Physical cores that this process may use: two threads of one core compute no faster than one."""
    allowed = os.sched_getaffinity(0)
    processors = [one for one in _cpuinfo() if int(one.get("processor", -1)) in allowed]
    places = {(one["physical id"], one["core id"]) for one in processors if "core id" in one}
    return len(places) or len(allowed)


def describe():
    first = next(iter(_cpuinfo()), {})
    flags = (first.get("flags") or first.get("Features") or "").split()
    numbers = [first[key] for key in ("cpu family", "model", "stepping") if key in first]
    return {
        "processor": first.get("model name") or platform.machine(),
        "family_model_stepping": "/".join(numbers),
        "flags": [flag for flag in NOTABLE if flag in flags],
        "cores": cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
    }


class Use:
    """What the processors did since this was made: a share of their time, all of them together."""

    def __init__(self):
        self.before = self._read()

    @staticmethod
    def _read():
        # proc_stat(5): user nice system idle iowait irq softirq steal
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
        return [int(field) for field in fields]

    def shares(self):
        """Busy, and taken away by the machine's host."""
        spent = [after - before for before, after in zip(self.before, self._read())]
        total = max(sum(spent), 1)
        return 1 - (spent[3] + spent[4] + spent[7]) / total, spent[7] / total
