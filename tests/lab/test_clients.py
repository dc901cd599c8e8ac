"""Applications as people have them, unchanged, in the versions of tests/clients.txt: the openai and ollama libraries of Python,
LiteLLM, and the ollama command line. Each is asked against real engines behind the gateway, whole and streamed, on models that
are ready and on models that sleep."""
import json
import os
import re
import subprocess
import time

import host as hosts
import models
import road
from road import DEEPSEEK, ID

LIMIT_S = 180
PYTHON = os.path.join(hosts.ENGINES, "venv/bin/python")
LLAMA = "llama.cpp:" + road.GGUF
EMBED_ID, EMBED_GGUF = "nomic-embed-text:latest", "/root/embed.gguf"
EMBED, LLAMA_EMBED = "ollama:" + EMBED_ID, "llama.cpp:" + EMBED_GGUF
EMBEDDING = [1.0, *[0.0] * 31]                  # of a text without numbers, by models.py: all of it on axis 0


def clean_env(d, **more):
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("OLLAMA", "OPENAI", "HTTP", "http", "PYTHON"))}
    ours = dict(HOME=d.dir, OLLAMA_HOST=f"127.0.0.1:{d.port}", OPENAI_BASE_URL=f"http://127.0.0.1:{d.port}/v1", OPENAI_API_KEY="any")
    return {**keep, **ours, **more}


def python(d, script, timeout=60, **env):
    """What a program says as JSON."""
    done = subprocess.run([PYTHON, "-c", "import json, sys\n" + script + "\njson.dump(SAID, sys.stdout)"], env=clean_env(d, **env),
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout)
    if done.returncode != 0:
        raise AssertionError(done.stderr[-3000:] + d.log()[-2000:])
    return json.loads(done.stdout)


class Everything(road.Road):
    """One daemon with an ollama and a llama-server, and of each a model that talks and one that embeds."""
    engine = "ollama"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        models.write_gguf(cls.dir + "/embed.gguf", pooling=models.MEAN)
        models.store_in_ollama(cls.dir + "/store", EMBED_ID, cls.dir + "/embed.gguf")
        entered = road.Road.road(cls(), engines=[cls.engine, "llama-server"])
        cls.d, cls.h = entered.__enter__()
        cls.addClassCleanup(entered.__exit__, None, None, None)
        cls.give_model(cls, cls.h)
        with open(cls.dir + "/embed.gguf", "rb") as f:
            cls.h.put(EMBED_GGUF, f.read())
        for words in ((DEEPSEEK,), (LLAMA,), (EMBED,), (LLAMA_EMBED, "--", "--embeddings", "--pooling", "mean")):
            cls.d.ctl("up", *words)

    def sleeping(self, *names):
        """They sleep now: who asks wakes them."""
        for name in names or (DEEPSEEK, LLAMA, EMBED, LLAMA_EMBED):
            self.d.ctl("sleep", name)
            self.assertEqual(self.state(self.d, name), "asleep")

    def twice(self, *names):
        """Ready, and asleep."""
        for how in ("ready", "asleep"):
            with self.subTest(how):
                if how == "asleep":
                    self.sleeping(*names)
                yield how


class Libraries(Everything):
    def test_openai_embeds(self):
        for name, model in ((EMBED_ID, EMBED), (EMBED_GGUF, LLAMA_EMBED)):
            for _ in self.twice(model):
                said = python(self.d, f"""
import openai
c = openai.OpenAI()
one = c.embeddings.create(model={name!r}, input="a")
many = c.embeddings.create(model={name!r}, input=["a", "b"], encoding_format="float")
SAID = [one.data[0].embedding, [e.index for e in many.data], many.data[1].embedding, one.object, one.usage.prompt_tokens > 0]
""")
                self.assertEqual(said[1], [0, 1])
                self.assertEqual(said[3:], ["list", True])
                for vector in (said[0], said[2]):
                    self.assertEqual([round(x, 3) for x in vector], EMBEDDING)

    def test_ollama_library_embeds(self):
        for _ in self.twice(EMBED):
            said = python(self.d, f"""
import ollama
SAID = [ollama.embed({EMBED_ID!r}, "a").embeddings, ollama.embed("nomic-embed-text", ["a", "b"]).embeddings,
        ollama.embeddings({EMBED_ID!r}, "a").embedding]
""")
            for vector in (said[0][0], said[1][0], said[1][1]):
                self.assertEqual([round(x, 3) for x in vector], EMBEDDING)
            self.assertEqual([len(said[0]), len(said[1]), len(said[2])], [1, 2, 32])

    def test_sleeping_models_are_asked_by_every_library(self):
        for name, model in ((ID, DEEPSEEK), (road.GGUF, LLAMA)):
            for stream in (False, True):
                with self.subTest(model, stream=stream):
                    self.sleeping(model)
                    said = python(self.d, f"""
import openai
c = openai.OpenAI(max_retries=0)
listed = {name!r} in [m.id for m in c.models.list()]
r = c.chat.completions.create(model={name!r}, messages=[{{"role": "user", "content": "count"}}], temperature=0, stream={stream})
SAID = [listed, "".join(p.choices[0].delta.content or "" for p in r if p.choices) if {stream} else r.choices[0].message.content]
""")
                    self.assertEqual(said, [True, models.answer()])
        for stream in (False, True):
            with self.subTest("ollama", stream=stream):
                self.sleeping(DEEPSEEK)
                said = python(self.d, f"""
import ollama
listed = [[m.model for m in ollama.list().models].count({ID!r}), [m.model for m in ollama.ps().models].count({ID!r})]
r = ollama.chat({ID!r}, [{{"role": "user", "content": "count"}}], options={{"temperature": 0}}, stream={stream})
SAID = [listed, "".join(p.message.content for p in r) if {stream} else r.message.content]
""")
                self.assertEqual(said, [[1, 0], models.answer()])


    def test_openai_lists_models(self):
        said = python(self.d, """
import openai
c = openai.OpenAI()
SAID = [[m.id, m.object] for m in c.models.list()] + [c.models.retrieve("deepseek-r1:7b").id]
""")
        self.assertEqual(sorted(said[:4]), sorted([name, "model"] for name in (ID, road.GGUF, EMBED_ID, EMBED_GGUF)))
        self.assertEqual(said[4], ID)

    def test_openai_chat(self):
        for model in (ID, road.GGUF):
            with self.subTest(model):
                said = python(self.d, f"""
import openai
c = openai.OpenAI()
ask = dict(model={model!r}, messages=[{{"role": "user", "content": "count"}}], temperature=0, seed=1)
whole = c.chat.completions.create(**ask)
pieces = [p for p in c.chat.completions.create(stream=True, stream_options={{"include_usage": True}}, **ask)]
raw = c.chat.completions.with_raw_response.create(**ask)
SAID = [whole.choices[0].message.content, whole.choices[0].finish_reason, whole.usage.completion_tokens,
        "".join(p.choices[0].delta.content or "" for p in pieces if p.choices), len(pieces), pieces[-1].usage.completion_tokens,
        raw.headers.get("content-type")]
""")
                self.assertEqual((said[0], said[1]), (models.answer(), "stop"))
                self.assertEqual(said[3], models.answer())
                self.assertGreater(said[4], 20, "token by token")
                self.assertEqual(said[5], said[2])
                self.assertIn("application/json", said[6])

    def test_openai_completions(self):
        said = python(self.d, f"""
import openai
c = openai.OpenAI()
r = c.completions.create(model={road.GGUF!r}, prompt="count", temperature=0, max_tokens=5)
s = "".join(p.choices[0].text for p in c.completions.create(model={ID!r}, prompt="count", temperature=0, stream=True))
SAID = [r.choices[0].text, r.choices[0].finish_reason, s]
""")
        self.assertEqual(said[:2], [" 1 2 3 4 5", "length"])
        self.assertEqual(said[2], models.answer())

    def test_openai_errors_are_its_own(self):
        said = python(self.d, """
import openai
c = openai.OpenAI(max_retries=0)
SAID = []
for ask in (dict(model="unheard-of", messages=[]), dict(model="", messages=[])):
    try:
        c.chat.completions.create(**ask)
    except openai.APIStatusError as e:
        SAID.append([type(e).__name__, e.status_code, e.body])
""")
        self.assertEqual(said[0][:2], ["NotFoundError", 404])
        self.assertIn("unheard-of", said[0][2]["message"])
        self.assertIn(said[1][1], (400, 404))

    def test_openai_asynchronous_and_many(self):
        said = python(self.d, f"""
import asyncio, openai
async def main():
    c = openai.AsyncOpenAI()
    async def one(n):
        stream = await c.chat.completions.create(model={road.GGUF!r}, messages=[{{"role": "user", "content": str(n)}}],
                                                 temperature=0, stream=True)
        return "".join([p.choices[0].delta.content or "" async for p in stream])
    return await asyncio.gather(*[one(n) for n in range(12)])
SAID = asyncio.run(main())
""")
        self.assertEqual(said, [models.answer()] * 12)

    def test_openai_that_stops_reading_stops_the_engine(self):
        before = self.d.model(DEEPSEEK)["in_flight"]
        self.assertEqual(before, 0)
        python(self.d, f"""
import openai
c = openai.OpenAI()
s = c.chat.completions.create(model={ID!r}, messages=[{{"role": "user", "content": "x"}}], stream=True)
next(iter(s))
s.close()
SAID = 1
""")
        hosts.until(lambda: self.d.model(DEEPSEEK)["in_flight"] == 0, 5, "nothing in flight")

    def test_ollama_library_lists_and_shows(self):
        said = python(self.d, """
import ollama
SAID = [[m.model for m in ollama.list().models], [m.model for m in ollama.ps().models],
        json.loads(ollama.show("deepseek-r1:7b").model_dump_json())]
""")
        self.assertIn(ID, said[0])
        self.assertIn(ID, said[1])
        self.assertEqual(said[2]["details"]["family"], "llama")

    def test_ollama_library_chats_and_generates(self):
        said = python(self.d, """
import ollama
m = [{"role": "user", "content": "count"}]
o = {"temperature": 0, "seed": 1}
SAID = [ollama.chat("deepseek-r1:7b", m, options=o).message.content,
        "".join(p.message.content for p in ollama.chat("deepseek-r1:7b", m, options=o, stream=True)),
        ollama.generate("deepseek-r1:7b", "count", options=o).response,
        len(list(ollama.generate("deepseek-r1:7b", "count", options=o, stream=True)))]
try:
    ollama.chat("unheard-of", m)
except ollama.ResponseError as e:
    SAID += [e.status_code, e.error]
""")
        self.assertEqual(said[:3], [models.answer()] * 3)
        self.assertGreater(said[3], 20)
        self.assertEqual(said[4], 404)
        self.assertIn("unheard-of", said[5])

    def test_ollama_library_asynchronously(self):
        said = python(self.d, """
import asyncio, ollama
async def main():
    c = ollama.AsyncClient()
    async def one():
        return "".join([p.message.content async for p in await c.chat("deepseek-r1:7b", [{"role": "user", "content": "x"}],
                                                                      stream=True)])
    return await asyncio.gather(*[one() for _ in range(4)])
SAID = asyncio.run(main())
""")
        self.assertEqual(said, [models.answer()] * 4)

    def test_curl_as_in_every_manual(self):
        url = f"http://127.0.0.1:{self.d.port}"
        ask = json.dumps({"model": ID, "messages": road.QUESTION, "stream": False})
        for path in ("/v1/chat/completions", "/api/chat"):
            said = subprocess.run(["curl", "-sS", "-f", url + path, "-d", ask], stdout=subprocess.PIPE, check=True).stdout
            self.assertIn(models.answer(), said.decode())
        whole = subprocess.run(["curl", "-sSN", url + "/v1/chat/completions", "-H", "Expect: 100-continue", "-d",
                                json.dumps({"model": ID, "messages": road.QUESTION, "stream": True})], stdout=subprocess.PIPE,
                               check=True).stdout.decode()
        self.assertTrue(whole.rstrip().endswith("data: [DONE]"), whole[-200:])


class CommandLine(road.Road):
    """ollama list, ps, run, show, stop, pull: both generations as clients, each with the other as the engine too."""

    def ollama(self, d, client, *words, input=None, check=True):
        done = subprocess.run([hosts.engine_path(client), *words], env=clean_env(d), text=True, input=input,
                              stdin=None if input is not None else subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=60)
        if check:
            self.assertEqual(done.returncode, 0, f"{words}: {done.stdout}{done.stderr}\n{d.log()[-2000:]}")
        return done

    def with_client(self, client, engine):
        with self.road(engines=[engine]) as (d, h):
            self.assertNotIn(ID, self.ollama(d, client, "list").stdout)
            d.ctl("up", DEEPSEEK)
            listed = self.ollama(d, client, "list").stdout
            self.assertRegex(listed, rf"(?m)^{re.escape(ID)}\s+\w{{12}}\s+[\d.]+ [KMG]?B")
            self.assertRegex(self.ollama(d, client, "ps").stdout, rf"(?m)^{re.escape(ID)}\s")
            said = self.ollama(d, client, "run", "--nowordwrap", ID, "count")
            self.assertEqual(said.stdout.strip(), models.answer().strip())
            self.assertEqual(self.ollama(d, client, "run", "--nowordwrap", ID, input="count\n").stdout.strip(), models.answer().strip())
            self.ollama(d, client, "stop", ID)
            self.wait_state(d, "asleep")
            self.assertNotIn(ID, self.ollama(d, client, "ps").stdout)
            self.assertIn(ID, self.ollama(d, client, "list").stdout)
            self.ollama(d, client, "stop", ID)
            self.assertIn("llama", self.ollama(d, client, "show", ID).stdout)
            self.assertEqual(self.state(d), "asleep", "to look and to stop wake nobody")
            self.assertEqual(self.ollama(d, client, "run", "--nowordwrap", ID, "count").stdout.strip(), models.answer().strip())
            self.assertNotEqual(self.ollama(d, client, "show", "unheard-of", check=False).returncode, 0)
            d.ctl("down", DEEPSEEK)
            refused = self.ollama(d, client, "run", "--nowordwrap", ID, "count", check=False)
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn("llmhostctl up", refused.stderr)

    def test_second_generation_with_the_first_behind_it(self):
        self.with_client("ollama-0.32.15", "ollama-0.11.4")

    def test_first_generation_with_the_second_behind_it(self):
        self.with_client("ollama-0.11.4", "ollama-0.32.15")

    def test_pull_of_a_model_that_is_wanted_is_answered(self):
        with self.road() as (d, _):
            d.ctl("up", DEEPSEEK)
            self.assertIn("success", (lambda p: p.stdout + p.stderr)(self.ollama(d, "ollama-0.32.15", "pull", ID)))
            started = time.monotonic()
            self.assertNotEqual(self.ollama(d, "ollama-0.32.15", "pull", "unheard-of", check=False).returncode, 0)
            self.assertLess(time.monotonic() - started, 10)

    def test_pull_of_a_model_that_is_on_its_way_draws_a_bar(self):
        with self.road() as (d, _):
            self.registry.fault(rate=os.path.getsize(self.dir + "/tiny.gguf") // 3)
            d.ctl("up", DEEPSEEK, "--no-wait")
            pulls = [subprocess.Popen([hosts.engine_path(client), "pull", ID], env=clean_env(d), stdin=subprocess.DEVNULL, text=True,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for client in ("ollama-0.11.4", "ollama-0.32.15")]
            for pull in pulls:
                status, said, _ = road.ended(pull, 60)
                self.assertEqual(status, 0, said)
                self.assertIn("success", said)
                self.assertRegex(said, r"pulling 0{12}: +[1-9]\d?%")

    def test_requests_wait_for_a_model_that_is_coming_up(self):
        with self.road() as (d, _):
            self.registry.fault(rate=os.path.getsize(self.dir + "/tiny.gguf") // 3)
            d.ctl("up", DEEPSEEK, "--no-wait")
            said = self.ollama(d, "ollama-0.32.15", "run", "--nowordwrap", ID, "count")
            self.assertEqual(said.stdout.strip(), models.answer().strip())
