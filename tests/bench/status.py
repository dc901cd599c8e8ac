"""`llmhostctl status` with 100 deployments: from the start of the program to its end; then the same beside a thousand who hold
a connection and say nothing, and one who asks without end and does not read."""
import contextlib
import resource
import socket
import subprocess
import time

import bench
from bench import median, rounds, show

MODELS = 100
IDLE = 1000
CALLS = b'{"method":"io.llmhost.Status"}\0' * 1000


def timed(words):
    begun = time.monotonic()
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return {"ms": (time.monotonic() - begun) * 1e3, "text": done.stdout, "status": done.returncode}


@contextlib.contextmanager
def crowd(d):
    with contextlib.ExitStack() as held:
        for n in range(IDLE + 1):
            s = held.enter_context(socket.socket(socket.AF_UNIX))
            s.connect(d.socket_path)
        s.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            s.sendall(CALLS)
        yield


soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
# The machine is known and off: nothing may be asked of it.
with bench.World(model=False) as w:
    d = w.daemon
    w.host.down()
    for n in range(MODELS):
        d.ctl("up", f"llama.cpp:/root/model-{n:03}.gguf", "--on", "gpu1", "--no-wait")
    known = len(d.call("Status")["models"])
    if known != MODELS:
        raise SystemExit(f"{known} deployments instead of {MODELS}")
    got = rounds(15, {"ours": lambda: timed(d.ctl_words("status")), "json": lambda: timed(d.ctl_words("status", "--json")),
                      "nothing": lambda: timed(d.ctl_words("--version"))})
    shown = sum("model-" in line for line in got["ours"][0]["text"].splitlines())
    bare = median(got["nothing"], "ms")
    note = f"start of the program alone {bare:.1f} ms; {shown} lines"
    for side, name in (("ours", "status"), ("json", "status --json")):
        ours = median(got[side], "ms")
        show(f"llmhostctl {name}, {MODELS} deployments", "ms", ours, None, "<= 20 ms", ours <= 20, note)
    with crowd(d):
        got = rounds(15, {"ours": lambda: timed(d.ctl_words("status"))})
    ours = median(got["ours"], "ms")
    show(f"llmhostctl status, beside {IDLE} idle clients, 1 slow", "ms", ours, None, "<= 20 ms", ours <= 20, "")
