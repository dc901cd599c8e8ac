"""A daemon with an account at the rental company on this machine, and what both sides say of what it rents there.

    with World() as w:                      # w.c: the company (company.py), w.d: the daemon; WHEN says how soon things happen
        w.up()                              # a model on a rented 4090D, ready
        w.ask()                             # a request of an application: its status
        w.machine()["rental"]["state"]      # as Status tells it
        w.wait("stopped")
        w.paid()                            # what of it bills just now, as the company counts
        w.check_bill()                      # the ledger is the bill

Each world has a company of its own, with somebody else's machine on it, which nobody may touch: leaving the block looks after that.

    class Rent(AtOnce):                     # tests that mostly wait for a provider: all that were asked for run at once
"""
import concurrent.futures
import contextlib
import inspect
import sqlite3
import sys
import time
import unittest

import company as companies
import daemon as daemons
import host as hosts

MODEL = "ollama:scripted"
SCRIPT = {"messages": [{"role": "user", "content": "count"}], "script": {"chunks": 1}}
WHEN = {"idle": {"unload": "1s", "stop": "2s", "min_up": "0s", "failed_hold": "2s"}}
PAID = ("creating", "starting", "running", "shutting_down")


class World:
    def __init__(self, when=None, foreign="off", account=None, options=("--engine", "scripted"), env=None, **times):
        """WHEN: sections of the settings over those above. ACCOUNT: limits for ProviderAdd; False: no account yet. ENV: the daemon's.
        TIMES: company.py's."""
        sections = {name: dict(keys) for name, keys in WHEN.items()}
        for name, keys in (when or {}).items():
            sections.setdefault(name, {}).update(keys)
        self.stack, self.sections = contextlib.ExitStack(), sections
        with contextlib.ExitStack() as stack:
            self.c = stack.enter_context(companies.Company(options=list(options), **times))
            self.foreign = self.c.rent(name="somebody", family="pro")
            if foreign == "running":
                self.c.press("power_on", self.foreign)
            self.d = stack.enter_context(daemons.Daemon(port=daemons.free_port(), env=env, **sections))
            if account is not False:
                self.add_account(**(account or {}))
            self.stack = stack.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, failed, *more):
        try:
            if failed:
                self.tell()
            else:
                self.check_foreign()
        finally:
            self.stack.__exit__(failed, *more)

    def tell(self):
        """Both sides of a story that went wrong."""
        for entry in self.c.calls()[-25:]:
            print(f"{entry['at']:.3f} {entry['call']} {entry['by']} {entry['instance']} {entry['fault']} -> {entry['code']}")
        for entry in self.c.events()[-25:]:
            print(f"{entry['at']:.3f} {entry['instance']} is {entry['status']} ({entry['why']})")
        with contextlib.suppress(Exception):
            print(self.d.ctl("status", check=False).stdout, flush=True)

    def check_foreign(self):
        """Somebody else's machine is as it was, and was never asked about by its id."""
        touched = [e for e in self.c.calls() if e["instance"] == self.foreign and e["by"] == "api"]
        if touched:
            raise AssertionError(f"a machine that is not ours was touched: {touched}")

    # What people do --------------------------------------------------------------------------------------------------

    def add_account(self, d=None, **limits):
        return (d or self.d).call("ProviderAdd", provider="autodl", token={"text": self.c.developer_token}, base_url=self.c.url, **limits)

    def up(self, model=MODEL, gpu="4090D", limit_s=90, **more):
        return self.d.call("Up", limit_s, model=model, gpu=gpu, **more)

    def ask(self, model=MODEL, limit_s=90, **more):
        """A request as applications make them."""
        return self.d.post("/v1/chat/completions", dict(SCRIPT, model=model.partition(":")[2]), timeout_s=limit_s, **more).status

    def down(self, target=MODEL, limit_s=90, **more):
        return self.d.call("Down", limit_s, target=target, **more)

    # What is seen ----------------------------------------------------------------------------------------------------

    def machines(self):
        return [i for i in self.d.call("Status")["instances"] if i["rented"]]

    def machine(self, name=None):
        found = [i for i in self.machines() if name in (None, i["name"])]
        if len(found) != 1:
            raise AssertionError(f"{len(found)} machines where there should be one: {found}")
        return found[0]

    def state(self, name=None):
        return self.machine(name)["state"]

    def wait(self, state, limit_s=30, name=None):
        return hosts.until(lambda: (m := self.machine(name))["state"] == state and m, limit_s,
                           f"{name or 'the machine'} {state}; it is {self.state(name)}", 0.05)

    def model_is(self, state, model=MODEL, limit_s=30):
        return hosts.until(lambda: (m := self.d.model(model)) and m["state"] == state and m, limit_s,
                           f"{model} {state}; it is {self.d.model(model)}", 0.05)

    def calls(self, *names):
        """What the daemon asked the company."""
        return [e for e in self.c.calls() if e["call"] in names and e["by"] == "api"]

    def ours(self):
        return [i for i in self.c.instances() if i["uuid"] != self.foreign]

    def paid(self):
        """Ours that bill, or are on their way there."""
        return [i["uuid"] for i in self.ours() if i["status"] in PAID]

    def nothing_bills(self, limit_s=60):
        hosts.until(lambda: not self.paid(), limit_s, f"the end of what bills: {self.ours()}", 0.05)

    def most_at_once(self):
        """How many machines of ours the bill ever had at the same second."""
        rows = [r for r in self.c.bill() if r["instance"] != self.foreign and r["kind"] == "compute"]
        now = time.time()
        return max((len({o["instance"] for o in rows if o["start"] <= r["start"] < (o["end"] or now)}) for r in rows), default=0)

    def two_at_once_s(self):
        """For how many seconds the bill had more than one."""
        now = time.time()
        rows = [(r["instance"], r["start"], r["end"] or now) for r in self.c.bill() if r["instance"] != self.foreign and r["kind"] == "compute"]
        return sum(max(0, min(end, until) - max(start, begun)) for n, (uuid, start, end) in enumerate(rows)
                   for other, begun, until in rows[:n] if other != uuid)

    # Money -----------------------------------------------------------------------------------------------------------

    def billed(self):
        """The company's closed intervals of ours: (id, from, to, rate, amount)."""
        return sorted((r["instance"], r["start"], r["end"], r["rate"], r["amount"]) for r in self.c.bill()
                      if r["instance"] != self.foreign and r["kind"] == "compute" and r["end"] is not None)

    def spent(self):
        """Those of the ledger that are told as exact; what came up late beside a machine has its name and "+ID"."""
        ids = {m["name"]: m["rental"].get("id") for m in self.machines()}
        return sorted((ids.get(r["instance"]) or r["instance"].partition("+")[2], r["from_at_ms"] // 1000, r["to_at_ms"] // 1000, r["rate_milli"], r["amount"]["milli"])
                      for r in self.d.call("Cost", since_at_ms=1)["rows"]
                      if r["kind"] == "compute" and r["from_basis"] == "stamp" and r.get("to_basis") == "stamp"
                      and not r["amount"]["estimate"])

    def spent_today(self):
        return self.d.call("Cost")["accounts"][0]["today"]["milli"]

    def reserved(self):
        """What of the limits is held for what was asked for and kept, on disk; what of that is spent by now is not taken off."""
        with contextlib.closing(sqlite3.connect(f"file:{self.d.state}/llmhost.db?mode=ro", uri=True)) as db:
            return db.execute("SELECT ifnull(sum(reserved_milli), 0) FROM intent WHERE resolved_at_ms IS NULL OR held").fetchone()[0]

    def check_bill(self):
        """All of the bill stands in the ledger, to the second and to the thousandth."""
        hosts.until(lambda: self.spent() == self.billed(), 5, f"the ledger {self.spent()} is the bill {self.billed()}")


class AtOnce(unittest.TestCase):
    """Its tests run at once, each in a thread, and are told of one after the other."""
    at_once = 6

    def __init_subclass__(cls):
        cls.stories = {name: f for name, f in vars(cls).items() if name.startswith("test_") and inspect.isfunction(f)}
        for name in cls.stories:
            setattr(cls, name, lambda self, name=name: self.running[name].result())

    @classmethod
    def setUpClass(cls):
        pool = concurrent.futures.ThreadPoolExecutor(cls.at_once)
        cls.addClassCleanup(pool.shutdown)
        asked = sys.argv[2:] if sys.argv[0].endswith("cases.py") else []
        whole = f"{cls.__module__}.{cls.__name__}."
        cls.running = {name: pool.submit(cls.tell, name) for name in cls.stories
                       if not asked or any(a in whole + name for a in asked)}

    @classmethod
    def tell(cls, name):
        teller = cls(name)
        try:
            cls.stories[name](teller)
        finally:
            teller.doCleanups()
