"""README's section on what stands in front of us: its snippets are read from it. nginx runs as it is written there, and in variants
people will have; LiteLLM's is in test_litellm.py. Open WebUI and Higress are too large to be run here: their settings are held against what
their public sources read, and what they then send is sent.

    Open WebUI   0.12.4, open_webui/config.py: OPENAI_API_BASE_URL, OPENAI_API_KEY, OLLAMA_BASE_URL. Its requests: test_openwebui.py
    Higress      2.2.1, plugins/wasm-go/extensions/ai-proxy/provider/openai.go: the host of openaiCustomUrl becomes Host, its path stands
                 in front of /chat/completions in the place of /v1 unless it ends like one itself, one of apiTokens is the Bearer,
                 Content-Length is taken out, so that the body comes in chunks; provider.go: type, openaiCustomUrl, apiTokens
"""
import contextlib
import http.client
import json
import re
import shutil
import socket
import subprocess
import time
import unittest

import daemon as daemons
import host as hosts
import models
import planted
import road
from road import DEEPSEEK, ID, QUESTION
from test_clients import clean_env

LIMIT_S = 240
SECTION = "## Behind Open WebUI, LiteLLM, nginx, Higress"
# Around the site: what a distribution's nginx.conf has, in a directory of ours.
NGINX = """
daemon off; master_process off; user root; pid %(dir)s/nginx.pid; error_log %(dir)s/nginx.log;
events { worker_connections 256; }
http {
    access_log off; client_body_temp_path %(dir)s/nb; proxy_temp_path %(dir)s/np; fastcgi_temp_path %(dir)s/nf;
    uwsgi_temp_path %(dir)s/nu; scgi_temp_path %(dir)s/ns;
    gzip on; gzip_proxied any; gzip_types application/json application/x-ndjson text/event-stream;
    %(site)s
}
"""


def snippets():
    """Of the section, by language, in order."""
    with open(hosts.REPO + "/README.md") as f:
        section = f.read().split(SECTION)[1].split("\n## ")[0]
    return [(kind, text) for kind, text in re.findall(r"```(\w+)\n(.*?)```", section, re.S)]


def snippet(kind, says):
    found = [text for its, text in snippets() if its == kind and says in text]
    if len(found) != 1:
        raise AssertionError(f"{len(found)} snippets of {kind} with {says}")
    return found[0]


class Behind(road.Road):
    gguf = {"pad_bytes": 24 << 20}              # slow enough that tokens come one by one

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if not shutil.which("nginx"):
            raise unittest.SkipTest("no nginx (package nginx)")
        entered = road.Road.road(cls("test_nginx_as_it_is_written"))
        cls.d, cls.h = entered.__enter__()
        cls.addClassCleanup(entered.__exit__, None, None, None)
        cls.d.ctl("up", DEEPSEEK)

    def cold(self):
        self.d.ctl("sleep", DEEPSEEK)
        self.wait_state(self.d, "asleep")

    @contextlib.contextmanager
    def nginx(self, site):
        conf = self.dir + "/nginx.conf"
        with open(conf, "w") as f:
            f.write(NGINX % {"dir": self.dir, "site": site})
        subprocess.run(["nginx", "-t", "-q", "-c", conf], check=True)
        running = subprocess.Popen(["nginx", "-c", conf], stderr=subprocess.DEVNULL)
        try:
            hosts.until(lambda: socket.socket().connect_ex(("127.0.0.1", 8080)) == 0, 10, "nginx")
            yield
        finally:
            running.terminate()
            running.wait()

    def ask(self, path, body, **headers):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", 8080, timeout=60)) as c:
            c.request("POST" if body else "GET", path, json.dumps(body) if body else None, dict({"Host": "llm.example.org"}, **headers))
            answer = c.getresponse()
            pieces = []
            while True:
                data = answer.read1(65536)
                if not data:
                    return daemons.Response(answer, b"".join(pieces)), pieces
                pieces.append(data)

    def streams_and_documents(self, prefix=""):
        """Cold and warm."""
        for path, stream in (("/v1/chat/completions", True), ("/v1/chat/completions", False), ("/api/chat", True), ("/api/chat", False)):
            for warmth in ("cold", "warm"):
                with self.subTest(path, stream=stream, warmth=warmth):
                    if warmth == "cold":
                        self.cold()
                    question = {"model": ID, "messages": QUESTION, "temperature": 0, "stream": stream}
                    answer, pieces = self.ask(prefix + path, question)
                    self.assertEqual(answer.status, 200, answer.text)
                    said = re.findall(r'"content":"( \d+)"', answer.text) if stream else [road.text_of(answer)]
                    self.assertEqual("".join(said), models.answer())
                    if stream:
                        # Its tokens come within milliseconds, and on a busy machine some travel together. What is collected on
                        # the way never comes in pieces, however often it is asked.
                        tries = 0
                        while len(pieces) <= 3 and tries < 5:
                            pieces, tries = self.ask(prefix + path, question)[1], tries + 1
                        self.assertGreater(len(pieces), 3, "it was collected on the way")

    def kept(self):
        """Connections of nginx to us that stay open while nobody asks."""
        said = subprocess.run(["ss", "-Htnp", "state", "established", "dport", "=", str(self.d.port)], stdout=subprocess.PIPE, text=True,
                              check=True).stdout
        return said.count('"nginx"')

    def test_nginx_as_it_is_written(self):
        with self.nginx(snippet("nginx", "upstream")):
            self.streams_and_documents()
            self.assertGreaterEqual(self.kept(), 1)
            self.assertEqual(self.ask("/llm/v1/models", None)[0].json(), self.d.get("/v1/models").json())
            self.cold()
            said = subprocess.run([hosts.engine_path("ollama-0.32.15"), "run", "--nowordwrap", ID, "count"], stdin=subprocess.DEVNULL,
                                  env=clean_env(self.d, OLLAMA_HOST="http://127.0.0.1:8080/llm"), text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, timeout=60)
            self.assertEqual(said.stdout.strip(), models.answer().strip(), said.stderr)
            picture = [{"role": "user", "content": "x" * (3 << 20)}]
            self.assertEqual(self.ask("/v1/chat/completions", {"model": "unheard-of", "messages": picture})[0].status, 404)

    def test_nginx_below_a_folder_and_through_http_1_0(self):
        site = snippet("nginx", "upstream")
        for line in ("proxy_http_version", "proxy_set_header Connection"):
            site = re.sub(rf"(?m)^\s*{line}.*\n", "", site)
        with self.nginx(site):
            self.streams_and_documents("/llm")
            self.assertEqual(self.kept(), 0, "as HTTP/1.0 has it")

    def test_nginx_without_the_line_is_told_what_to_write(self):
        site = re.sub(r"(?m)^\s*proxy_set_header Host.*\n", "", snippet("nginx", "upstream"))
        self.cold()
        with self.nginx(site):
            for path in ("/v1/chat/completions", "/api/chat", "/llm/v1/chat/completions"):
                answer, _ = self.ask(path, {"model": ID, "messages": QUESTION})
                self.assertEqual(answer.status, 403)
                self.assertIn("'llmhost'", answer.text)
                self.assertIn("proxy_set_header Host localhost;", answer.text)
        with self.nginx(site.replace("listen 8080;", "listen 8080;\n    proxy_set_header Host $host;")):
            answer, _ = self.ask("/api/chat", {"model": ID, "messages": QUESTION})
            self.assertEqual(answer.status, 403)
            self.assertIn("'llm.example.org'", answer.json()["error"])
        time.sleep(0.5)
        self.assertEqual(self.state(self.d), "asleep")

    def test_page_behind_nginx_needs_its_origin_listed(self):
        with self.nginx(snippet("nginx", "upstream")):
            answer, _ = self.ask("/v1/chat/completions", {"model": ID, "messages": QUESTION}, Origin="https://llm.example.org")
            self.assertEqual(answer.status, 403)
            self.assertIn("https://llm.example.org may not ask here; [gateway] allow_origin=", answer.text)

    def test_open_webui_reads_these_settings(self):
        with open(hosts.REPO + "/README.md") as f:
            section = f.read().split(SECTION)[1]
        settings = dict(line.split("=", 1) for line in snippet("ini", "OPENAI").splitlines())
        self.assertEqual(set(settings), {"OPENAI_API_BASE_URL", "OPENAI_API_KEY"})
        self.assertIn(f"OLLAMA_BASE_URL=http://127.0.0.1:{self.d.port}`", section)
        url = settings["OPENAI_API_BASE_URL"] + "/models"
        self.assertEqual(json.loads(subprocess.run(["curl", "-sS", "-f", url], stdout=subprocess.PIPE, check=True).stdout),
                         self.d.get("/v1/models").json())


class Higress(road.Road):
    def test_what_it_sends_is_answered(self):
        """To this host's address from another one, with a key."""
        provider = dict(re.findall(r"(?m)^  (\w+): (.*)$", snippet("yaml", "provider:")))
        self.assertEqual((provider["type"], set(provider)), ("openai", {"type", "openaiCustomUrl", "apiTokens"}))
        host, _, folder = provider["openaiCustomUrl"].removeprefix("http://").partition("/")
        self.assertRegex(host, r"^\d+\.\d+\.\d+\.\d+:11434$")
        with self.road() as (d, h):
            d.ctl("up", DEEPSEEK)
            made = subprocess.run(d.ctl_words("listen", f"0.0.0.0:{d.port}", "--new-key"), stdin=subprocess.DEVNULL, capture_output=True,
                                  text=True, check=True)
            key = planted.register("API key for Higress", made.stdout.strip())
            for token, status in ((key, 200), ("another", 401)):
                for stream in (True, False):
                    d.ctl("sleep", DEEPSEEK)
                    self.wait_state(d, "asleep")
                    body = json.dumps({"model": ID, "messages": QUESTION, "stream": stream, "temperature": 0}).encode()
                    ask = (f"POST /{folder}/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
                           f"authorization: Bearer {token}\r\nx-forwarded-for: 203.0.113.9\r\nx-forwarded-proto: http\r\n"
                           f"x-envoy-expected-rq-timeout-ms: 600000\r\nx-request-id: 6f1c\r\ntransfer-encoding: chunked\r\n\r\n").encode()
                    ask += b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
                    with contextlib.closing(socket.create_connection(("127.0.0.1", d.port), timeout=60)) as s:
                        s.sendall(ask)
                        answer = http.client.HTTPResponse(s)
                        answer.begin()
                        said = answer.read().decode()
                    self.assertEqual(answer.status, status, said)
                    if status == 200:
                        self.assertEqual("".join(re.findall(r'"content":"((?: \d+)+)"', said)), models.answer())
                    else:
                        self.assertEqual(self.state(d), "asleep")
