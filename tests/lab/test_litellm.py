"""LiteLLM, in the version of tests/clients.txt, as a library whose api_base is the gateway: by its openai, ollama and ollama_chat
routes, whole, streamed and asynchronously, on models that are ready and on models that sleep. It looks at /api/show beside each
call of its ollama routes, which must wake nobody. All in one program, for it takes seconds to begin; each test looks at a part of
what it said."""
import json

import models
import road
from road import DEEPSEEK, ID
from test_behind import snippet
from test_clients import EMBED, EMBED_GGUF, EMBED_ID, EMBEDDING, LLAMA, LLAMA_EMBED, Everything, python

LIMIT_S = 240
CHATS = [["openai/" + ID, "/v1", DEEPSEEK], ["openai/" + road.GGUF, "/v1", LLAMA], ["ollama_chat/" + ID, "", DEEPSEEK],
         ["ollama/" + ID, "", DEEPSEEK]]
EMBEDDERS = [["openai/" + EMBED_ID, "/v1", EMBED], ["ollama/" + EMBED_ID, "", EMBED], ["openai/" + EMBED_GGUF, "/v1", LLAMA_EMBED]]
UNKNOWN = [["openai/deepseek-r1:8b", "/v1"], ["ollama_chat/deepseek-r1:8b", ""], ["ollama/deepseek-r1:8b", ""]]
# Its price list stands in the package too; no test asks the network for a newer one.
SCRIPT = """
import asyncio, os, subprocess
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm, yaml
litellm.suppress_debug_info = True                 # it prints to stdout
told = json.loads(os.environ["TOLD"])
SAID = {"chats": [], "embeddings": [], "errors": [], "router": []}
ASK = dict(messages=[{"role": "user", "content": "count"}], temperature=0, api_key="any", num_retries=0)

def to(model, base):
    return dict(ASK, model=model, api_base=told["url"] + base)

def sleeps(name):
    subprocess.run(told["ctl"] + ["sleep", name], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

def text(answer):
    return "".join(p.choices[0].delta.content or "" for p in answer if p.choices).strip()

for model, base, name in told["chats"]:
    for how in ("asleep", "ready"):
        if how == "asleep":
            sleeps(name)
        whole = litellm.completion(**to(model, base))
        if how == "asleep":
            sleeps(name)
        stream = litellm.completion(stream=True, stream_options={"include_usage": True}, **to(model, base))
        SAID["chats"].append([model, how, whole.choices[0].message.content.strip(), whole.choices[0].finish_reason,
                              whole.usage.completion_tokens > 20, text(stream)])
for model, base, name in told["embedders"]:
    for how in ("asleep", "ready"):
        if how == "asleep":
            sleeps(name)
        r = litellm.embedding(model=model, input=["a", "b"], api_base=told["url"] + base, api_key="any")
        SAID["embeddings"].append([model, how, [[round(x, 3) for x in e["embedding"]] for e in r.data]])

async def one(model, base):
    r = await litellm.acompletion(stream=True, **to(model, base))
    return "".join([p.choices[0].delta.content or "" async for p in r if p.choices]).strip()

async def many():
    routes = [(m, b) for m, b, name in told["chats"] if name == told["chats"][0][2]]
    return await asyncio.gather(*[one(*route) for route in routes * 3])

sleeps(told["chats"][0][2])
SAID["many"] = asyncio.run(many())
for model, base in told["unknown"]:
    try:
        SAID["errors"].append(litellm.completion(**to(model, base)).choices[0].message.content)
    except Exception as e:
        SAID["errors"].append(str(e))
router = litellm.Router(**yaml.safe_load(told["router"]), num_retries=0)
for stream in (False, True):
    sleeps(told["chats"][0][2])
    r = router.completion(model="deepseek", messages=ASK["messages"], temperature=0, stream=stream)
    SAID["router"].append(text(r) if stream else r.choices[0].message.content.strip())
"""


class LiteLLM(Everything):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        told = {"url": f"http://127.0.0.1:{cls.d.port}", "ctl": cls.d.ctl_words(), "chats": CHATS, "embedders": EMBEDDERS,
                "unknown": UNKNOWN, "router": snippet("yaml", "model_list")}
        cls.said = python(cls.d, SCRIPT, timeout=180, TOLD=json.dumps(told))

    def test_it_chats_and_streams_by_every_route(self):
        self.assertEqual(len(self.said["chats"]), 2 * len(CHATS))
        for model, how, *said in self.said["chats"]:
            with self.subTest(model, how=how):
                self.assertEqual(said, [models.answer().strip(), "stop", True, models.answer().strip()])

    def test_it_embeds_by_every_route(self):
        self.assertEqual(len(self.said["embeddings"]), 2 * len(EMBEDDERS))
        for model, how, said in self.said["embeddings"]:
            with self.subTest(model, how=how):
                self.assertEqual(said, [EMBEDDING] * 2)

    def test_many_at_once_wake_a_model(self):
        self.assertEqual(self.said["many"], [models.answer().strip()] * 9)

    def test_errors_arrive_with_their_words(self):
        self.assertEqual(len(self.said["errors"]), len(UNKNOWN))
        for said in self.said["errors"]:
            self.assertIn("did you mean " + ID, said)
            self.assertIn("llmhostctl up ollama:deepseek-r1:8b", said)

    def test_its_proxy_reads_the_snippet_of_the_readme(self):
        """By the class that stands behind the proxy's model_list."""
        self.assertEqual(self.said["router"], [models.answer().strip()] * 2)
