"""Processor time of processes and threads in seconds, on Linux (proc(5))."""

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def of_process(pid):
    """Returns the time of all threads of a process, including ended ones; 0 if the process does not exist."""
    try:
        user, system = _stat(f"/proc/{pid}")[11:13]
    except OSError:
        return 0.0
    return (int(user) + int(system)) / TICKS


def of_thread(folder):
    """Returns the time of a thread, in nanosecond resolution if available. Raises OSError if the thread has ended."""
    try:
        return int((folder / "schedstat").read_text().split()[0]) / 1e9
    except (FileNotFoundError, IndexError):
        user, system = _stat(folder)[11:13]
        return (int(user) + int(system)) / TICKS


def threads(pid):
    """Returns the /proc folders of a process's live threads."""
    return list(Path(f"/proc/{pid}/task").iterdir())


def tree(root):
    """Returns the IDs of a process and all its descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(_stat(entry)[1])
            except OSError:
                continue  # the process has ended
    found, more = set(), {root}
    while more:
        found |= more
        more = {pid for pid, parent in parents.items() if parent in found} - found
    return found


def _stat(folder):
    """Returns the fields of `stat` after the process name, which may contain spaces and parentheses."""
    return Path(folder, "stat").read_text().rpartition(") ")[2].split()
