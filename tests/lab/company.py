"""The rental company on this machine (contrib/sandbox), for tests.

    with Company() as c:                        # netns machines; how long things take: see QUICK
        c.url, c.developer_token, c.web_token   # what a customer knows
        c.fault("lost", on="power_off")         # faults by name: contrib/sandbox/faults.py; c.heal()
        c.press("power_off", uuid)              # somebody in the console
        c.bill(); c.calls(); c.events()         # what it came to; what was asked, when it took effect; every change of a status
        c.box_up(uuid).fault("blackhole")       # waits for the machine itself, a host.Host; c.box(uuid) does not

Every verb of `sandbox ctl help` is a method: c.stock("4090D", 0), c.account(verified=False), c.rent(name="mine"), c.age(uuid, 10).
Machines with an engine, as host.py has them: Company(options=["--engine", "ollama", "--disk", "256m"]).
Tokens and passwords count as planted secrets.
"""
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile

import host as hosts
import planted

FOLDER = hosts.REPO + "/contrib/sandbox"
sys.path.append(FOLDER)                 # for its own client; its company.py is not this one
import control

Trouble = control.Trouble
OFF = ("shutdown", "shutdown_by_starting_error", "failed")
QUICK = {"create": 0.1, "boot": 0.2, "sshd": 0.1, "stop": 0.1, "save": 0.2}
START_S = 60            # on a machine where everybody waits for a processor, too


class Company:
    def __init__(self, kind="netns", program=FOLDER + "/sandbox", options=(), how=None,
                 python=sys.executable, **times):
        """times: options of `sandbox start` that are numbers, release_days and assets too. how: more for Popen, such as a user."""
        self.dir = tempfile.mkdtemp(dir=hosts.STATE, prefix="company.")
        how = how or {}
        if "user" in how:
            os.chown(self.dir, how["user"], how["group"])
        words = [program, "start", "--json", "--hosts", kind, "--dir", self.dir, *options]
        for name, value in dict(QUICK, **times).items():
            words += ["--" + name.replace("_", "-"), str(value)]
        self.log = self.dir + "/log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([python, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                            stderr=log, **how)
        ready = select.poll()                   # there may be more than a thousand files open
        ready.register(self.process.stdout, select.POLLIN)
        line = self.process.stdout.readline() if ready.poll(START_S * 1000) else b""
        if not line:
            self.process.kill()
            raise hosts.HostError(f"the sandbox did not start: {self.said()}")
        said = json.loads(line)
        self.url, self.control = said["url"], said["control"]
        self.developer_token = planted.register("developer token", said["developer_token"])
        self.web_token = planted.register("web token", said["web_token"])

    def said(self):
        """What the sandbox complained of: nothing, when all is well."""
        with open(self.log, errors="replace") as f:
            return f.read()

    def __getattr__(self, verb):
        if verb not in control.VERBS:
            raise AttributeError(verb)
        names = control.VERBS[verb][1]

        def ask(*words, **more):
            if len(words) > len(names):
                raise TypeError(f"{verb}: {' '.join(names)}, all others by name")
            return control.ask(self.control, verb, **dict(zip(names, words)), **more)
        return ask

    def instance(self, uuid):
        """Everything the company itself knows of it; None once it is released."""
        return next((i for i in self.instances() if i["uuid"] == uuid), None)

    def box(self, uuid):
        return hosts.Host.find(uuid[:12] if uuid.startswith("pro-") else "o-" + uuid[-8:])

    def box_up(self, uuid, limit_s=10):
        """The machine when it has booted; its sshd may come later. A host's pid alone does not say so."""
        def booted():
            found = self.instance(uuid)
            return found and found["is_ready"]
        hosts.until(booted, limit_s, f"{uuid}: a machine; {self.said()}", 0.05)
        return self.box(uuid)

    def until(self, uuid, status, limit_s=10):
        """Waits for a status of an instance, and for its machine to be as that says."""
        def there():
            found = self.instance(uuid)
            return found and found["status"] == status and (status != "shutdown" or not found["is_on"]) and found
        return hosts.until(there, limit_s, f"{uuid}: {status}; {self.said()}")

    def stop(self):
        """Everything off; returns the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            status = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)        # it says what it was doing
            self.process.wait()
            raise hosts.HostError(f"the sandbox did not end: {self.said()}") from None
        self.process.stdout.close()
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)
