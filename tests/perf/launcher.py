# SPDX-License-Identifier: Apache-2.0
"""What does one command cost, with all the processes that it starts and waits for?

Run by `process` as ``python -I -S launcher.py ANSWER COMMAND…``; writes its answer as JSON to the file ANSWER. It is a
process of its own, and a small one: the kernel counts the memory of whoever starts a process to that process's peak.
"""

import os
import sys

#: ru_maxrss is in KiB. Source: getrusage(2).
KIB_PER_MB = 1024


def main(answer: str, command: list[str]) -> int:
    """Run *command*, and write CPU seconds and the peak memory of its largest process; return its exit code."""
    pid = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    with open(answer, "w", encoding="utf-8") as file:  # noqa: PTH123 - pathlib is most of what this would import
        file.write(f'{{"cpu_s": {usage.ru_utime + usage.ru_stime}, "peak_mb": {usage.ru_maxrss / KIB_PER_MB}}}')
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
