"""Where a figure was measured, and which processor does what."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from functools import cache
from pathlib import Path


def description() -> str:
    """Processor, cores and versions; nothing that names this one machine."""
    model = "unknown processor"
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    nice = os.nice(0)
    priority = f", nice {nice}" if nice else ""
    return f"{model}, {os.cpu_count()} cores, {system}, Python {platform.python_version()}{priority}"


def load_average() -> float:
    return os.getloadavg()[0]


@cache
def cores() -> tuple[int, int]:
    """(for the gateway alone, for everything else), of those that this process had when it was first asked. The same
    one twice where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[-1], usable[0]


def pin(core: int) -> None:
    os.sched_setaffinity(0, {core})


def busy_seconds(core: int) -> float:
    """How long this core has worked since the machine was started, for whomever, and for other machines (stolen)."""
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(tick) for tick in ticks[:8])
            return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return 0.0


def resident_kib() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def open_descriptors() -> list[str]:
    """What each is of: "socket", "anon_inode:[timerfd]", a path. The one that this look needs itself is left out."""
    kinds = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            kinds.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return sorted(re.sub(r":\[\d+\]", "", kind) for kind in kinds)
