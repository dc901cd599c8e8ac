#!/usr/bin/env python3
"""An HTTP model server that does what it is told, for what real engines cannot be brought to do.

It answers the lists of ollama and of OpenAI's API, so that it passes for an engine: installed on a host under the name
ollama it is started like one (`ollama serve`, OLLAMA_HOST). What it does with a chat or completion is in the request
itself, which a gateway must hand on byte for byte:

    {"model": "m", "script": {"status": 200, "delay_ms": 0, "chunks": 5, "bytes": 20, "gap_ms": 10,
                              "end": "clean", "headers": {"X-A": "b"}}}

    end      clean, or after the chunks: fin (closed without the end), rst, silence (for ever)
    stream   true: text/event-stream (below /api/ NDJSON) in HTTP chunks; false: one body with Content-Length
    close    the connection ends after a clean answer, without having said so
    nothing  no byte of an answer at all, and then end

GET /_asked tells what came in, as a JSON list: method, path, headers in order, the body's length and SHA-256, how the
answer ended. Python's standard library only: it runs on any host that has python3.

/root/load.json, where there is one, says what it does when it is to load: {"wait": true} until it says something else,
{"error": "text"} fails.

/root/ps.json, where there is one, is its answer to /api/ps once something was loaded. While there is a /root/busy it answers no GET.

It has scripted:latest, scripted:0 to scripted:3, and on a host called gpu1 scripted:gpu1 as well: one that no other host has.

usage: http_engine.py serve          OLLAMA_HOST=IP:PORT
"""
import hashlib
import http.server
import json
import os
import socket
import struct
import sys
import threading
import time

PS, LOAD, BUSY, LOADED = "/root/ps.json", "/root/load.json", "/root/busy", threading.Event()
ASKED, LOCK = [], threading.Lock()
MODEL = {"name": "scripted:latest", "model": "scripted:latest", "modified_at": "2026-01-01T00:00:00Z", "size": 1000,
         "digest": "5c" * 32, "details": {"format": "gguf", "family": "llama", "families": ["llama"],
                                          "parameter_size": "1M", "quantization_level": "F16"}}
MODELS = [dict(MODEL, name=name, model=name) for name in
          (MODEL["name"], *(f"scripted:{what}" for what in (*range(4), socket.gethostname())))]
LISTS = {
    "/": b"Ollama is running",
    "/api/version": {"version": "0.99.0"},
    "/api/tags": {"models": MODELS},
    "/api/ps": {"models": [dict(m, expires_at="2036-01-01T00:00:00Z", size_vram=0, context_length=4096) for m in MODELS]},
    "/v1/models": {"object": "list", "data": [{"id": m["name"], "object": "model", "owned_by": "library"} for m in MODELS]},
    "/health": {"status": "ok"},
}


class Engine(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        while os.path.exists(BUSY):
            time.sleep(0.1)
        if self.path == "/_asked":
            with LOCK:
                return self.whole(200, ASKED)
        self.note(b"")
        if self.path == "/api/ps" and os.path.exists(PS):       # what this machine has no card for
            with open(PS, "rb") as f:
                return self.whole(200, f.read() if LOADED.is_set() else {"models": []})
        self.whole(200 if self.path in LISTS else 404, LISTS.get(self.path, {"error": "no such page"}))

    def do_POST(self):
        body = self.read_body()
        entry = self.note(body)
        try:
            asked = json.loads(body)
        except ValueError:
            return self.whole(400, {"error": "not JSON"})
        if self.path == "/api/show":
            return self.whole(200, {"details": MODEL["details"], "model_info": {}, "capabilities": ["completion"]})
        if self.path == "/api/generate" and not asked.get("prompt"):        # loading and unloading
            done = "unload" if asked.get("keep_alive") == 0 else "load"
            error = done == "load" and load_as_told()
            if error:
                return self.whole(500, {"error": error})
            LOADED.set()
            return self.whole(200, {"model": asked.get("model"), "created_at": "2026-01-01T00:00:00Z", "response": "",
                                    "done": True, "done_reason": done})
        script = asked.get("script") or {}
        try:
            self.play(script, asked.get("stream", False))
            entry["ended"] = script.get("end", "clean")
        except OSError as e:
            entry["ended"] = f"client went away: {e}"
            self.close_connection = True

    def read_body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            body += self.rfile.read(size)
            self.rfile.readline()
            if size == 0:
                return body

    def note(self, body):
        entry = {"method": self.command, "path": self.path, "headers": list(self.headers.items()), "length": len(body),
                 "sha256": hashlib.sha256(body).hexdigest(), "peer_port": self.client_address[1], "ended": None}
        with LOCK:
            ASKED.append(entry)
        return entry

    def whole(self, status, value):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(value, bytes) else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def play(self, script, stream):
        time.sleep(script.get("delay_ms", 0) / 1000)
        if not script.get("nothing"):
            self.send_scripted(script, script.get("stream", stream))
        self.end_as_told(script.get("end", "clean"))
        if script.get("close"):
            self.close_connection = True

    def send_scripted(self, script, stream):
        chunks, size = script.get("chunks", 1), script.get("bytes", 20)
        whole = script.get("end", "clean") == "clean"
        self.send_response(script.get("status", 200))
        for name, value in script.get("headers", {}).items():
            self.send_header(name, value)
        if stream:
            kind = "application/x-ndjson" if self.path.startswith("/api/") else "text/event-stream"
            self.send_header("Content-Type", kind)
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(chunks * size if whole else chunks * size + 1))
        self.end_headers()
        for n in range(chunks):
            if n:
                time.sleep(script.get("gap_ms", 0) / 1000)
            piece = piece_of(n, size, stream and kind)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if stream else piece)
        if stream and whole:
            self.wfile.write(b"0\r\n\r\n")

    def end_as_told(self, end):
        if end == "clean":
            return
        self.close_connection = True
        if end == "rst":                        # past Python's own way of closing, which ends in order first
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
        while end == "silence" and self.connection.recv(65536):
            pass

    def log_message(self, form, *words):
        pass


def load_as_told():
    """Takes as long as it is told to; returns why it failed, if it did."""
    while os.path.exists(LOAD):
        try:
            with open(LOAD) as f:
                told = json.load(f)
        except ValueError:                      # being written
            told = {"wait": True}
        if not told.get("wait"):
            return told.get("error")
        with open("/dev/zero", "rb") as disk:   # one that loads reads: who does not even that has hung
            disk.read(1 << 17)
        time.sleep(0.05)


def piece_of(number, size, kind):
    """The numbered piece of an answer, exactly SIZE bytes: a test can tell which one is missing."""
    if kind == "text/event-stream":
        return b"data: " + (b"%d " % number).ljust(max(1, size - 8), b".") + b"\n\n"
    if kind:
        return (b'{"n":%d,"pad":"' % number).ljust(max(1, size - 3), b".") + b'"}\n'
    return (b"%d " % number).ljust(size, b".")[:size]


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, request, address):
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, address)


def main():
    if sys.argv[1:] in (["--version"], ["-v"]):
        print("ollama version is 0.99.0")
        return
    if sys.argv[1:] != ["serve"]:
        sys.exit("usage: http_engine.py serve, with OLLAMA_HOST=IP:PORT")
    ip, _, port = os.environ.get("OLLAMA_HOST", "127.0.0.1:11434").rpartition(":")
    Server((ip or "127.0.0.1", int(port)), Engine).serve_forever()


if __name__ == "__main__":
    main()
