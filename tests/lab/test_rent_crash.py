"""The daemon is killed at one of its own system calls (test_crash.py says how) while it rents, switches off, wakes and switches off for
good: never two machines, one where one is wanted, none where none is.

$RENT_KILLS: how many stories of four kills; $CRASH_SEED draws the same ones again."""
import concurrent.futures
import os
import random
import threading
import time
import unittest

from daemon import CallError
from rented import MODEL, World
from test_crash import count_calls, draw, kill_in

LIMIT_S = 700
OFF_S = 240                     # a call that may have been made is looked for so long (start_ms), before an off is believed
STORIES = int(os.environ.get("RENT_KILLS", "6"))
SEED = int(os.environ.get("CRASH_SEED", time.time_ns() % 1_000_000))
NEVER = {"idle": {"stop": "1h"}}
VERBS = {"rent": ("up", MODEL, "--gpu", "4090D"), "sleep": ("sleep", MODEL), "wake": ("up", MODEL), "down": ("down", MODEL)}


class Crash(unittest.TestCase):
    def test_kills_in_rent_stop_and_wake(self):
        with World(NEVER) as w:                 # undisturbed, to know what can be drawn
            most = {name: count_calls(w.d, lambda verb=verb: w.d.ctl(*verb)) for name, verb in VERBS.items()}
        self.inside, self.lock = [0, 0], threading.Lock()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            stories = {n: pool.submit(self.story, random.Random(SEED + n), most) for n in range(STORIES)}
            for n, story in stories.items():
                with self.subTest(seed=SEED, story=n):
                    story.result()
        print(f"seed {SEED}: {self.inside[1]} kills before the answer, {self.inside[0]} after", flush=True)
        self.assertGreater(self.inside[1], STORIES)

    def story(self, rng, most):
        at = {name: draw(rng, most[name]) for name in VERBS}
        try:
            with World(NEVER) as w:
                self.tell(w, at)
        except Exception as e:
            raise AssertionError(f"killed {at}: {e}") from e

    def kill(self, w, name, at):
        early = kill_in(w.d, VERBS[name], *at[name]) != 0
        with self.lock:
            self.inside[early] += 1
        w.d.start()

    def is_up(self, w):
        """Wanted: it comes up. A call that was written down and may never have been made is waited for, for minutes, before another one
        is: then nothing bills."""
        try:
            w.up(timeout_ms=30000)
        except CallError as e:
            self.assertEqual((e.name, w.state(), w.paid()), ("TimedOut", "unknown", []))
            return False
        self.assertEqual((len(w.ours()), len(w.paid()), w.ask()), (1, 1, 200))
        return True

    def is_off(self, w, method):
        """Nothing bills at once; that it is off is said when it is sure."""
        due = time.monotonic() + OFF_S
        while True:
            try:
                w.d.call(method, OFF_S, target=MODEL)
                break
            except CallError as e:              # nothing that bills: only a call that may still act
                self.assertEqual((e.name, w.paid()), ("StopNotConfirmed", []), e)
                self.assertLess(time.monotonic(), due, e)
        w.nothing_bills(1)

    def tell(self, w, at):
        self.kill(w, "rent", at)
        if self.is_up(w):
            self.kill(w, "sleep", at)
            self.is_off(w, "Sleep")
            self.kill(w, "wake", at)
            if self.is_up(w):
                self.kill(w, "down", at)
        self.is_off(w, "Down")
        self.assertLessEqual(max(len(w.ours()), w.most_at_once()), 1)
        self.assertLessEqual(set(w.spent()), set(w.billed()))


if __name__ == "__main__":
    unittest.main()
