"""How many processes or threads are worth starting."""

import os


def cores() -> int:
    """The CPU cores that this process may use; where the system does not tell, as macOS, all of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
