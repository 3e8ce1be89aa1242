"""Runs a command and prints its seconds, processor seconds, peak memory and exit status as JSON.

    python -I -S launch.py LOG COMMAND...

A process of its own, because a child's peak counts what its parent held when it was started: this one holds next to nothing.
"""

from __future__ import annotations

import json
import os
import sys
import time

if __name__ == "__main__":
    log, *command = sys.argv[1:]
    to_log = [
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    began = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=to_log)
    _, status, used = os.wait4(pid, 0)
    seconds, cpu = time.perf_counter() - began, used.ru_utime + used.ru_stime
    peak = used.ru_maxrss / 1024  # KiB on Linux
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak, "code": os.waitstatus_to_exitcode(status)}))
