"""A request in the very moment in which its model goes to sleep: by its own timer, or because somebody said so. Each is answered once,
with the whole of its answer, whether the model stays, is unloaded first, or is loaded again. Several models race side by side; one more
keeps their server running, so that a race takes a fraction of a second; test_sleep.py races with the end of a server.

$RACES: how many (500; `tests/run races`: 10,000). $SEED repeats a run."""
import collections
import concurrent.futures
import contextlib
import hashlib
import json
import os
import random
import time

import road

LIMIT_S = 180
RACES = int(os.environ.get("RACES") or 500)
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
RACED, KEPT = [f"scripted:{n}" for n in range(4)], "ollama:scripted:gpu1"
IDLE_S, FLAPS_MAX = 0.02, 8                     # it sleeps after that long, or up to that many times as long when it is woken soon
SPREAD_S = 0.1                                  # about what all of going to sleep takes


class Races(road.Road):
    def test_request_in_the_moment_of_going_to_sleep_is_answered_once(self):
        idle = {"idle": {"unload": f"{IDLE_S * 1000:.0f}ms", "min_up": "0s"}}
        with self.road(engines=["scripted"], sections=idle) as (d, h), concurrent.futures.ThreadPoolExecutor(len(RACED)) as pool:
            d.ctl("up", KEPT)
            d.ctl("keep", KEPT, "24h")
            asked = collections.Counter()
            for sent in pool.map(lambda model: self.race(d, model), RACED):
                asked.update(sent)
            self.assertEqual(asked.total(), RACES)
            self.assertEqual(self.seen(h), asked, "each was asked once")
            self.assertEqual(d.model(KEPT)["state"], "ready")
            log = d.log()
            drained, asleep = log.count(": draining -> "), log.count(": asleep -> connecting")
            print(f"{RACES} races, SEED={SEED}: {drained} ways to sleep, woken {asleep} times", flush=True)
            self.assertGreater(asleep, RACES // 4, "the races are races")

    def race(self, d, model):
        """Its share of the races, one after the other; returns what was sent."""
        dice, sent = random.Random(f"{SEED} {model}"), []
        d.ctl("up", "ollama:" + model)
        with d.varlink(timeout_s=60) as v, contextlib.closing(d.connect(timeout_s=60)) as kept:
            for n in range(RACES // len(RACED)):
                words = f"SEED={SEED}, {model}, race {n}"
                body = json.dumps({"model": model, "n": words, "stream": n % 3 == 0, "script": {"chunks": 2, "gap_ms": n % 5}}).encode()
                sent.append(hashlib.sha256(body).hexdigest())
                by_hand = dice.random() < 0.7
                if by_hand:
                    v.send("Sleep", {"target": "ollama:" + model})
                    time.sleep(dice.uniform(0, SPREAD_S) * dice.choice((0.1, 1)))
                else:
                    time.sleep(max(0, IDLE_S * dice.choice((1, 2, 4, FLAPS_MAX)) + dice.uniform(-0.01, SPREAD_S)))
                with contextlib.ExitStack() as stack:
                    self.answered(kept if n % 2 else stack.enter_context(contextlib.closing(d.connect(timeout_s=60))), body, words)
                if by_hand:
                    said = v.receive()
                    self.assertIn((said.get("parameters") or {}).get("code"), (None, "woken_again"), f"{words}: {said}")
        return sent

    def answered(self, c, body, words):
        c.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer = c.getresponse()
        said = answer.read()
        self.assertEqual(answer.status, 200, f"{words}: {said}")
        if answer.getheader("Content-Type") == "text/event-stream":
            self.assertEqual(said.count(b"data: "), 2, f"{words}: {said}")
        else:
            self.assertEqual(len(said), 40, f"{words}: {said}")

    def seen(self, h):
        asked = json.loads(road.beside(h, "/_asked", model=KEPT, method="GET")[2])
        return collections.Counter(a["sha256"] for a in asked if a["path"] == "/v1/chat/completions")
