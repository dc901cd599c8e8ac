"""What a guard costs the box it lies on: its memory (and its nap's), and processor time over a minute at its usual period, beside one
renewal a minute, in each shell."""
import os
import time

import bench
import guarded
from bench import show

SECONDS = 60


def spent_s(pid):
    """Of a process, and by the coarser clock of its children that have ended."""
    with open(f"/proc/{pid}/stat") as f:
        words = f.read().rpartition(") ")[2].split()
    return bench.spent_s(pid) + sum(int(w) for w in words[13:15]) / os.sysconf("SC_CLK_TCK")


boxes = {shell: guarded.Box(shell) for shell in guarded.SHELLS}
for box in boxes.values():
    box.guard(first=1800, period=20)
guards = {shell: box.guards()[0].outer_pid for shell, box in boxes.items()}
time.sleep(1)
before = {shell: spent_s(pid) for shell, pid in guards.items()}
took = {}
for shell, box in boxes.items():
    begun = time.monotonic()
    box.renew("me", 1, 900)
    took[shell] = 1000 * (time.monotonic() - begun)
time.sleep(SECONDS)
for shell, pid in guards.items():
    show(f"guard in {shell}: memory of its own", "KiB", bench.own_kb(pid), None, "", None)
    show(f"guard in {shell}: processor time in {SECONDS} s", "ms", 1000 * (spent_s(pid) - before[shell]), None, "", None)
    show(f"guard in {shell}: a renewal, the asking shell's start included", "ms", took[shell], None, "", None)
