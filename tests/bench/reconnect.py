"""From a cut to the first byte of an answer, against the handshake of ssh itself and against autossh.

Ours: a client that asks our gateway at once after the cut and waits. autossh: one that tries again each millisecond.
ssh: from its start, with the same key, to the first byte through its tunnel. The cut is a reset of every connection
of the machine, so that both notice at once; who asks first after it is not in the figures, the daemon has settled."""
import shutil
import time

import bench
from bench import load, median, rounds, show, spread

ROUNDS = 5
SETTLED_S = 1.6         # a session that is lost sooner is tried again more slowly, as it should be


def since(begun_ns, got):
    return {"ms": (got["at_ns"] - begun_ns) / 1e6}


def ours(w):
    w.daemon.wait_tunnel(w.name, "up")
    load("first", w.gateway, "http")
    time.sleep(SETTLED_S)
    begun = time.monotonic_ns()
    w.host.fault("rst")
    return since(begun, load("first", w.gateway, "http"))


def ssh(w):
    time.sleep(0.2)
    begun = time.monotonic_ns()
    peer = w.ssh(w.engine)
    try:
        return since(begun, load("first", peer.port, "http"))
    finally:
        peer.end()


def autossh(w):
    """A fresh one each time: after a few quick losses it waits longer, up to a minute."""
    peer = bench.Peer(w.host, w.key, w.engine, ["autossh", "-M", "0"], {"AUTOSSH_GATETIME": "0"})
    try:
        load("first", peer.port, "http")
        time.sleep(SETTLED_S)
        begun = time.monotonic_ns()
        w.host.fault("rst")
        return since(begun, load("first", peer.port, "http"))
    finally:
        peer.end()


def measure(w, name):
    sides = {"ours": lambda: ours(w), "ssh": lambda: ssh(w)}
    if shutil.which("autossh"):
        sides["autossh"] = lambda: autossh(w)
    got = rounds(ROUNDS, sides)
    mine, own = median(got["ours"], "ms"), median(got["ssh"], "ms")
    show(f"reconnect, {name}, against a start of ssh", "ms", mine, own, "<= 1.0 x ssh", mine <= own,
         f"spread {100 * spread(got['ours'], 'ms'):.0f} %")
    if "autossh" in got:
        other = median(got["autossh"], "ms")
        show(f"reconnect, {name}, against autossh", "ms", mine, other, "<= 0.5 x autossh", mine <= 0.5 * other)


with bench.World() as w:
    measure(w, "loopback")
    with bench.far_away(w.host, 40):
        measure(w, "40 ms")
