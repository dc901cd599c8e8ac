"""Every path both dialects have, with real engines behind them: answered with what the engine itself says, for a model that is
ready and for one that sleeps; what only looks wakes nobody; a name that is not known is refused in the caller's dialect."""
import json
import os
import time

import models
import road
from road import DEEPSEEK, ID, QUESTION, SEEDED
from test_clients import EMBED, EMBED_GGUF, EMBED_ID, EMBEDDING, LLAMA, LLAMA_EMBED, Everything

LIMIT_S = 300
TEXT = models.answer()


def lines(answer):
    return [json.loads(line) for line in answer.text.splitlines() if line.strip()]


def events(answer):
    """What an event stream carries, without its comments and without its end, which must be there."""
    data = [line[5:].strip() for line in answer.text.splitlines() if line.startswith("data:")]
    if data[-1] != "[DONE]":
        raise AssertionError(answer.text[-500:])
    return [json.loads(d) for d in data[:-1]]


def near(vector):
    return [round(x, 3) for x in vector]


class Rows:
    """Path, body, and what the answer says, reduced to what a test knows."""

    def openai_rows(self, name, embed):
        chat = dict(SEEDED, model=name, messages=QUESTION)
        plain = dict(SEEDED, model=name, prompt="count")
        return (
            ("/v1/chat/completions", chat, lambda a: a.json()["choices"][0]["message"]["content"], TEXT),
            ("/v1/chat/completions", dict(chat, stream=True),
             lambda a: "".join(e["choices"][0]["delta"].get("content") or "" for e in events(a) if e["choices"]), TEXT),
            ("/v1/completions", plain, lambda a: a.json()["choices"][0]["text"], TEXT),
            ("/v1/completions", dict(plain, stream=True), lambda a: "".join(e["choices"][0]["text"] for e in events(a)), TEXT),
            ("/v1/embeddings", {"model": embed, "input": "a"}, lambda a: near(a.json()["data"][0]["embedding"]), EMBEDDING),
            ("/v1/embeddings", {"model": embed, "input": ["a", "b"]}, lambda a: [e["index"] for e in a.json()["data"]], [0, 1]))

    def ollama_rows(self, name, embed):
        chat = {"model": name, "messages": QUESTION, "options": SEEDED}
        plain = {"model": name, "prompt": "count", "options": SEEDED}
        return (
            ("/api/chat", chat, lambda a: "".join(l["message"]["content"] for l in lines(a)), TEXT),
            ("/api/chat", dict(chat, stream=False), lambda a: a.json()["message"]["content"], TEXT),
            ("/api/generate", plain, lambda a: "".join(l["response"] for l in lines(a)), TEXT),
            ("/api/generate", dict(plain, stream=False), lambda a: a.json()["response"], TEXT),
            ("/api/generate", {"model": name}, lambda a: a.json()["done_reason"], "load"),
            ("/api/embed", {"model": embed, "input": ["a", "b"]}, lambda a: [near(v) for v in a.json()["embeddings"]], [EMBEDDING] * 2),
            ("/api/embeddings", {"model": embed, "prompt": "a"}, lambda a: len(a.json()["embedding"]), 32))

    def of_name(self, body):
        """The same request as older clients send it: the name in name, and model empty."""
        return dict(body, model="", name=body["model"])


class Dialects(Rows, Everything):
    engine = "ollama-0.11.4"

    def check(self, rows, names):
        for path, body, reduced, wanted in rows:
            for _ in self.twice(*names):
                answer = self.d.post(path, body)
                self.assertEqual(answer.status, 200, f"{path} {body}: {answer.text}")
                self.assertEqual(reduced(answer), wanted, f"{path} {body}: {answer.text[:500]}")

    def test_openai_with_an_ollama(self):
        self.check(self.openai_rows(ID, EMBED_ID), (DEEPSEEK, EMBED))

    def test_openai_with_a_llama_server(self):
        self.check(self.openai_rows(road.GGUF, EMBED_GGUF), (LLAMA, LLAMA_EMBED))

    def test_ollama(self):
        self.check(self.ollama_rows(ID, EMBED_ID), (DEEPSEEK, EMBED))

    def test_name_is_in_either_place_and_long_or_short(self):
        path, body, reduced, wanted = self.ollama_rows(ID, EMBED_ID)[1]
        for asked in (self.of_name(body), dict(body, model="ollama:" + ID), dict(body, name=""), dict(body, name=None),
                      {k: v for k, v in self.of_name(body).items() if k != "model"}):
            answer = self.d.post(path, asked)
            self.assertEqual(answer.status, 200, f"{asked}: {answer.text}")
            self.assertEqual(reduced(answer), wanted)
        self.assertEqual(self.d.post("/api/show", {"name": ID, "model": ""}).status, 200)
        self.assertEqual(self.d.post("/api/show", {"name": ID, "model": "other"}).status, 400)
        self.assertEqual(self.d.post("/api/embed", {"model": "nomic-embed-text", "input": "a"}).status, 200, "latest is the tag of none")

    def test_other_paths_of_an_engine_pass(self):
        """What we know nothing of goes where its model is, with its query."""
        for path, body, name, known in (
                ("/v1/responses", {"input": "count"}, road.GGUF, "output"),
                ("/v1/messages?beta=true", {"max_tokens": 3, "messages": QUESTION}, road.GGUF, "content"),
                ("/v1/no-such-thing", {}, road.GGUF, "error"), ("/api/no-such-thing", {}, ID, None)):
            with self.subTest(path):
                body = dict(body, model=name)
                answer = self.d.post(path, body)
                status, kind, said = road.beside(self.h, path, body, LLAMA if name == road.GGUF else DEEPSEEK)
                self.assertEqual((answer.status, answer.headers["Content-Type"]), (status, kind))
                if known:
                    self.assertIn(known, answer.json())
                else:
                    self.assertEqual(answer.body, said)

    def test_lists_are_whole_and_wake_nobody(self):
        self.sleeping()
        tags, ps, shown = self.d.get("/api/tags").json()["models"], self.d.get("/api/ps").json(), self.d.get("/v1/models").json()
        self.assertEqual(ps, {"models": []})
        self.assertEqual(sorted(m["model"] for m in tags), sorted([ID, EMBED_ID]))
        for m in tags:
            self.assertLessEqual({"name", "model", "modified_at", "size", "digest", "details"}, set(m))
            self.assertGreaterEqual(len(m["digest"]), 12)
            self.assertIsInstance(m["details"]["families"], list)
            self.assertGreater(m["size"], 10000)
        self.assertEqual(shown["object"], "list")
        for m in shown["data"]:
            for spelled in (m["id"], m["id"].replace("/", "%2F")):
                self.assertEqual(self.d.get("/v1/models/" + spelled).json(), m)
            self.assertLessEqual({"id", "object", "created", "owned_by"}, set(m))
        self.assertEqual(sorted(m["id"] for m in shown["data"]), sorted([ID, EMBED_ID, road.GGUF, EMBED_GGUF]))
        for name, capability in ((ID, "completion"), (EMBED_ID, "embedding")):
            show = self.d.post("/api/show", {"model": name}).json()
            self.assertIn(capability, show["capabilities"])
            self.assertEqual(show["model_info"]["general.architecture"], "llama")
        self.assertEqual(self.d.get("/api/version").json(), {"version": "0.11.4"})
        self.assertEqual(self.d.request("HEAD", "/").status, 200)
        for name in (DEEPSEEK, LLAMA, EMBED, LLAMA_EMBED):
            self.assertEqual(self.state(self.d, name), "asleep")

    def test_unknown_names_are_refused_in_the_callers_dialect(self):
        for path, body in (("/v1/chat/completions", {"messages": QUESTION}), ("/v1/completions", {"prompt": "a"}),
                           ("/v1/embeddings", {"input": "a"}), ("/v1/responses", {"input": "a"})):
            answer = self.d.post(path, dict(body, model="deepseek-r1:8b"))
            self.assertEqual(answer.status, 404, path)
            error = answer.json()["error"]
            self.assertEqual((error["code"], error["param"]), ("model_not_found", None))
            self.assertIn("did you mean " + ID, error["message"])
            self.assertIn("llmhostctl up ollama:deepseek-r1:8b", error["message"])
        self.assertEqual(self.d.get("/v1/models/deepseek-r1:8b").json()["error"]["code"], "model_not_found")
        for path, body in (("/api/chat", {"messages": QUESTION}), ("/api/generate", {"prompt": "a"}), ("/api/embed", {"input": "a"}),
                           ("/api/embeddings", {"prompt": "a"}), ("/api/show", {})):
            answer = self.d.post(path, dict(body, model="deepseek-r1:8b"))
            self.assertEqual(answer.status, 404, path)
            self.assertIn("did you mean " + ID, answer.json()["error"])

    def test_llama_server_is_not_asked_in_ollamas_dialect(self):
        answer = self.d.post("/api/chat", {"model": road.GGUF, "messages": QUESTION})
        self.assertEqual(answer.status, 400)
        self.assertIn("/v1/chat/completions", answer.json()["error"])


class Pulls(road.Road):
    """/api/pull of a model that is known is an up; of another it is one line."""
    gguf = {"pad_bytes": 4 << 20}

    def pulled(self, d, **more):
        answer = d.post("/api/pull", dict({"model": ID}, **more), timeout_s=60)
        self.assertEqual(answer.status, 200, answer.text)
        return lines(answer)

    def test_pull_is_up(self):
        with self.road() as (d, _):
            self.registry.fault(rate=os.path.getsize(self.dir + "/tiny.gguf") // 3)
            d.ctl("up", DEEPSEEK, "--no-wait")
            first = self.pulled(d)
            self.assertEqual(first[-1], {"status": "success"})
            self.assertEqual(self.state(d), "ready")
            bytes_of = [line for line in first if "digest" in line]
            self.assertGreater(len(bytes_of), 1, first)
            for line in bytes_of:
                self.assertEqual(set(line), {"status", "digest", "total", "completed"})
                self.assertRegex(line["digest"], "^sha256:[0-9a-f]{64}$")
                self.assertLessEqual(line["completed"], line["total"])
            self.assertEqual(sorted(line["completed"] for line in bytes_of), [line["completed"] for line in bytes_of])
            d.ctl("sleep", DEEPSEEK)
            self.wait_state(d, "asleep")
            self.assertEqual(self.pulled(d)[-1], {"status": "success"})
            self.assertEqual(self.state(d), "ready")
            d.ctl("down", DEEPSEEK)
            self.assertEqual(self.chat(d).status, 503)
            self.assertEqual(self.pulled(d)[-1], {"status": "success"})
            self.assertEqual((self.state(d), d.model(DEEPSEEK)["goal"]), ("ready", "on_demand"))
            self.assertEqual(road.text_of(self.chat(d)), TEXT)
            self.assertIn("up by a pull", d.ctl("logs").stdout)
            d.restart()
            self.wait_state(d, "ready")
            self.assertEqual(self.pulled(d, stream=False), [{"status": "success"}])

    def test_pull_of_a_name_nobody_has_rents_nothing(self):
        with self.road() as (d, _):
            d.ctl("up", DEEPSEEK)
            for body in ({"model": "deepseek-r1:8b"}, {"model": "", "name": "deepseek-r1:8b", "username": "", "password": ""}):
                answer = d.post("/api/pull", body)
                self.assertEqual((answer.status, answer.headers["Content-Type"]), (200, "application/x-ndjson"))
                said = lines(answer)
                self.assertEqual([list(line) for line in said], [["error"]])
                self.assertIn("did you mean " + ID, said[0]["error"])
                self.assertIn("llmhostctl up ollama:deepseek-r1:8b", said[0]["error"])
            self.assertEqual([m["name"] for m in d.call("Status")["models"]], [DEEPSEEK])


class WhoMayAsk(road.Road):
    """Whoever is refused wakes nobody, and is told what to write."""

    def test_host_and_origin_are_looked_at_before_anything_wakes(self):
        with self.road(sections={"gateway": {"allow_host": "llm.example.org", "allow_origin": "https://chat.example.org"}}) as (d, _):
            d.ctl("up", DEEPSEEK)
            d.ctl("sleep", DEEPSEEK)
            self.wait_state(d, "asleep")
            strangers = (({"Host": "evil.example"}, "'evil.example'"), ({"Host": "llmhost"}, "proxy_set_header Host localhost;"),
                         ({"Host": "llm.example.org", "Origin": "https://evil.example"}, "https://evil.example may not ask"),
                         ({"Origin": "null"}, "allow_origin="))
            for path in ("/v1/chat/completions", "/api/chat", "/api/pull", "/api/tags"):
                for headers, says in strangers:
                    answer = d.request("GET" if path == "/api/tags" else "POST", path, {"model": ID, "messages": QUESTION}, headers=headers)
                    self.assertEqual(answer.status, 403, (path, headers))
                    self.assertIn(says, answer.text)
                    self.assertNotIn("Access-Control-Allow-Origin", answer.headers)
            preflight = d.request("OPTIONS", "/v1/chat/completions",
                                  headers={"Origin": "https://chat.example.org", "Access-Control-Request-Method": "POST"})
            self.assertEqual((preflight.status, preflight.headers["Access-Control-Allow-Origin"]), (204, "https://chat.example.org"))
            time.sleep(0.5)
            self.assertEqual((self.state(d), d.model(DEEPSEEK)["held"]), ("asleep", 0))
            answer = self.chat(d, headers={"Host": "LLM.example.org:443", "Origin": "https://chat.example.org"})
            self.assertEqual((answer.status, road.text_of(answer)), (200, TEXT))
            self.assertEqual(answer.headers["Access-Control-Allow-Origin"], "https://chat.example.org")
