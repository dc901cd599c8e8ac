"""Several models on one machine while its memory lasts. The engines are real; the card is played: each model in memory takes 258 MiB of
it, which is what a tiny one is taken to need, as nvidia-smi would say."""
import json
import threading

import host as hosts
import models
import road
from road import DEEPSEEK

LIMIT_S = 300
SMI = """#!/bin/sh
case "$*" in *--query-gpu=*) ;; *) echo "not asked like that: $*"; exit 1 ;; esac
n=0
for f in /proc/[0-9]*/cmdline; do
    tr '\\0' ' ' 2>/dev/null <$f | grep -qE '^[^ ]*(ollama runner|llama-server) ' && n=$((n + 1))
done
echo "NVIDIA A10, 550.54.14, TOTAL, $((100 + n * 258)), 8.6"
"""
# Instead of a card: beside another one, or beside as many as it says, there is no room.
TOO_MUCH = """#!/bin/sh
case "$*" in
*--version*) ;;
*) if [ $(grep -lsE '^/[^ ]*real-llama-server' /proc/[0-9]*/cmdline | wc -l) -ge 1 ]; then
    echo 'ggml_backend_cuda_buffer_type_alloc_buffer: allocating 2375.91 MiB on device 0: cudaMalloc failed: out of memory'
    echo 'srv load_model: failed to load model'
    exit 1
fi ;;
esac
exec /root/real-llama-server "$@"
"""
OTHER = "ollama:other"


def name_of(letter):
    return f"llama.cpp:/root/{letter}.gguf"


class Rooms(road.Road):
    def give_card(self, h, models_that_fit):
        h.put("/usr/local/bin/nvidia-smi", SMI.replace("TOTAL", str(200 + 258 * models_that_fit)), 0o755)

    def give_models(self, h, letters):
        with open(self.dir + "/tiny.gguf", "rb") as f:
            data = f.read()
        for letter in letters:
            h.put(f"/root/{letter}.gguf", data)

    def states(self, d):
        return {m["name"]: m["state"] for m in d.call("Status")["models"]}

    def causes(self, d, name):
        line = next(line for line in d.call("Why")["lines"] if line["target"] == name)
        return line["verdict"], {c["cause"]: c.get("text") for c in line["causes"]}

    def answers(self, d, name):
        self.assertEqual(road.text_of(self.chat(d, name.split(":", 1)[1])), models.answer())


class OwnServers(Rooms):
    def test_the_oldest_idle_one_is_unloaded_for_a_new_one(self):
        a, b, c = (name_of(x) for x in "abc")
        with self.road(engines=["llama-server"]) as (d, h):
            self.give_card(h, 2)
            self.give_models(h, "abc")
            d.ctl("up", a)
            d.ctl("up", b)
            self.answers(d, a)                  # b is the older one now
            self.assertEqual(self.states(d), {a: "ready", b: "ready"})
            said = d.ctl("up", c)
            self.assertRegex(said.stderr, f"unloads {b}, idle for .*, to make room")
            self.assertEqual(self.states(d), {a: "ready", b: "asleep", c: "ready"})
            self.assertEqual(len(h.pids("llama-server")), 2)

            self.assertEqual(self.causes(d, b), ("asleep", {"unloaded": f"made room for {c}"}))
            self.assertRegex(d.ctl("why", b).stdout, f"ASLEEP +made room for {c} .*ago; wakes at a request")
            self.assertNotIn(b, d.ctl("ps").stdout)
            self.assertRegex(d.ctl("ps", "-a").stdout, rf"{b} +gpu1 +asleep .*wakes (at a request|in )")
            d.ctl("status", b)
            self.assertIn("asleep", [line["kind"] for line in d.call("Logs", events=True, target=b)["lines"]])

            d.restart(hard=True)                # nothing is loaded because a daemon begins
            for name in (a, c):
                self.wait_state(d, "ready", name)
            self.assertEqual(self.states(d), {a: "ready", b: "asleep", c: "ready"})
            self.assertEqual(self.causes(d, b)[1], {"unloaded": f"made room for {c}"})
            self.answers(d, c)
            self.answers(d, b)                  # it wakes; the oldest is a
            self.assertEqual(self.states(d), {a: "asleep", b: "ready", c: "ready"})
            d.ctl("down", a)
            d.ctl("down", c)
            self.assertEqual(self.states(d), {a: "off", b: "ready", c: "off"})
            self.answers(d, b)

    def test_each_is_answered_however_they_take_turns(self):
        names = [name_of(x) for x in "abc"]
        with self.road(engines=["llama-server"]) as (d, h):
            self.give_card(h, 1)
            self.give_models(h, "abc")
            for name in names:
                d.ctl("up", name)
            wrong = []

            def ask(name):
                for _ in range(2):
                    said = self.chat(d, name.split(":", 1)[1], timeout_s=120)
                    if said.status != 200 or road.text_of(said) != models.answer():
                        wrong.append((name, said.status, said.text))

            threads = [threading.Thread(target=ask, args=(name,)) for name in names for _ in range(2)]
            for t in threads:
                t.start()
            for t in threads:
                t.join(150)
            self.assertEqual(wrong, [])
            hosts.until(lambda: len(h.pids("llama-server")) == 1, 20, "one server, not " + str((len(h.pids("llama-server")), self.states(d))))

    def test_what_the_engine_calls_too_much_asks_for_one_less(self):
        a, b = name_of("a"), name_of("b")
        sections = {"engine.llama.cpp": {"path": "/root/llama-server"}}
        with self.road(engines=["llama-server"], sections=sections) as (d, h):
            h.run("sh", "-c", "ln -s $(command -v llama-server) /root/real-llama-server")
            h.put("/root/llama-server", TOO_MUCH, 0o755)
            self.give_models(h, "ab")
            d.ctl("up", a)
            said = d.ctl("up", b)
            self.assertIn(f"unloads {a}", said.stderr)
            self.assertEqual(self.states(d), {a: "asleep", b: "ready"})
            self.answers(d, a)
            self.assertEqual(self.states(d), {a: "ready", b: "asleep"})


class Busy(Rooms):
    gguf = {"loop": True, "pad_bytes": 4 << 20}

    def test_none_is_unloaded_while_it_answers(self):
        a, b = name_of("a"), name_of("b")
        with self.road(engines=["llama-server"]) as (d, h):
            self.give_card(h, 1)
            self.give_models(h, "ab")
            d.ctl("up", a)
            long = {"model": a.split(":", 1)[1], "messages": road.QUESTION, "max_tokens": 200, "stream": True, **road.SEEDED}
            got = []
            asking = threading.Thread(target=lambda: got.append(d.post("/v1/chat/completions", long, timeout_s=100)))
            asking.start()
            hosts.until(lambda: d.model(a)["in_flight"] == 1, 10, "an open stream")
            seen = []
            for reply in d.stream("Up", timeout_s=100, model=b):
                text = (reply.get("progress") or {}).get("text", "")
                if "no room" in text and not seen:
                    self.assertEqual(d.model(a)["state"], "ready")
                    self.assertEqual(self.causes(d, b)[1]["no_room"], text)
                    self.assertIn(f"llmhostctl down {a}", text)
                    refused = self.chat(d, b.split(":", 1)[1], headers={"X-LLMHost-Max-Wait": "1"})
                    self.assertEqual(refused.status, 503)
                    self.assertIn("no room", refused.json()["error"]["message"])
                seen += [text] if text else []
            asking.join(100)
            self.assertTrue(any(t.startswith("no room") for t in seen), seen)
            self.assertTrue(any(t.startswith(f"unloads {a}") for t in seen), seen)
            self.assertEqual(self.states(d), {a: "asleep", b: "ready"})
            body = got[0].text
            self.assertIn("[DONE]", body)
            said = "".join(json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
                           for line in body.splitlines() if line.startswith("data: {") and '"delta"' in line)
            self.assertEqual(said.split()[:31], models.answer().split())
            self.assertGreater(len(said.split()), 150)


class SharedServer(Rooms):
    engine = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        models.write_gguf(cls.dir + "/other.gguf", name="other")       # of one file ollama makes one process
        models.store_in_ollama(cls.dir + "/store", OTHER.split(":", 1)[1], cls.dir + "/other.gguf")

    def loaded(self, h):
        said = json.loads(road.beside(h, "/api/ps", method="GET")[2])
        return sorted(m["name"] for m in said["models"] or [])

    def both_share_what_there_is(self):
        with self.road(engines=[self.engine]) as (d, h):
            self.give_card(h, 1)
            d.ctl("up", DEEPSEEK)
            said = d.ctl("up", OTHER)
            self.assertRegex(said.stderr, f"unloads {DEEPSEEK}, idle for .*, to make room")
            self.assertEqual(self.states(d), {DEEPSEEK: "asleep", OTHER: "ready"})
            self.assertEqual(self.loaded(h), ["other:latest"])
            self.answers(d, DEEPSEEK)
            self.assertEqual(self.states(d), {DEEPSEEK: "ready", OTHER: "asleep"})
            self.assertEqual(self.loaded(h), ["deepseek-r1:7b"])
            self.give_card(h, 2)
            self.answers(d, OTHER)
            self.assertEqual(self.states(d), {DEEPSEEK: "ready", OTHER: "ready"})
            self.assertEqual(len(self.loaded(h)), 2)
            road.beside(h, "/api/generate", {"model": "other", "keep_alive": 0})    # somebody else unloads it
            self.wait_state(d, "asleep", OTHER, 20)
            self.assertEqual(self.causes(d, OTHER)[1], {"unloaded": "the engine has unloaded it"})
            d.ctl("down", DEEPSEEK)             # the server goes on running for the one that sleeps
            self.answers(d, OTHER)
            d.ctl("down", OTHER)
            self.assertEqual(h.pids("ollama"), [])


class SecondGeneration(SharedServer):
    engine = "ollama-0.32.15"

    def test_both_share_what_there_is(self):
        self.both_share_what_there_is()


class FirstGeneration(SharedServer):
    engine = "ollama-0.11.4"

    def test_both_share_what_there_is(self):
        self.both_share_what_there_is()
