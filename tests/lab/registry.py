#!/usr/bin/env python3
"""A registry of models that real ollama pulls from, and that fails on order.

    with Registry(store) as r:                      # an OLLAMA_MODELS directory, see models.py
        r.serve_host(gpu)                           # from now on gpu's registry.ollama.ai is this one, with TLS
        r.fault(close_after=300_000, times=2)       # then: r.asked is what was asked, one tuple per request
                                                    # r.sent: bytes of blobs

How a client finds it, all on one port: by the names in NAMES (TLS; serve_host() writes the host's /etc/hosts and lets it
trust our certificate), as an HTTPS proxy (CONNECT, then TLS for whatever name was asked), or by plain HTTP with its
address in the model's name and "insecure". The first byte of a connection tells TLS from the rest.

ollama wants the first GET of a blob to be sent on to another host name, and asks that one with Range
(observed with 0.11.4 and 0.32.15).

Faults, for the first TIMES requests they apply to (None: for ever):
    status N            manifests answer N                     wrong_digest    a bit of each blob is flipped
    blob_status N       blobs answer N                         challenge TEXT  WWW-Authenticate of a status 401
    only NAME           status applies to this host's name alone
    close_after N       closed after N bytes of a blob         rate N          bytes per second of all blobs together
    reset_after N       the same by RST: what came is lost     latency_ms N    before every answer
    stall_after N       silence after N bytes of a blob        stall_at N      what lies beyond byte N of a blob never comes

usage: registry.py [--port N] [--bind IP] STORE        until SIGTERM; the first line tells its address
"""
import argparse
import contextlib
import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

BLOBS_NAME = "blobs.registry.test"
MIRROR = "models.mirror.test"
NAMES = ["registry.ollama.ai", BLOBS_NAME, MIRROR, "hf.co", "huggingface.co", "hf-mirror.com", "modelscope.cn"]
PIECE = 16384
NO_FAULTS = {"status": None, "close_after": None, "reset_after": None, "stall_after": None, "stall_at": None, "wrong_digest": None, "rate": None,
             "latency_ms": None, "blob_status": None, "challenge": None, "only": None, "times": None}


def certificates(folder):
    """A CA of our own and one certificate of it for all names, by the openssl program. Returns the CA's file."""
    path = lambda name: os.path.join(folder, name)

    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-days", "30", "-subj", "/CN=lab registry", "-keyout", path("ca.key"),
            "-out", path("ca.pem"), "-addext", "keyUsage=critical,keyCertSign")
    openssl("req", *key, "-subj", "/CN=" + NAMES[0], "-keyout", path("key.pem"), "-out", path("request.pem"))
    with open(path("extensions"), "w") as f:
        f.write("subjectAltName=" + ",".join("DNS:" + n for n in NAMES + ["localhost"]) + ",IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", path("request.pem"), "-CA", path("ca.pem"), "-CAkey", path("ca.key"),
            "-CAcreateserial", "-days", "30", "-extfile", path("extensions"), "-out", path("cert.pem"))
    return path("ca.pem")


@functools.lru_cache
def digest_of(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    secure = False

    def setup(self):
        super().setup()
        self.registry = self.server.registry

    def handle(self):
        with contextlib.suppress(OSError, ssl.SSLError):
            if self.connection.recv(1, socket.MSG_PEEK) == b"\x16":         # a TLS handshake
                self.wrap()
            super().handle()

    def wrap(self):
        self.connection = self.registry.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.secure = True

    def do_CONNECT(self):
        self.registry.note(self, 200)
        self.send_response(200)
        self.end_headers()
        self.wrap()
        self.close_connection = False

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = re.sub("^https?://[^/]+", "", self.path)                     # asked as a proxy
        time.sleep((self.registry.playing("latency_ms") or 0) / 1000)
        manifest = re.fullmatch("/v2/(.+)/manifests/([^/]+)", path)
        blob = re.fullmatch("/(v2/.+/blobs|data)/sha256[:-]([0-9a-f]{64})", path)
        hub = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(refs|tree/[^?]+)(\?.*)?", path)
        file = re.fullmatch("/([^/]+/[^/]+)/resolve/[^/]+/([^?]+)", path)
        if hub:
            self.answer_hub(hub[1], hub[2] == "refs")
        elif file:
            self.answer_file(f"{self.registry.store}/hub/{file[1]}/{file[2]}")
        elif manifest:
            self.answer_manifest(*manifest.groups())
        elif blob:
            self.answer_blob(blob[2], blob[1] == "data")
        elif path.startswith("/token?"):                                    # of a challenge: good for nothing
            self.answer(200, b'{"token":"lab"}')
        else:
            self.answer(404, b'{"errors":[{"code":"NAME_UNKNOWN"}]}')

    def answer(self, status, body=b"", **headers):
        self.registry.note(self, status)
        self.send_response(status)
        headers.setdefault("Content_Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_manifest(self, name, tag):
        only = self.registry.playing("only")
        status = self.registry.play("status") if only in (None, self.headers.get("Host")) else None
        place = self.registry.manifest(name, tag)
        if status or not place:
            challenge = self.registry.faults["challenge"]
            return self.answer(status or 404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}',
                               **({"WWW_Authenticate": challenge} if challenge else {}))
        with open(place, "rb") as f:
            self.answer(200, f.read(), Content_Type="application/vnd.docker.distribution.manifest.v2+json")

    def answer_blob(self, digest, is_data):
        place = f"{self.registry.store}/blobs/sha256-{digest}"
        status = self.registry.play("blob_status")
        if status:
            return self.answer(status, b"as ordered")
        if not os.path.exists(place):
            return self.answer(404, b'{"errors":[{"code":"BLOB_UNKNOWN"}]}')
        size = os.path.getsize(place)
        if self.command == "HEAD":
            return self.answer(200, Content_Length=str(size))
        if not is_data:
            return self.answer(307, Location=f"{self.elsewhere()}/data/sha256-{digest}")
        first, last, part = 0, size - 1, re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if part:
            first, last = int(part[1]), min(int(part[2] or last), last)
        if first > last:
            return self.answer(416, Content_Range=f"bytes */{size}")
        with open(place, "rb") as f:
            f.seek(first)
            self.send_blob(f, first, last, size, 206 if part else 200)

    def answer_hub(self, name, is_refs):
        """What is in STORE/hub/NAME, as Hugging Face lists it."""
        folder, status = f"{self.registry.store}/hub/{name}", self.registry.play("status")
        if status or not os.path.isdir(folder):
            return self.answer(status or 404, b'{"error":"as ordered"}')
        said = {"branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": "c" * 40}]} if is_refs else [
            {"type": "file", "path": f, "size": os.path.getsize(f"{folder}/{f}"), "oid": "a" * 40,
             "lfs": {"oid": digest_of(f"{folder}/{f}"), "size": os.path.getsize(f"{folder}/{f}")}} for f in sorted(os.listdir(folder))]
        self.answer(200, json.dumps(said).encode(), Content_Type="application/json")

    def answer_file(self, place):
        if not os.path.exists(place):
            return self.answer(404)
        size, part = os.path.getsize(place), re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        first = int(part[1]) if part else 0
        if self.command == "HEAD":
            return self.answer(200, Content_Length=str(size), Accept_Ranges="bytes", ETag='"e"')
        with open(place, "rb") as f:
            f.seek(first)
            self.send_blob(f, first, size - 1, size, 206 if part else 200)

    def elsewhere(self):
        """This server under a name other than the one it was asked by."""
        if self.secure:
            return f"https://{BLOBS_NAME}"
        asked = (self.headers.get("Host") or "").rsplit(":", 1)[0]
        return f"http://{'localhost' if asked == '127.0.0.1' else '127.0.0.1'}:{self.registry.port}"

    def send_blob(self, f, first, last, size, status):
        registry, sent, length = self.registry, 0, last - first + 1
        self.answer(status, Content_Length=str(length), Accept_Ranges="bytes",
                    **({"Content_Range": f"bytes {first}-{last}/{size}"} if status == 206 else {}))
        flip = first == 0 and registry.play("wrong_digest")
        while sent < length:
            piece = f.read(min(PIECE, length - sent, self.next_fault(sent, first + sent)))
            if flip:
                piece, flip = bytes([piece[0] ^ 1]) + piece[1:], False
            self.wfile.write(piece)
            sent += len(piece)
            registry.count(len(piece))
            registry.pace(len(piece))

    def next_fault(self, sent, at):
        """How many bytes may still be sent; at 0 the fault is played, and does not return."""
        left = PIECE
        for name, so_far, act in (("close_after", sent, self.close), ("reset_after", sent, self.reset),
                                  ("stall_after", sent, self.stall), ("stall_at", at, self.stall)):
            limit = self.registry.playing(name)
            if limit is not None:
                if so_far >= limit:
                    self.registry.play(name)
                    act()
                    raise OSError(f"{name} as ordered")
                left = min(left, limit - so_far)
        return left

    def close(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_WR)

    def reset(self):
        """Past Python's own way of closing, which ends in order first."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def stall(self):
        """Silent until the client gives up or we are stopped."""
        self.connection.settimeout(0.2)
        while not self.registry.stopped.is_set():
            try:
                if self.connection.recv(1) == b"":
                    break
            except (TimeoutError, ssl.SSLWantReadError):
                continue

    def log_message(self, form, *words):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request, address):
        if not isinstance(sys.exc_info()[1], OSError):          # a client that went away is no news
            super().handle_error(request, address)


class Registry:
    def __init__(self, store, bind="0.0.0.0", port=0):
        self.store, self.asked, self.sent, self.faults = store, [], 0, dict(NO_FAULTS)
        self.lock, self.pacing, self.stopped = threading.Lock(), threading.Lock(), threading.Event()
        self.bound = []
        self.tls_dir = tempfile.mkdtemp(prefix="registry.")
        self.ca_file = certificates(self.tls_dir)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(self.tls_dir + "/cert.pem", self.tls_dir + "/key.pem")
        self.server = Server((bind, port), Answers)
        self.server.registry = self
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()
        while self.bound:               # nothing can be bound over a file that is gone
            subprocess.run(["umount", self.bound.pop()], check=True)
        shutil.rmtree(self.tls_dir, ignore_errors=True)

    def serve_host(self, host):
        """HOST's ollama, unchanged, finds us as the registry. We must listen on port 443."""
        if self.port != 443:
            raise ValueError("a registry by name needs port 443")
        with open(self.ca_file) as f:
            host.trust(f.read(), NAMES)

    def serve_here(self):
        """The same for programs of the lab itself, until it ends: its mounts are nobody else's."""
        bundle = "/etc/ssl/certs/ca-certificates.crt"
        texts = {"/etc/hosts": f"127.0.0.1 localhost {' '.join(NAMES)}\n"}
        with open(bundle) as old, open(self.ca_file) as ours:
            texts[bundle] = old.read() + ours.read()
        for place, text in texts.items():
            new = os.path.join(os.path.dirname(self.ca_file), os.path.basename(place))
            with open(new, "w") as f:
                f.write(text)
            subprocess.run(["mount", "--bind", new, place], check=True)
            self.bound.append(place)

    def fault(self, **faults):
        """Exactly these faults from now on; none: behave."""
        unknown = set(faults) - set(NO_FAULTS)
        if unknown:
            raise TypeError(f"no such fault: {', '.join(sorted(unknown))}")
        with self.lock:
            self.faults = dict(NO_FAULTS, **faults)

    def playing(self, name):
        with self.lock:
            return None if self.faults["times"] == 0 else self.faults[name]

    def play(self, name):
        """The value of a fault, which is hereby played once."""
        with self.lock:
            value = self.faults[name]
            if value is None or self.faults["times"] == 0:
                return None
            if self.faults["times"]:
                self.faults["times"] -= 1
            return value

    def count(self, bytes):
        with self.lock:
            self.sent += bytes

    def pace(self, count):
        rate = self.playing("rate")
        if rate:
            with self.pacing:
                time.sleep(count / rate)

    def note(self, request, status):
        with self.lock:
            self.asked.append((request.command, request.path, request.headers.get("Range"), status, request.headers.get("Host")))

    def manifest(self, name, tag):
        place = os.path.realpath(os.path.join(self.store, "manifests", NAMES[0], name, tag))
        inside = place.startswith(os.path.realpath(self.store) + "/")
        return place if inside and os.path.isfile(place) else None


def main():
    p = argparse.ArgumentParser()
    p.add_argument("store")
    p.add_argument("--port", type=int, default=0)
    p.add_argument("--bind", default="127.0.0.1")
    o = p.parse_args()
    with Registry(o.store, o.bind, o.port) as r:
        print(json.dumps({"port": r.port, "ca": r.ca_file}), flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
