"""Random stories of renting: people and applications want things, the company errs, links break, the daemon is killed, somebody presses
buttons in the console. After each: what nobody wants is off, the bill never had two machines, the ledger is the bill where it says that
it is exact, and every request got exactly one answer.

`tests/run rent-chaos`: 1,000 of them. $STORIES: how many; $RENT_SEED: from this number on, one after the other.
A story is told again by its number: RENT_SEED=N STORIES=1.
"""
import concurrent.futures
import contextlib
import os
import random
import threading
import time
import unittest

import company as companies
import host as hosts
from daemon import CallError
from rented import MODEL, World

LIMIT_S = 600
STORIES = int(os.environ.get("STORIES") or 1000)
SEED = int(os.environ.get("RENT_SEED") or random.SystemRandom().randrange(1000, 10**6))
AT_ONCE = int(os.environ.get("AT_ONCE") or 10)
# A machine that cannot be reached is waited for two minutes (manager_power.c), a call without an answer for three (start_ms).
OFF_S = 240
LONG_S = 12                     # no request waits longer: X-LLMHost-Max-Wait
# What happens at once and is told wrongly, or is told and does not happen; what hangs for long would need longer stories.
ACTS = ["reset", "cut", "cut_after", "bad_gateway", "bad_gateway_after", "html", "html_after", "garbage", "empty", "null_data", "no_stock",
        "too_many", "unavailable", "slow", "slow_before", "unknown_code", "wrong_state"]
READS = ["bad_gateway", "unavailable", "html", "cut", "garbage", "empty", "slow", "hidden", "too_many"]


class Story:
    """One of them: the same steps for the same number."""

    def __init__(self, number):
        self.random = random.Random(number)
        self.number, self.told, self.answers, self.requests, self.clients = number, [], [], [], []
        self.lock = threading.Lock()

    def run(self):
        draw = self.random
        times = {"create": draw.choice([0.1, 1]), "boot": draw.choice([0.2, 2]), "sshd": draw.choice([0.1, 1]), "stop": draw.choice([0.1, 1])}
        began = time.monotonic()
        with World({"idle": {"unload": "1s", "stop": draw.choice(["1s", "3s"]), "min_up": draw.choice(["0s", "2s"])}}, **times) as w:
            try:
                self.tell(w)
                self.end(w)
                print(f"story {self.number}: {time.monotonic() - began:.0f} s, answers {self.answers}", flush=True)
            except Exception as e:
                raise AssertionError(f"story {self.number} (RENT_SEED={self.number} STORIES=1): {e}\n" + "\n".join(self.told)) from e

    def note(self, *words):
        self.told.append(f"{time.time():.3f} " + " ".join(str(w) for w in words))

    # What happens in it ----------------------------------------------------------------------------------------------

    def tell(self, w):
        steps = [self.request, self.request, self.up, self.put_to_sleep, self.down, self.kill, self.fault, self.fault, self.console, self.cut,
                 self.rest]
        self.up(w)
        for _ in range(self.random.randint(4, 8)):
            step = self.random.choice(steps)
            self.note(step.__name__)
            step(w)
            time.sleep(self.random.choice([0, 0.2, 1, 2]))

    def client(self, w, method, **parameters):
        """Somebody calls, and does not stay for the answer."""
        with contextlib.suppress(OSError):
            self.clients.append(w.d.varlink())
            self.clients[-1].send(method, parameters, more=True)

    def up(self, w):
        self.client(w, "Up", model=MODEL, gpu="4090D")

    def put_to_sleep(self, w):
        self.client(w, "Sleep", target=MODEL)

    def down(self, w):
        self.client(w, "Down", target=MODEL)

    def request(self, w):
        def ask():
            try:
                status = w.ask(limit_s=LONG_S + 20, headers={"X-LLMHost-Max-Wait": str(LONG_S)})
            except Exception as e:              # the daemon's own end is told by the end of the connection
                status = type(e).__name__
            with self.lock:
                self.answers.append(status)
        self.requests.append(threading.Thread(target=ask))
        self.requests[-1].start()

    def kill(self, w):
        w.d.kill()
        time.sleep(self.random.choice([0, 0.5, 3]))
        w.d.start()

    def fault(self, w):
        if self.random.random() < 0.7:
            name, on = self.random.choice(ACTS), self.random.choice(["create", "power_on", "power_off"])
        else:
            name, on = self.random.choice(READS), self.random.choice(["list", "snapshot", "status", "balance"])
        self.note(name, "on", on)
        w.c.fault(name, on=on, times=self.random.randint(1, 2), **({"seconds": 2} if name.startswith("slow") else {}))

    def console(self, w):
        for machine in w.ours():
            button = self.random.choice(["power_on", "power_off", "pull_plug"])
            with contextlib.suppress(companies.Trouble):        # not in this state
                w.c.press(button, machine["uuid"])
                self.note(button)

    def cut(self, w):
        for uuid in w.paid():
            with contextlib.suppress(hosts.HostError, OSError):
                box = w.c.box(uuid)
                if box.pid:
                    box.fault("blackhole")
                    time.sleep(self.random.choice([0.5, 3]))
                    box.heal()

    def rest(self, w):
        time.sleep(3)

    def rests(self, w):
        """Nothing is wanted, the daemon knows of nothing that is on, and nothing is billed."""
        return (all(m["goal"] == "off" for m in w.d.call("Status")["models"]) and
                all(m["state"] in ("stopped", "absent") for m in w.machines()) and not w.paid())

    # How it ends -----------------------------------------------------------------------------------------------------

    def end(self, w):
        for thread in self.requests:
            thread.join(LONG_S + 30)
        self.note("answers:", self.answers)
        if len(self.answers) != len(self.requests):
            raise AssertionError(f"{len(self.requests)} requests, {len(self.answers)} answers")
        for client in self.clients:
            client.socket.close()
        w.c.heal()
        due = time.monotonic() + OFF_S
        while not self.rests(w) and time.monotonic() < due:     # what somebody switched on in the console needs a word of its own
            self.note("down")
            with contextlib.suppress(CallError):        # what may have been called is looked for, for minutes
                w.down(timeout_ms=1000)
            for machine in w.machines():
                with contextlib.suppress(CallError):
                    w.down(machine["name"], now=True, timeout_ms=1000)
            with contextlib.suppress(hosts.HostError):
                w.nothing_bills(10)
        if not self.rests(w):
            raise AssertionError(f"not at rest: {w.machines()}, paid: {w.paid()}")
        time.sleep(1)
        if w.paid():
            raise AssertionError(f"on again: {w.ours()}")
        if w.most_at_once() > 1:
            raise AssertionError(f"two machines at once: {w.c.bill()}")
        wrong = set(w.spent()) - set(w.billed())
        if wrong:
            raise AssertionError(f"exact, and not what was billed: {wrong} of {w.billed()}")


class Chaos(unittest.TestCase):
    def test_stories(self):
        numbers = range(SEED, SEED + STORIES)
        print(f"stories from {SEED}", flush=True)
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            running = {n: pool.submit(Story(n).run) for n in numbers}
            for n, story in running.items():
                with self.subTest(story=n):
                    story.result()
