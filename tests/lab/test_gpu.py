"""What nvidia-smi and npu-smi say of a machine's cards: played by scripts, since no machine of the lab has a card. The engines are
real, or say what a machine with a card would make them say."""
import json

import host as hosts
import road
from road import DEEPSEEK

LIMIT_S = 120
SCRIPTED = "ollama:scripted:gpu1"
CARD = "NVIDIA GeForce RTX 4090"
# The first two questions, before the server starts and before it loads, are answered from one file, all later ones from the other.
SMI = """#!/bin/sh
case "$*" in *--query-gpu=*) ;; *) echo "not asked like that: $*"; exit 1 ;; esac
echo >>/root/gpu.asked
if [ "$(wc -l </root/gpu.asked)" -gt 2 ]; then cat /root/gpu.after; else cat /root/gpu.before; fi
"""


class Cards(road.Road):
    gguf = {"context": 16384}

    def give_card(self, h, before, after, name=CARD):
        for when, used in (("before", before), ("after", after)):
            h.put(f"/root/gpu.{when}", f"{name}, 550.54.14, 24564, {used}, 8.9\n")
        h.put("/usr/local/bin/nvidia-smi", SMI, 0o755)

    def give_cards(self, h, *cards):
        """What each has in use before and after, as it is printed."""
        for when, at in (("before", 0), ("after", 1)):
            h.put(f"/root/gpu.{when}", "".join(f"{CARD}, 550.54.14, 24564, {card[at]}, 8.9\n" for card in cards))
        h.put("/usr/local/bin/nvidia-smi", SMI, 0o755)

    def plan(self, h, size, vram):
        h.put("/root/ps.json", json.dumps({"models": [{"name": "scripted:gpu1", "model": "scripted:gpu1", "size": size,
                                                       "size_vram": vram, "context_length": 4096}]}))

    def memory(self, d):
        return next(c for c in d.call("Doctor", target=SCRIPTED)["checks"] if c["id"] == "model.memory")

    def context_given(self, h):
        """What the server was started with."""
        with open(f"/proc/{h.pids('ollama serve')[0].outer_pid}/environ") as f:
            return dict(line.split("=", 1) for line in f.read().split("\0") if "=" in line)["OLLAMA_CONTEXT_LENGTH"]

    def test_context_is_what_card_and_model_allow(self):
        """The daemon asks the registry, by name and with TLS: the file's own limit is shorter than that of the model we know by this name."""
        self.registry.serve_here()
        with self.road() as (d, h):
            d.ctl("up", DEEPSEEK)
            self.assertEqual(self.context_given(h), "8192", "no card, no guess")
            d.ctl("down", DEEPSEEK)
            self.assertEqual([a for a in self.registry.asked if a[2] == "bytes=0-65535"], [])
            self.give_card(h, 18, 20)
            d.ctl("up", DEEPSEEK)
            self.assertEqual(self.context_given(h), "16384")
            self.assertEqual(d.model(DEEPSEEK)["context"], 16384)
            self.assertEqual(len([a for a in self.registry.asked if a[2] == "bytes=0-65535"]), 2, "the blob, and where it is kept")

    def test_card_that_stays_empty_is_told(self):
        """A real ollama without a part for the card computes on the processor, and says so in its own way."""
        with self.road() as (d, h):
            self.give_card(h, 18, 20)
            d.ctl("up", DEEPSEEK)
            model = d.model(DEEPSEEK)
            self.assertEqual((model["processor"], model["card"]), ("cpu", CARD))
            shown = d.ctl("ps").stdout
            self.assertIn("100% CPU!", shown)
            self.assertIn(f"although there is a card ({CARD})", " ".join(shown.split()))
            self.assertEqual([t["code"] for t in d.call("Status")["trouble"]], ["gpu_unused"])
            check = next(c for c in d.call("Doctor", target=DEEPSEEK)["checks"] if c["id"] == "model.memory")
            self.assertEqual(check["level"], "fail")
            self.assertIn(CARD, check["message"])

    def test_broken_card_is_explained(self):
        with self.road(engines=["scripted"]) as (d, h):
            h.put("/usr/local/bin/nvidia-smi", "#!/bin/sh\necho 'Failed to initialize NVML: Unknown Error'\nexit 255\n", 0o755)
            d.ctl("up", SCRIPTED)
            check = self.memory(d)
            self.assertEqual(check["level"], "fail")
            self.assertIn("restart of the machine", check["message"])

    def test_what_was_planned_and_what_was_measured(self):
        for after, processor, level, says in ((5500, "gpu", "ok", "as measured"), (20, "cpu", "fail", "planned for the card"),
                                              (2000, "partly", "warn", "a part of it")):
            with self.subTest(processor), self.road(engines=["scripted"]) as (d, h):
                self.give_card(h, 18, after)
                self.plan(h, 5600000000, 5600000000)
                d.ctl("up", SCRIPTED)
                model = d.model(SCRIPTED)
                self.assertEqual((model["processor"], model["size_vram_bytes"]), (processor, 5600000000))
                self.assertEqual(self.memory(d)["level"], level)
                self.assertIn(says, self.memory(d)["message"])
                d.restart(hard=True)            # it finds the model loaded, and knows nothing of before
                self.wait_state(d, "ready", SCRIPTED)
                self.assertIsNone(d.model(SCRIPTED).get("processor"))

    def test_several_cards_count_together_and_an_unknown_one_makes_all_unknown(self):
        for cards, processor, shown in ((((18, 2700), (20, 2700)), "gpu", "100% GPU "), (((18, 18), (20, 20)), "cpu", "100% CPU!"),
                                        (((18, 5500), ("[N/A]", "[N/A]")), None, "100% GPU~"),
                                        ((("[Insufficient Permissions]", "[Insufficient Permissions]"),), None, "100% GPU~")):
            with self.subTest(cards), self.road(engines=["scripted"]) as (d, h):
                self.give_cards(h, *cards)
                self.plan(h, 5600000000, 5600000000)
                d.ctl("up", SCRIPTED)
                self.assertEqual(d.model(SCRIPTED).get("processor"), processor)
                self.assertIn(shown, d.ctl("ps").stdout.replace("\n", " \n"))

    def test_llama_server_without_a_part_for_the_card_is_told(self):
        """Of a card whose memory nobody can read: what counts is its log, of a build that can use no card, and then of one that can."""
        model = "llama.cpp:" + road.GGUF
        with self.road(engines=["llama-server"]) as (d, h):
            self.give_model(h)
            self.give_cards(h, ("[N/A]", "[N/A]"))
            d.ctl("up", model)
            self.assertEqual(d.model(model)["size_vram_bytes"], 0)
            self.assertEqual([t["code"] for t in d.call("Status")["trouble"]], ["gpu_unused"])
            self.assertIn("100% CPU", d.ctl("ps").stdout)
            d.ctl("down", model)
            h.run("rm /usr/local/bin/llama-server")
            h.put("/usr/local/bin/llama-server", "#!/bin/sh\necho 'load_tensors: offloaded 3/4 layers to GPU'\n"
                  f"exec {hosts.engine_path('llama-server')} \"$@\"\n", 0o755)
            d.ctl("up", model)
            shown = d.model(model)
            self.assertEqual(shown["size_vram_bytes"], shown["size_bytes"] * 3 // 4)
            self.assertEqual(d.call("Status")["trouble"], [])
            check = next(c for c in d.call("Doctor", target=model)["checks"] if c["id"] == "model.memory")
            self.assertEqual(check["level"], "warn")
            self.assertIn("25% of it runs on the CPU", check["message"])

    def test_driver_that_was_updated_and_machine_without_its_card_are_told_apart(self):
        for words, meaning in (("Failed to initialize NVML: Driver/library version mismatch", "driver of its host was updated"),
                               ("Failed to initialize NVML: Insufficient Permissions", "started without a card"),
                               ("Failed to initialize NVML: Unknown Error", "has lost its cards")):
            with self.subTest(words), self.road(engines=["scripted"]) as (d, h):
                h.put("/usr/local/bin/nvidia-smi", f"#!/bin/sh\necho '{words}'\nexit 255\n", 0o755)
                d.ctl("up", SCRIPTED)
                self.assertIn(meaning, self.memory(d)["message"])

    def test_hanging_nvidia_smi_delays_and_does_not_stop(self):
        with self.road(engines=["scripted"]) as (d, h):
            h.put("/usr/local/bin/nvidia-smi", "#!/bin/sh\nexec sleep 1000\n", 0o755)
            d.ctl("up", SCRIPTED, "--timeout", "40s")
            self.assertEqual(d.model(SCRIPTED)["state"], "ready")
