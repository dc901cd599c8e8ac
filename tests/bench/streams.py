"""500 streams at once on one machine, ten tokens a second each, gateway included, against `ssh -L`: does any of them stall, and does
the slowest get its share?"""
import bench
from bench import load, median, rounds, show

STREAMS, COUNT, PERIOD_US = 500, 50, 100_000


with bench.World(workers=STREAMS + 50) as w, w.ssh(w.engine) as peer:
    got = rounds(3, {"ours": lambda: load("streams", w.gateway, STREAMS, COUNT, PERIOD_US),
                     "ssh": lambda: load("streams", peer.port, STREAMS, COUNT, PERIOD_US)})
    share = {side: median([r["slowest_ms"] / r["median_ms"] for r in got[side]]) for side in got}
    show(f"{STREAMS} streams, the slowest against the median", "x", share["ours"], share["ssh"], "<= 2", share["ours"] <= 2)
    ours, ssh = (median(got[side], "pause_ms") for side in ("ours", "ssh"))
    show(f"{STREAMS} streams, longest pause of any", "ms", ours, ssh, "<= ssh", ours <= ssh, "a token each 100 ms")
