"""Archives of engines, and a server of files that fails on order, for installations.

    packed = archives.pack(folder, "0.11.4", "tgz")     # of a real engine below ENGINES; an Archive: path, bytes, sha256
    with archives.Server(folder) as s:                  # on every address of the enclosure; s.url("x.tgz")
        s.fault(close_after=300_000, times=2)           # then: s.asked is what was asked, (path, first byte, status) each

Faults, for the first TIMES requests (None: for ever): close_after N bytes of a body; cuts: such numbers, one a
request; stall_after N bytes, for a minute; status N; html: a page instead of the file, with status 200; flip: a bit of it; rate N bytes per second; no_range: all of it,
whatever was asked; redirect N: so many times before the file.
"""
import collections
import hashlib
import http.server
import os
import re
import shutil
import subprocess
import threading
import time

import host as hosts
import lab

Archive = collections.namedtuple("Archive", "path name bytes sha256 unpacked tree version")
NO_FAULTS = {"close_after": None, "cuts": (), "stall_after": None, "status": None, "html": False, "flip": False, "rate": None, "no_range": False, "redirect": 0, "times": None}
PAGE = b"<html><body>Please log in.</body></html>"


def pack(folder, version, form, called=None, extra=None):
    """The real ollama VERSION as its maker packs it, under another version's name where CALLED says so."""
    called = called or version
    tree = f"{folder}/tree-{called}-{form}"
    os.makedirs(tree + "/bin")
    os.makedirs(tree + "/lib/ollama")
    shutil.copy(hosts.engine_path("ollama-" + version), tree + "/bin/ollama")
    files = ["bin/ollama"]
    server = f"{hosts.ENGINES}/ollama-{version}/lib/ollama/llama-server"
    if os.path.exists(server):
        os.symlink(os.path.realpath(server), tree + "/lib/ollama/llama-server")
        files.append("lib/ollama/llama-server")
    if extra:
        with open(tree + "/lib/ollama/" + extra, "w") as f:
            f.write(called)
    name = f"ollama-{called}.{form}"
    path = f"{folder}/{name}"
    how = ["--use-compress-program", "zstd -1"] if form == "tar.zst" else ["--use-compress-program", "gzip -1"]
    subprocess.run(["tar", "-c", *how, "-f", path, "-C", tree, "bin", "lib"], check=True)
    unpacked = sum(os.path.getsize(os.path.join(d, f)) for d, _, names in os.walk(tree + "/bin") for f in names)
    shutil.rmtree(tree)
    with open(path, "rb") as f:
        data = f.read()
    return Archive(path, name, len(data), hashlib.sha256(data).hexdigest(), unpacked, " ".join(files), called)


def section(archive, url, **change):
    """Its section of a catalog; a change of None leaves the key out."""
    values = dict({"url": url, "bytes": archive.bytes, "unpacked": archive.unpacked, "sha256": archive.sha256, "tree": archive.tree},
                  **change)
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    return f"[ollama {archive.version} {arch}]\n" + "".join(f"{k} = {v}\n" for k, v in values.items() if v is not None)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        store = self.server.store
        faults = store.next_faults()
        first = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, 0])[1])
        # A proxy is asked for the whole address.
        path = re.sub(r"^http://[^/]*", "", self.path)
        if faults["status"]:
            return self.answer(first, faults["status"], b"no")
        if faults["html"]:
            return self.answer(first, 200, PAGE)
        turns = int((re.search(r"turn=(\d+)", path) or [0, 0])[1])
        if turns < faults["redirect"]:
            store.asked.append((path, first, 302))
            self.send_response(302)
            self.send_header("Location", f"{path.partition('?')[0]}?turn={turns + 1}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        try:
            with open(os.path.join(store.folder, os.path.basename(path.partition("?")[0])), "rb") as f:
                data = f.read()
        except FileNotFoundError:
            return self.answer(first, 404, b"no such file")
        if faults["flip"]:
            data = data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]
        if faults["no_range"]:
            first = 0
        self.answer(first, 206 if first else 200, data[first:], faults, len(data))

    def answer(self, first, status, body, faults=NO_FAULTS, total=0):
        self.server.store.asked.append((self.path, first, status))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
        self.end_headers()
        if faults["close_after"] is not None:
            body = body[:faults["close_after"]]
            self.close_connection = True
        if faults["stall_after"] is not None:
            self.wfile.write(body[:faults["stall_after"]])
            self.close_connection = True
            return self.server.store.over.wait(60)
        for at in range(0, len(body), 65536):
            piece = body[at:at + 65536]
            try:
                self.wfile.write(piece)
            except OSError:
                return
            if faults["rate"]:
                time.sleep(len(piece) / faults["rate"])


class Server:
    def __init__(self, folder, bind="0.0.0.0"):
        self.folder, self.asked, self.lock, self.over = folder, [], threading.Lock(), threading.Event()
        self.server = http.server.ThreadingHTTPServer((bind, 0), Handler)
        self.server.daemon_threads = True
        self.server.store = self
        self.port = self.server.server_address[1]
        self.fault()
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.over.set()
        self.server.shutdown()
        self.server.server_close()

    def url(self, name, address=lab.ADDRESS):
        return f"http://{address}:{self.port}/{name}"

    def fault(self, **change):
        with self.lock:
            self.faults = dict(NO_FAULTS, **change)

    def next_faults(self):
        with self.lock:
            if self.faults["cuts"]:
                return dict(NO_FAULTS, close_after=self.faults["cuts"].pop(0))
            if self.faults["times"] is None:
                return self.faults
            if self.faults["times"] == 0:
                return NO_FAULTS
            self.faults["times"] -= 1
            return self.faults
