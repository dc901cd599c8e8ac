"""A model that is cold for two minutes, and applications as people have them that wait for it: the openai and ollama libraries and
both generations of the ollama command line, behind an nginx with its default limits of 60 s, which compresses too. All wait
at the same time; each test looks at what one of them got. Another model is switched off while it is waited for.

HEARTBEATS_COLD_S: how long it is cold. Beyond 300 s Node waits too, whose own limit that is (tests/run heartbeats)."""
import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import unittest
import zlib

import daemon as daemons
import host as hosts
import models
import road
from road import DEEPSEEK, ID
from test_clients import PYTHON, clean_env

COLD_S = int(os.environ.get("HEARTBEATS_COLD_S", "120"))
LIMIT_S = 300
SECOND = "unwanted:7b"
OLD, NEW = 8081, 8082                           # nginx as it is shipped speaks HTTP/1.0 to us; HTTP/1.1
DOWN_S = 50                                     # long enough for documents to have begun
NODE_S = 300
NGINX = """
daemon off; master_process off; user root; pid %(dir)s/nginx.pid; error_log %(dir)s/nginx.log;
events { worker_connections 256; }
http {
    access_log off; client_body_temp_path %(dir)s/nb; proxy_temp_path %(dir)s/np; fastcgi_temp_path %(dir)s/nf;
    uwsgi_temp_path %(dir)s/nu; scgi_temp_path %(dir)s/ns;
    gzip on; gzip_proxied any; gzip_types application/json application/x-ndjson text/event-stream;
    server { listen 127.0.0.1:%(old)d; location / { proxy_pass http://127.0.0.1:11434; proxy_set_header Host localhost; } }
    server { listen 127.0.0.1:%(new)d; location / { proxy_pass http://127.0.0.1:11434; proxy_set_header Host localhost;
                                                    proxy_http_version 1.1; proxy_set_header Connection ""; } }
}
"""
ASK = '[{"role": "user", "content": "count"}]'
OPENAI = f"""
import json, sys, time
import openai
c = openai.OpenAI(max_retries=0)
ask = dict(model=sys.argv[1], messages={ASK}, temperature=0, seed=1)
try:
    if sys.argv[2] == "stream":
        said = "".join(p.choices[0].delta.content or "" for p in c.chat.completions.create(stream=True, **ask))
    else:
        said = c.chat.completions.create(**ask).choices[0].message.content
except openai.APIError as e:
    said = [type(e).__name__, getattr(e, "status_code", None), str(e)]
json.dump(said, sys.stdout)
"""
OLLAMA = f"""
import json, sys
import httpx, ollama
try:
    if sys.argv[2] == "stream":
        said = "".join(p.message.content for p in ollama.chat(sys.argv[1], {ASK}, options={{"temperature": 0}}, stream=True))
    else:
        said = ollama.chat(sys.argv[1], {ASK}, options={{"temperature": 0}}).message.content
except ollama.ResponseError as e:
    said = [type(e).__name__, e.status_code, e.error]
except httpx.HTTPError as e:
    said = [type(e).__name__, None, str(e)]
json.dump(said, sys.stdout)
"""
NODE = """
const [url, stream, bound] = process.argv.slice(1);
const headers = bound ? {"X-LLMHost-Max-Wait": bound} : {};
fetch(url + "/v1/chat/completions", {method: "POST", headers, body: JSON.stringify({model: "%s", messages: %s,
      temperature: 0, stream: stream == "stream"})}).then(async r => console.log(JSON.stringify([r.status, await r.text()])))
    .catch(e => console.log(JSON.stringify([0, String(e.cause && e.cause.code || e)])));
""" % (ID, ASK)


class Waiter:
    """A program that waits for the model behind one port."""

    def __init__(self, d, port, *words):
        env = dict(clean_env(d), OLLAMA_HOST=f"127.0.0.1:{port}", OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1")
        self.process = subprocess.Popen([str(w) for w in words], env=env, text=True, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def said(self):
        out, err = self.process.communicate(timeout=COLD_S + 90)
        return self.process.returncode, out, err

    def json(self):
        status, out, err = self.said()
        if status != 0:
            raise AssertionError(err[-3000:])
        return json.loads(out)


class Raw(threading.Thread):
    """Reads an answer as its bytes come; when each came is kept."""

    def __init__(self, port, path, body, **headers):
        super().__init__(daemon=True)
        self.port, self.path, self.body, self.headers = port, path, body, headers
        self.status, self.fields, self.pieces, self.error = None, {}, [], None
        self.start()

    def run(self):
        self.began = time.monotonic()
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=COLD_S + 90)
        try:
            c.request("POST", self.path, json.dumps(self.body).encode(), self.headers)
            answer = c.getresponse()
            self.status, self.fields = answer.status, answer.headers
            self.pieces.append((self.passed(), b""))
            while piece := answer.read1(65536):
                self.pieces.append((self.passed(), piece))
        except (OSError, http.client.HTTPException) as e:
            self.error = e
        finally:
            c.close()

    def passed(self):
        return time.monotonic() - self.began

    def wait(self):
        self.join(COLD_S + 90)
        if self.is_alive():
            raise AssertionError(f"still waiting after {self.passed():.0f} s: {self.pieces}")
        return self

    def whole(self):
        data = b"".join(p for _, p in self.wait().pieces)
        return zlib.decompress(data, 31) if self.fields.get("Content-Encoding") == "gzip" else data

    def longest_gap_s(self):
        times = [t for t, _ in self.wait().pieces]
        return max(b - a for a, b in zip(times, times[1:]))


class ColdModel(road.Road):
    gguf = {"pad_bytes": 4 << 20}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if not shutil.which("nginx"):
            raise unittest.SkipTest("no nginx (package nginx)")
        models.store_in_ollama(cls.dir + "/store", SECOND, cls.dir + "/tiny.gguf")
        entered = road.Road.road(cls("test_openai_streams"))
        cls.d, cls.h = entered.__enter__()
        cls.addClassCleanup(entered.__exit__, None, None, None)
        cls.start_nginx()
        cls.registry.fault(rate=os.path.getsize(cls.dir + "/tiny.gguf") // COLD_S)
        cls.cold_since = time.monotonic()
        for model in (DEEPSEEK, "ollama:" + SECOND):
            cls.d.ctl("up", model, "--no-wait")
        cls.all_wait()
        cls.down = threading.Thread(target=cls.switch_off_second)
        cls.down.start()
        cls.addClassCleanup(cls.down.join)

    @classmethod
    def start_nginx(cls):
        conf = cls.dir + "/nginx.conf"
        with open(conf, "w") as f:
            f.write(NGINX % {"dir": cls.dir, "old": OLD, "new": NEW})
        nginx = subprocess.Popen(["nginx", "-c", conf], stderr=subprocess.DEVNULL)
        cls.addClassCleanup(nginx.wait)
        cls.addClassCleanup(nginx.terminate)
        for port in (OLD, NEW):
            hosts.until(lambda port=port: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 10, "an nginx")

    @classmethod
    def switch_off_second(cls):
        late = [key for key in cls.w if "late" in key]
        hosts.until(lambda: cls.d.model("ollama:" + SECOND)["held"] == len(late), 60, "all are held")
        time.sleep(DOWN_S)
        cls.d.ctl("down", "ollama:" + SECOND)

    @classmethod
    def all_wait(cls):
        """All that is asked of the cold models, at once."""
        d, w = cls.d, {}
        for way, port in (("old", OLD), ("new", NEW)):
            for stream in ("stream", "whole"):
                w["openai", way, stream] = Waiter(d, port, PYTHON, "-c", OPENAI, ID, stream)
                w["ollama", way, stream] = Waiter(d, port, PYTHON, "-c", OLLAMA, ID, stream)
                w["raw", way, stream] = Raw(port, "/v1/chat/completions", {"model": ID, "messages": road.QUESTION, "temperature": 0,
                                                                           "stream": stream == "stream"}, **{"Accept-Encoding": "gzip"})
            w["lines", way] = Raw(port, "/api/chat", {"model": ID, "messages": road.QUESTION}, **{"Accept-Encoding": "gzip"})
        for stream in ("stream", "whole"):
            w["openai", "late", stream] = Waiter(d, NEW, PYTHON, "-c", OPENAI, SECOND, stream)
            w["ollama", "late", stream] = Waiter(d, NEW, PYTHON, "-c", OLLAMA, SECOND, stream)
        for client in ("ollama-0.11.4", "ollama-0.32.15"):
            w["run", client] = Waiter(d, OLD, hosts.engine_path(client), "run", "--nowordwrap", ID, "count")
            w["run", client, "late"] = Waiter(d, NEW, hosts.engine_path(client), "run", "--nowordwrap", SECOND, "count")
        w["pull"] = Waiter(d, OLD, hosts.engine_path("ollama-0.32.15"), "pull", ID)
        w["bounded"] = Raw(NEW, "/v1/chat/completions", {"model": ID, "messages": road.QUESTION}, **{"X-LLMHost-Max-Wait": "600"})
        if COLD_S > NODE_S:
            for stream in ("stream", "whole"):
                w["node", stream] = Waiter(d, d.port, "node", "-e", NODE, f"http://127.0.0.1:{d.port}", stream)
            w["node", "bounded"] = Waiter(d, d.port, "node", "-e", NODE, f"http://127.0.0.1:{d.port}", "whole", "600")
        cls.w = w

    def setUp(self):
        """The registry stays as slow as it is."""

    def ways(self, *name):
        return [(key, w) for key, w in self.w.items() if key[0] == name[0] and key[-1] == name[-1] and key[1] in ("old", "new")]

    def test_openai_streams(self):
        for key, waiter in self.ways("openai", "stream"):
            with self.subTest(key):
                self.assertEqual(waiter.json(), models.answer())

    def test_openai_documents(self):
        for key, waiter in self.ways("openai", "whole"):
            with self.subTest(key):
                self.assertEqual(waiter.json(), models.answer())

    def test_ollama_library_streams(self):
        for key, waiter in self.ways("ollama", "stream"):
            with self.subTest(key):
                self.assertEqual(waiter.json(), models.answer())

    def test_ollama_library_documents(self):
        for key, waiter in self.ways("ollama", "whole"):
            with self.subTest(key):
                self.assertEqual(waiter.json(), models.answer())

    def test_ollama_program(self):
        for client in ("ollama-0.11.4", "ollama-0.32.15"):
            with self.subTest(client):
                status, out, err = self.w["run", client].said()
                self.assertEqual((status, out.strip()), (0, models.answer().strip()), err)

    def test_ollama_program_pulls(self):
        status, out, err = self.w["pull"].said()
        self.assertEqual(status, 0, err)
        self.assertIn("success", out + err)

    def test_beats_pass_one_by_one(self):
        for key, raw in self.ways("raw", "stream") + [(("lines", way), self.w["lines", way]) for way in ("old", "new")]:
            with self.subTest(key):
                whole = raw.whole()
                self.assertIsNone(raw.error)
                self.assertLess(raw.pieces[0][0], 10, "the status")
                self.assertLess(raw.longest_gap_s(), 15)
                self.assertGreater(raw.pieces[-1][0], COLD_S - 20, "it was cold")
                self.assertEqual(raw.fields["Content-Encoding"], "gzip")
                if key[0] == "raw":
                    self.assertGreater(whole.count(b": llmhost\n\n"), COLD_S // 10 - 3)
                    self.assertTrue(whole.rstrip().endswith(b"data: [DONE]"), whole[-200:])
                else:
                    self.assertGreater(len(whole) - len(whole.lstrip(b" ")), COLD_S // 10 - 3)
                    self.assertTrue(json.loads(whole.splitlines()[-1])["done"])

    def test_beats_of_documents_pass(self):
        for key, raw in self.ways("raw", "whole"):
            with self.subTest(key):
                whole = raw.whole()
                self.assertIsNone(raw.error)
                self.assertEqual(json.loads(whole)["choices"][0]["message"]["content"], models.answer())
                self.assertGreater(raw.pieces[0][0], 40)
                self.assertLess(raw.longest_gap_s(), 15)

    def test_nginx_gives_up_where_there_are_none(self):
        """So it is the beats that carry the others over."""
        raw = self.w["bounded"].wait()
        self.assertEqual(raw.status, 504)
        self.assertLess(raw.pieces[0][0], 65)

    def test_late_failures_are_heard(self):
        """Each library says it in its own way; none takes it for an answer."""
        for client, error in (("openai", "APIError"), ("ollama", "ResponseError")):
            with self.subTest(client):
                said = self.w[client, "late", "stream"].json()
                self.assertEqual(said[0], error, said)
                self.assertIn("llmhostctl up", said[2])
        for client, error in (("openai", "APIConnectionError"), ("ollama", "RemoteProtocolError")):
            with self.subTest(client):
                self.assertEqual(self.w[client, "late", "whole"].json()[0], error)
        for client in ("ollama-0.11.4", "ollama-0.32.15"):
            with self.subTest(client):
                status, out, err = self.w["run", client, "late"].said()
                self.assertEqual(status, 1, out + err)
                self.assertIn("llmhostctl up", err)

    def node(self):
        status, text = self.w["node", "stream"].json()
        self.assertEqual(status, 200, text)
        self.assertTrue(text.rstrip().endswith("data: [DONE]"), text[-300:])
        status, text = self.w["node", "whole"].json()
        self.assertEqual(json.loads(text)["choices"][0]["message"]["content"], models.answer())
        self.assertEqual(self.w["node", "bounded"].json(), [0, "UND_ERR_HEADERS_TIMEOUT"], "its limit is what was thought")

    if COLD_S > NODE_S:
        test_node = node
