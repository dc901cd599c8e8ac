"""The daemon is killed at one of its own system calls (test_crash.py says how) while it rents, puts to sleep, wakes and switches off for
good: never two machines, one where one is wanted, none where none is, and none when it stays dead for as long as a lease.

It is a walk: what each word makes it call, from the word to the answer, is counted twice, undisturbed, and the lower count holds (what is
asked again while a machine is slow is no step of its own); then it is killed at each of these calls, or at every $RENT_STRIDE-th (the
lab: few; `tests/run crash`: every one), from a first one on that $CRASH_SEED names: with a stride of 2, the seeds 0 and 1 share the
walk. $RENT_STORIES=42, or 83-117: only these, as a failure names them.
"""
import concurrent.futures
import os
import threading
import time
import unittest

from daemon import CallError
from rented import MODEL, World
from test_crash import CALLS, count_calls, kill_in

LIMIT_S = 700
STRIDE = int(os.environ.get("RENT_STRIDE", "0"))        # 0: so that there are STORIES
STORIES, AT_ONCE = 6, 8
ONLY = [int(n) for n in filter(None, os.environ.get("RENT_STORIES", "").split("-"))]
SEED = int(os.environ.get("CRASH_SEED", time.time_ns() % 1_000_000))
# What leaves something outside of the process: on the disk, at the company, at the machine, at a caller. Who is killed between two of
# these leaves what is left by who is killed at the second of them.
WALKED = [c for c in CALLS if c in ("write", "writev", "pwrite64", "sendto", "sendmsg", "fsync", "fdatasync", "ftruncate", "rename", "renameat",
                                    "unlink", "unlinkat", "mkdir", "connect")]
SETTLE_S, LEASE_S, FIRST_S, GUARD_S = 8, 15, 20, 40    # GUARD_S: a guard is so late at most (reference/lease.md §1)
OFF_S = SETTLE_S + 60           # a call that may have been made is looked for so long, before an off is believed
WHEN = {"idle": {"stop": "1h"}, "guard": {"settle": f"{SETTLE_S}s"}}
LEFT = {**WHEN, "guard": {**WHEN["guard"], "lease": f"{LEASE_S}s", "first": f"{FIRST_S}s"}}     # of the one that stays dead
VERBS = {"rent": ("up", MODEL, "--gpu", "4090D"), "sleep": ("sleep", MODEL), "wake": ("up", MODEL), "down": ("down", MODEL)}


def walk(most, stride, first):
    """(call, k) of all that a word makes."""
    return [(call, k) for call in WALKED for k in range(1, most.get(call, 0) + 1)][first::stride]


class Crash(unittest.TestCase):
    def test_kills_in_rent_stop_and_wake(self):
        with World(WHEN) as w:
            rounds = [{name: count_calls(w.d, lambda verb=verb: w.d.ctl(*verb)) for name, verb in VERBS.items()} for _ in range(2)]
        most = {name: {call: min(r[name].get(call, 0) for r in rounds) for call in rounds[0][name]} for name in VERBS}
        longest = max(len(walk(m, 1, 0)) for m in most.values())
        stride = STRIDE or max(1, longest // STORIES)
        steps = {name: walk(m, stride, SEED % min(stride, len(walk(m, 1, 0)))) for name, m in most.items()}
        stories = max(map(len, steps.values()))
        told = range(ONLY[0], min(stories, ONLY[-1] + 1)) if ONLY else range(stories)
        print(f"seed {SEED}, every {stride} of", {name: len(walk(m, 1, 0)) for name, m in most.items()}, "calls", flush=True)
        self.inside, self.lock = [0, 0], threading.Lock()
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            running = {n: pool.submit(self.story, n, self.at(n, steps)) for n in told}
            for n, story in running.items():
                with self.subTest(seed=SEED, stride=stride, story=n):
                    story.result()
        print(f"{len(told)} stories: {self.inside[1]} kills before the answer, {self.inside[0]} after", flush=True)
        self.assertGreater(self.inside[1], 2 * len(told))

    @staticmethod
    def at(n, steps):
        """Only every second story comes to its down."""
        return {name: walked[(n // 2 if name == "down" else n) % len(walked)] for name, walked in steps.items()}

    def story(self, n, at):
        try:
            with World(WHEN) as w:
                self.tell(w, at, n % 2)
        except Exception as e:
            print(f"story {n}, killed {at}: {e}", flush=True)      # there may be hours until its turn to be told of
            raise AssertionError(f"killed {at}: {e}") from e

    def kill(self, w, name, at, start=True):
        early = kill_in(w.d, VERBS[name], *at[name]) != 0
        with self.lock:
            self.inside[early] += 1
        if start:
            w.d.start()

    def is_up(self, w):
        """Wanted: it comes up, also where a call was written down and may never have been made, which is waited for first."""
        w.up(timeout_ms=(OFF_S + 30) * 1000, limit_s=OFF_S + 60)
        self.assertEqual((len(w.ours()), len(w.paid()), w.ask()), (1, 1, 200))

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

    def tell(self, w, at, stays_dead):
        self.kill(w, "rent", at)
        self.is_up(w)
        if stays_dead:
            w.d.configure(**{**w.sections, **LEFT})
        self.kill(w, "sleep", at)
        self.is_off(w, "Sleep")
        self.kill(w, "wake", at, start=not stays_dead)
        if stays_dead:
            w.nothing_bills(max(LEASE_S, FIRST_S) + GUARD_S + 5)
            w.d.start()
        else:
            self.is_up(w)
            self.kill(w, "down", at)
        self.is_off(w, "Down")
        self.assertLessEqual(max(len(w.ours()), w.most_at_once()), 1)
        self.assertLessEqual(set(w.spent()), set(w.billed()))


if __name__ == "__main__":
    unittest.main()
