"""How much memory a process has had."""

import re
from pathlib import Path


def peak_mb() -> float:
    """This process's own peak of resident memory (ru_maxrss would begin at that of the process it was started from)."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024
