"""Requests per second of the gateway alone, against nginx as a plain reverse proxy, both in front of one model server on this machine
(provider `local`). The proxy has a core to itself, the clients and the server share another. And what a request costs that waits."""
import contextlib
import glob
import os
import socket
import subprocess
import tempfile

import bench
from bench import load, median, own_kb, rounds, show, spent_s, spread
from daemon import Daemon
from host import until

NAME = "llama.cpp:" + bench.MODEL
COUNT = {1: 4000, 8: 16000, 64: 16000}
WORKERS = 600
WAITERS, STREAMS = 500, 500
NGINX_PORT = 20998
# As many idle connections to the server as there are clients, no limit to the requests on one; a line for each request, as we write.
NGINX = """
daemon off; worker_processes 1; user root; pid %(dir)s/nginx.pid; error_log %(dir)s/nginx.log;
events { worker_connections 4096; }
http {
    access_log %(dir)s/access.log; client_body_temp_path %(dir)s/nb; proxy_temp_path %(dir)s/np; fastcgi_temp_path %(dir)s/nf;
    uwsgi_temp_path %(dir)s/nu; scgi_temp_path %(dir)s/ns;
    keepalive_requests 100000000;
    upstream engine { server 127.0.0.1:%(engine)d; keepalive 64; keepalive_requests 100000000; }
    server { listen 127.0.0.1:%(port)d; location / { proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; } }
}
"""
# Not before nobody is to be held any more.
LLAMA_SERVER = bench.LLAMA_SERVER.replace("exec /usr/local/bin/bench-serve", 'while [ -e "$HOME/hold" ]; do sleep 0.1; done; exec "$HOME/bench-serve"')
BODY = b'{"model":"%s","stream":%s,"max_tokens":1000,"period_us":1000000,"messages":[]}'
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def engine_port(home):
    """As bench.engine_port() has it, here."""
    with open(glob.glob(home + "/.llmhost/run/*.pid")[0]) as f:
        return int(f.read().split()[2])


def pin(pid, core):
    for task in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(task), {core})


def put(path, data):
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, 0o755)


def ask(port, stream):
    s = socket.create_connection(("127.0.0.1", port))
    s.settimeout(bench.REACHED_S)
    body = BODY % (bench.MODEL.encode(), b"true" if stream else b"false")
    s.sendall(HEAD % len(body) + body)
    return s


def grown_kb(d, count, stream, is_there):
    """What the daemon has more of its own for each of COUNT requests, once is_there(). The sockets are the caller's to close."""
    before = own_kb(d.pid)
    asked = [ask(d.port, stream) for _ in range(count)]
    until(is_there, bench.REACHED_S, f"{count} requests")
    bench.settle()
    return (own_kb(d.pid) - before) / count, asked


def held(d, home):
    each, asked = grown_kb(d, WAITERS, False, lambda: d.model(NAME)["held"] == WAITERS)
    show("memory for each held request", "KiB", each, None, "<= 64 KiB", each <= 64)
    os.unlink(home + "/hold")
    d.ctl("wait", NAME, timeout=bench.REACHED_S)
    for s in asked:
        if s.recv(12) != b"HTTP/1.1 200":
            raise SystemExit("a held request was not answered")
        s.close()


def streams(d):
    each, asked = grown_kb(d, STREAMS, True, lambda: d.model(NAME)["in_flight"] == STREAMS)
    show("memory for each open stream of the gateway", "KiB", each, None, "", None)
    for s in asked:
        s.close()
    until(lambda: d.model(NAME)["in_flight"] == 0, bench.REACHED_S, "the end of the streams")


@contextlib.contextmanager
def nginx(home, engine):
    with open(home + "/nginx.conf", "w") as f:
        f.write(NGINX % {"dir": home, "engine": engine, "port": NGINX_PORT})
    master = subprocess.Popen(["nginx", "-c", home + "/nginx.conf"], stderr=subprocess.DEVNULL)
    try:
        until(lambda: bench.listens(NGINX_PORT), bench.REACHED_S, "nginx")
        with open(f"/proc/{master.pid}/task/{master.pid}/children") as f:
            yield int(f.read())
    finally:
        master.terminate()
        master.wait()


def measured(port, pid, clients):
    begun = spent_s(pid)
    got = load("requests", port, COUNT[clients], clients)
    return dict(got, us=(spent_s(pid) - begun) * 1e6 / COUNT[clients])


def against_nginx(d, worker):
    for clients in COUNT:
        got = rounds(5, {"ours": lambda: measured(d.port, d.pid, clients),
                         "nginx": lambda: measured(NGINX_PORT, worker, clients)})
        ours, peer = median(got["ours"], "per_s"), median(got["nginx"], "per_s")
        show(f"requests through the gateway, {clients} at a time", "1/s", ours, peer, ">= 0.8 x nginx", ours >= 0.8 * peer,
             f"spread {100 * spread(got['ours'], 'per_s'):.0f} %, of nginx {100 * spread(got['nginx'], 'per_s'):.0f} %")
        show("processor time of each", "us", median(got["ours"], "us"), median(got["nginx"], "us"), "", None)


cores = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, {cores[-1]})            # and all that is started from here, the model server among it
with tempfile.TemporaryDirectory(dir="/run/lab") as home:
    with open(bench.PROGRAMS + "/serve", "rb") as f:
        put(home + "/bench-serve", f.read())
    put(home + "/llama-server", LLAMA_SERVER.replace("WORKERS", str(WORKERS)).encode())
    put(home + "/hold", b"")
    with Daemon(env={"HOME": home, "PATH": f"{home}:{os.environ['PATH']}"}) as d:
        d.ctl("instance", "add", "here", "local")
        d.ctl("up", NAME, "--no-wait")
        until(lambda: glob.glob(home + "/.llmhost/run/*.pid"), bench.REACHED_S, "a server that starts")
        bench.settle()
        held(d, home)
        d.restart()                             # what it freed would serve again
        bench.settle()
        streams(d)
        with nginx(home, engine_port(home)) as worker:
            pin(d.pid, cores[0])
            pin(worker, cores[0])
            against_nginx(d, worker)
        d.ctl("down", NAME)
