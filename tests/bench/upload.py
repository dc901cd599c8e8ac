"""A file to a machine, as engines are brought there: over exec by a session that is up, against `scp`, connecting included."""
import json
import os
import subprocess
import time

import bench
from bench import SSH, key, let_in, machine, median, show

ROUNDS = 5


def ours(host, size):
    done = subprocess.run([os.environ["BUILD"] + "/bench_upload", host.ip, str(host.port), key(), str(size), str(ROUNDS)], text=True,
                          stdout=subprocess.PIPE, check=True, timeout=300)
    return [json.loads(line) for line in done.stdout.splitlines()]


def scp(host, size):
    path = "/run/lab/upload"
    with open(path, "wb") as f:
        f.truncate(size)
    results = []
    for _ in range(ROUNDS):
        begun = time.monotonic()
        subprocess.run(["scp", "-q"] + SSH[1:-2] + ["-i", key(), "-P", str(host.port), path, f"root@{host.ip}:/root/uploaded"],
                       check=True, timeout=300)
        results.append({"mb_per_s": size / 1e6 / (time.monotonic() - begun)})
    return results


def measure(host, name, size, goal):
    mine, peer = median(ours(host, size), "mb_per_s"), median(scp(host, size), "mb_per_s")
    show(f"upload over exec, {name}", "MB/s", mine, peer, f">= {goal} x scp" if goal else "", mine >= goal * peer if goal else None)


host = machine("gpu1")
let_in(host, key())
measure(host, "loopback", 30_000_000, 0)
with bench.far_away(host, 40):
    measure(host, "40 ms", 30_000_000, 1.2)
host.down()
