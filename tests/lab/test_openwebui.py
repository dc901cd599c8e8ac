"""Open WebUI's requests, as openwebui.py has them, to a model that sleeps and to one that is ready, by both of its kinds of
connection."""
import json
import subprocess
import time

import host as hosts
import models
import road
from road import DEEPSEEK, ID
from test_clients import EMBED, EMBED_GGUF, EMBED_ID, EMBEDDING, LLAMA, LLAMA_EMBED, PYTHON, Everything, clean_env

LIMIT_S = 240
SCRIPT = hosts.HERE + "/openwebui.py"


class OpenWebUI(Everything):
    def asks(self, backend, *words):
        base = f"http://127.0.0.1:{self.d.port}" + ("/v1" if backend == "openai" else "")
        done = subprocess.run([PYTHON, SCRIPT, backend, base, *words], env=clean_env(self.d), text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=90)
        self.assertEqual(done.returncode, 0, done.stderr[-3000:] + self.d.log()[-1000:])
        return json.loads(done.stdout)

    def embedded(self, said):
        self.assertEqual([[round(x, 3) for x in vector] for vector in said["embeddings"]], [EMBEDDING] * 2)

    def test_as_an_ollama(self):
        for how in self.twice(DEEPSEEK, EMBED):
            said = self.asks("ollama", ID, EMBED_ID)
            self.assertNotIn("refused", said)
            self.assertRegex(said["version"], r"^\d+\.\d+\.\d+")
            self.assertEqual(sorted(said["models"]), sorted([ID, EMBED_ID]), "llama-server's would not understand it")
            self.assertEqual(ID in said["loaded"], how == "ready", said["loaded"])
            self.assertLessEqual({"details", "model_info", "capabilities"}, set(said["shown"]))
            self.assertEqual((said["text"], said["tasks"]), (models.answer(), [models.answer()] * 3))
            self.assertGreater(said["pieces"], 20)
            self.assertEqual(said["counts"][0], True)
            self.assertGreater(said["counts"][1], 20)
            self.assertGreater(said["loaded_then"][ID], time.time())
            self.embedded(said)
            self.assertEqual(said["pulled"][-1], {"status": "success"})
            self.assertEqual(said["unloaded"], "unload")
            self.assertEqual(len(said["unknown_pull"]), 1)
            self.assertIn("did you mean " + ID, said["unknown_pull"][0]["error"])
            self.wait_state(self.d, "asleep")
            self.d.ctl("up", DEEPSEEK)

    def test_as_an_openai(self):
        for name, model, embedding, its in ((ID, DEEPSEEK, EMBED_ID, EMBED), (road.GGUF, LLAMA, EMBED_GGUF, LLAMA_EMBED)):
            for _ in self.twice(model, its):
                said = self.asks("openai", name, embedding)
                self.assertNotIn("refused", said)
                self.assertEqual(sorted(said["models"]), sorted([ID, EMBED_ID, road.GGUF, EMBED_GGUF]))
                self.assertEqual((said["text"], said["ended"], said["tasks"]), (models.answer(), True, [models.answer()] * 3))
                self.assertGreater(said["pieces"], 20)
                self.embedded(said)

    def test_what_it_shows_of_a_model_that_is_off(self):
        self.d.ctl("down", LLAMA)
        said = self.asks("openai", road.GGUF)
        self.d.ctl("up", LLAMA)
        self.assertEqual(said["refused"][0], 503)
        self.assertIn("llmhostctl up " + LLAMA, said["refused"][1]["message"])
