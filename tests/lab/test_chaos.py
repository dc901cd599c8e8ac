"""Random stories of renting: people and applications want things, the company errs, links break, the daemon is killed, its clock is set,
somebody presses buttons in the console, another llmhostd wants the same machine, a call acts when nobody waits for it any more. After each:
what nobody wants is off, the bill never had two machines (but for such a call: then one is stopped when the list is read next), the ledger is
the bill where it says that it is exact, and every request got exactly one answer.

The lab tells 40, of which one is new each time; `tests/run rent-chaos` tells 1,000. $STORIES: how many; $RENT_SEED: from this number on,
one after the other. A story is told again by its number: RENT_SEED=N STORIES=1.
"""
import concurrent.futures
import contextlib
import os
import random
import threading
import time
import unittest

import company as companies
import daemon as daemons
import host as hosts
from clocks import Clock
from daemon import CallError
from rented import MODEL, World

LIMIT_S = 700
STORIES = int(os.environ.get("STORIES") or 40)
SEED = int(os.environ.get("RENT_SEED") or 0)
# Every tenth waits the usual three minutes for a call without an answer, which is too long for the lab.
ALWAYS = [n for n in range(30000, 31000) if n % 10]
NEW = random.SystemRandom().randrange(10**4, 10**5) * 10 + 1
NUMBERS = list(range(SEED, SEED + STORIES)) if SEED else ALWAYS[:STORIES - 1] + [NEW]
AT_ONCE = int(os.environ.get("AT_ONCE") or 10)
# A machine that cannot be reached is waited for two minutes (manager_power.c), a call without an answer for three ([guard] settle).
OFF_S = 240
LOOK_S = 60                     # between two lists, at most: so long two machines may both be on
LONG_S = 12                     # no request waits longer: X-LLMHost-Max-Wait
# What happens at once and is told wrongly, or is told and does not happen; what hangs for long would need longer stories.
ACTS = ["reset", "cut", "cut_after", "bad_gateway", "bad_gateway_after", "html", "html_after", "garbage", "empty", "null_data", "no_stock",
        "too_many", "unavailable", "slow", "slow_before", "unknown_code", "wrong_state"]
LATE_S = [3, 8, 20]             # after it was given up
JUMPS_S = [-20 * 86400, -3600, -90, 0, 90, 3600, 20 * 86400]
READS = ["bad_gateway", "unavailable", "html", "cut", "garbage", "empty", "slow", "hidden", "too_many"]


class Story:
    """One of them: the same steps for the same number."""

    def __init__(self, number):
        self.random = random.Random(number)
        self.number, self.told, self.answers, self.requests, self.clients = number, [], [], [], []
        self.lock, self.other, self.clock = threading.Lock(), None, Clock()
        self.settle_s = 180 if number % 10 == 0 else self.random.choice([10, 10, 30])
        self.has_late = False                   # a call acts when it was given up

    def run(self):
        draw = self.random
        times = {"create": draw.choice([0.1, 1]), "boot": draw.choice([0.2, 2]), "sshd": draw.choice([0.1, 1]), "stop": draw.choice([0.1, 1])}
        began = time.monotonic()
        when = {"idle": {"unload": "1s", "stop": draw.choice(["1s", "3s"]), "min_up": draw.choice(["0s", "2s"])},
                "guard": {"settle": f"{self.settle_s}s"}}
        with self.clock, World(when, env=self.clock.env(), **times) as w, contextlib.ExitStack() as others:
            try:
                self.others = others
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
                 self.rest, self.jump, self.second, self.late]
        if self.settle_s < 180 and self.random.random() < 0.2:
            self.late(w)
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

    def late(self, w):
        """One call of these is answered with an error, or not at all, and acts when it was given up. Once: two machines are enough."""
        if not self.has_late and self.settle_s < 180:
            name, on = self.random.choice(["bad_gateway_late", "timeout_late"]), self.random.choice(["create", "power_on", "power_off"])
            after = self.settle_s + self.random.choice(LATE_S)
            self.has_late = True
            self.note(name, "on", on, "after", after, "s")
            w.c.fault(name, on=on, seconds=after)

    def have_acted(self, w):
        """All that was asked has acted, or will not."""
        return not any(e["fault"].endswith("_late") and not e["effect_at"] and time.time() - e["at"] < self.settle_s + LATE_S[-1] + 1
                       for e in w.c.calls())

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

    def jump(self, w):
        seconds = self.random.choice(JUMPS_S)
        self.note(seconds, "s")
        self.clock.set(seconds)

    def second(self, w):
        """Another llmhostd of the same customer takes the machine there is, wants it on, or no longer."""
        verb = self.random.choice(["Up", "Down"])
        if not self.other:
            self.other = self.others.enter_context(daemons.Daemon(port=daemons.free_port(), **w.sections))
            hosts.until(lambda: self.has_account(w), 30, "its account")
        with contextlib.suppress(CallError, OSError):       # the company errs to this one, too; and the machine may be no longer there
            for uuid in [i["uuid"] for i in w.ours()][:1]:
                self.other.call("InstanceAdd", name="theirs", provider="autodl", id=uuid)
        with contextlib.suppress(CallError, OSError):
            if verb == "Up":
                self.other.call("Up", model=MODEL, on="theirs", wait=False)
            else:
                self.other.call("Down", target=MODEL, timeout_ms=500)
        self.note("the other one:", verb)

    def has_account(self, w):
        with contextlib.suppress(CallError):    # the company errs to this one, too
            w.add_account(self.other)
            return True

    def rest(self, w):
        time.sleep(3)

    def rests(self, w):
        """Nothing is wanted, no daemon knows of anything that is on, and nothing is billed."""
        for d in filter(None, (w.d, self.other)):
            status = d.call("Status")
            if any(m["goal"] != "off" for m in status["models"]) or \
               any(m["state"] not in ("stopped", "absent") for m in status["instances"] if m["rented"]):
                return False
        return not w.paid()

    @staticmethod
    def stop_all(d):
        with contextlib.suppress(CallError):            # what may have been called is looked for, for minutes
            d.call("Down", target=MODEL, timeout_ms=1000)
        for machine in d.call("Status")["instances"]:
            if machine["rented"]:
                with contextlib.suppress(CallError):
                    d.call("Down", target=machine["name"], now=True, timeout_ms=1000)

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
        hosts.until(lambda: self.have_acted(w), self.settle_s + 30, "all calls have acted")
        due = time.monotonic() + OFF_S
        while not self.rests(w) and time.monotonic() < due:     # what somebody switched on in the console needs a word of its own
            self.note("down")
            for d in filter(None, (self.other, w.d)):
                self.stop_all(d)
            with contextlib.suppress(hosts.HostError):
                w.nothing_bills(10)
        if not self.rests(w):
            raise AssertionError(f"not at rest: {w.machines()}, paid: {w.paid()}")
        time.sleep(1)
        if w.paid():
            raise AssertionError(f"on again: {w.ours()}")
        two_s = w.two_at_once_s()
        if w.most_at_once() > 2 or two_s > (LOOK_S + 30 if self.has_late else 0):
            raise AssertionError(f"two machines at once, for {two_s} s: {w.c.bill()}")
        wrong = set(w.spent()) - set(w.billed())
        if wrong:
            raise AssertionError(f"exact, and not what was billed: {wrong} of {w.billed()}")


class Chaos(unittest.TestCase):
    def test_stories(self):
        print(f"stories {NUMBERS[0]} to {NUMBERS[-2] if len(NUMBERS) > 1 else NUMBERS[0]}, {NUMBERS[-1]}", flush=True)
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            running = {n: pool.submit(lambda n: Story(n).run(), n) for n in NUMBERS}       # which has a file open from its beginning on
            for n, story in running.items():
                with self.subTest(story=n):
                    story.result()
