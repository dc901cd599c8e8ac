"""What tests of the whole road share: a tiny model, a registry that has it, hosts that pull from there, a daemon, and the
engine as it is seen from beside it, past the daemon.

    class Something(road.Road):                 # a registry for the class
        def test_it(self):
            with self.road() as (d, gpu):       # a daemon, and a host it knows
                d.ctl("up", road.DEEPSEEK)
"""
import base64
import contextlib
import json
import os
import re
import shutil
import tempfile
import time
import unittest

import daemon as daemons
import host as hosts
import models
import registry
from host import Host

ID = "deepseek-r1:7b"
DEEPSEEK = "ollama:" + ID
GGUF = "/root/tiny.gguf"
QUESTION = [{"role": "user", "content": "count"}]
SEEDED = {"temperature": 0, "seed": 42}
# What differs between two answers to the same question: times, names of the answer, and what of the prompt was still known.
PASSING = re.compile(
    rb'"(id|created|created_at|total_duration|load_duration|prompt_eval_duration|eval_duration|cached_tokens|cache_n|prompt_n'
    rb'|prompt_ms|prompt_per_token_ms|prompt_per_second|predicted_ms|predicted_per_token_ms|predicted_per_second)":'
    rb'("[^"]*"|[-+0-9.eE]+)')
BESIDE = """
import base64, http.client, json, sys
order = json.load(sys.stdin)
c = http.client.HTTPConnection("127.0.0.1", order["port"], timeout=30)
c.request(order["method"], order["path"], base64.b64decode(order["body"]), {"Content-Type": "application/json"})
answer = c.getresponse()
body = answer.read()
json.dump({"status": answer.status, "type": answer.getheader("Content-Type"), "body": base64.b64encode(body).decode()},
          sys.stdout)
"""


def without_passing(body):
    return PASSING.sub(rb'"\1":_', body)


def engine_port(host, model=DEEPSEEK):
    """The port of 127.0.0.1 the engine has on its host, by its own command line or environment."""
    if model.startswith("llama.cpp:"):
        words = host.pids(r"llama-server .*--port")[0].words
        return int(words[words.index("--port") + 1])
    with open(f"/proc/{host.pids('ollama serve')[0].outer_pid}/environ") as f:
        return int(re.search(r"OLLAMA_HOST=[^\0]*:(\d+)", f.read())[1])


def beside(host, path, body=None, model=DEEPSEEK, method="POST"):
    """Asks the engine on its own host, without the daemon: status, type, body."""
    order = {"port": engine_port(host, model), "method": method, "path": path,
             "body": base64.b64encode(json.dumps(body).encode() if body is not None else b"").decode()}
    said = json.loads(host.run("/usr/bin/python3", "-c", BESIDE, input=json.dumps(order)).stdout)
    return said["status"], said["type"], base64.b64decode(said["body"])


def text_of(response):
    """What the model said, in an unstreamed answer of either dialect."""
    said = response.json()
    return said["choices"][0]["message"]["content"] if "choices" in said else said["message"]["content"]


def words_in(folder, word):
    """Files below FOLDER in which WORD stands."""
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError), open(os.path.join(place, name), "rb") as f:
                if word in f.read():
                    found.append(os.path.relpath(os.path.join(place, name), folder))
    return sorted(found)


def ended(process, limit_s):
    """Exit status and both outputs of a program that was started with pipes."""
    out, err = process.communicate(timeout=limit_s)
    return process.returncode, out, err


class Road(unittest.TestCase):
    gguf = {}                                   # for models.write_gguf

    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(dir="/run/lab")
        cls.addClassCleanup(shutil.rmtree, cls.dir, True)
        models.write_gguf(cls.dir + "/tiny.gguf", **cls.gguf)
        models.store_in_ollama(cls.dir + "/store", ID, cls.dir + "/tiny.gguf")
        cls.registry = registry.Registry(cls.dir + "/store", port=443)
        cls.addClassCleanup(cls.registry.close)

    def setUp(self):
        self.registry.fault()
        self.registry.asked.clear()

    @contextlib.contextmanager
    def host(self, name="gpu1", engines=("ollama",), opt=(), **settings):
        h = Host(name, engines=list(engines), **settings).up(wipe=True, opt=opt)
        try:
            self.registry.serve_host(h)
            yield h
        finally:
            if h.pid:
                h.down()
            hosts.command("umount", "-l", h.dir + "/disk", check=False)     # a host of that name begins anew
            shutil.rmtree(h.dir, ignore_errors=True)

    @contextlib.contextmanager
    def road(self, name="gpu1", engines=("ollama",), opt=(), sections=None, **settings):
        """A daemon that knows one host."""
        with self.host(name, engines, opt, **settings) as h, daemons.Daemon(**(sections or {})) as d:
            d.ctl("instance", "add", name, h.ssh_command, password=h.password)
            yield d, h

    def give_model(self, host):
        """The model as a file, for llama.cpp."""
        with open(self.dir + "/tiny.gguf", "rb") as f:
            host.put(GGUF, f.read())

    def pulls(self):
        """Blobs of the model that were asked for, without those a client only looked at."""
        largest = os.path.getsize(self.dir + "/tiny.gguf")
        digest = models.sha256_of(self.dir + "/tiny.gguf")
        self.assertGreater(largest, 0)
        return [a for a in self.registry.asked if a[0] == "GET" and digest in a[1] and a[3] in (200, 206)]

    def up_engine(self, d, model=DEEPSEEK, **more):
        """Brings it up; what was said of its engine in the end."""
        told = [r["progress"]["text"] for r in d.stream("Up", model=model, **more) if r.get("progress", {}).get("stage") == "engine"]
        return told[-1] if told else None

    def chat(self, d, model=ID, **more):
        return d.post("/v1/chat/completions", dict({"model": model, "messages": QUESTION}, **SEEDED), **more)

    def state(self, d, name=DEEPSEEK):
        model = d.model(name)
        return model["state"] if model else None

    def wait_state(self, d, state, name=DEEPSEEK, limit_s=20):
        started = time.monotonic()
        hosts.until(lambda: self.state(d, name) == state, limit_s, f"{name} {state}, it is {self.state(d, name)}", 0.01)
        return time.monotonic() - started
