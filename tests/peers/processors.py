"""What processes and their threads took of the processors so far, in seconds; Linux, proc(5)."""

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def of_process(pid):
    """Of all its threads, those that have ended too; nothing of one that is not there."""
    try:
        user, system = _stat(f"/proc/{pid}")[11:13]
    except OSError:
        return 0.0
    return (int(user) + int(system)) / TICKS


def of_thread(folder):
    """In nanoseconds where the kernel counts them, in ticks otherwise. It fails if the thread has ended."""
    try:
        return int((folder / "schedstat").read_text().split()[0]) / 1e9
    except (FileNotFoundError, IndexError):
        user, system = _stat(folder)[11:13]
        return (int(user) + int(system)) / TICKS


def threads(pid):
    """Folders of those that live."""
    return list(Path(f"/proc/{pid}/task").iterdir())


def tree(root):
    """A process with all that it started."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(_stat(entry)[1])
            except OSError:
                continue  # it has ended
    found, more = set(), {root}
    while more:
        found |= more
        more = {pid for pid, parent in parents.items() if parent in found} - found
    return found


def _stat(folder):
    """From the third field on, behind a name that may hold anything."""
    return Path(folder, "stat").read_text().rpartition(") ")[2].split()
