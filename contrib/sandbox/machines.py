"""The two kinds of machine the company has, and the switch each hangs on.

    process     hosts.py: an sshd of your own on a loopback port, no root needed; the demonstration
    netns       tests/lab/host.py: address, disk and processes of its own; root, inside the tests' enclosure

A machine is asked: plan() for where it will be found after the next power-on, on(), ended(), off(), remove(). These take up to a
second, so a Switch, one thread per machine, does them; the company only says what it wants.

"running" comes before sshd (reference/autodl.md l.553), and nobody listens on the port until then. A netns machine runs meanwhile, its
sshd not yet; a process machine comes late as a whole.
"""
import contextlib
import os
import secrets
import sys
import threading
import time
import traceback

import hosts

LOOK_S = 0.05


class ProcessMachine:
    sshd_later = False

    def __init__(self, name, options):
        self.options = options
        self.host = hosts.Rented(options.dir + "/machines", name, options.key, options.image)
        self.process = None

    def secret(self, what):
        return secrets.token_urlsafe(12)

    def plan(self, same=None):
        return same or {"host": "127.0.0.1", "port": hosts.free_port(), "password": self.secret("password")}

    def on(self, place, start_command, new_key, due):
        if new_key:
            for file in ("host_key", "host_key.pub"):
                os.unlink(f"{self.host.place}/{file}")
        self.host.password, self.host.start = place["password"], start_command
        try:
            self.host.up(place["port"], self.options.sshd_program, self.options.bind)
        finally:
            self.process = getattr(self.host, "process", None)

    def ended(self):
        return self.process is None or self.process.poll() is not None

    def off(self):
        self.host.down(wipe=False)
        if self.process:
            self.process.stdin.close()
            self.process.wait()
            self.process = None

    def remove(self):
        self.off()
        self.host.down(wipe=True)


class NetnsMachine:
    sshd_later = True

    def __init__(self, name, options):
        sys.path.append(os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../tests/lab"))
        import host as lab_hosts
        import planted
        self.lab, self.planted = lab_hosts, planted
        self.host = lab_hosts.Host(name, disk=options.disk, engines=options.engine, data="/root/autodl-tmp")
        self.started, self.sshd_due = [], None

    def secret(self, what):
        return self.planted.new(f"{what} of {self.host.name}")

    def plan(self, same=None):
        return same or {"host": self.host.ip, "port": 20000 + secrets.randbelow(40000), "password": self.secret("password")}

    def on(self, place, start_command, new_key, due):
        self.sshd_due = due
        self.host.prepare_disk(wipe=False)
        os.makedirs(self.host.upper("/usr/bin"), exist_ok=True)
        self.host.write_upper("/usr/bin/shutdown", hosts.SHUTDOWN, 0o755)
        self.host.hide("/usr/sbin/shutdown")    # systemd's, which stands in front of it and is no use there
        self.host.up(port=place["port"], password=place["password"], new_key=new_key, wait=False, sshd=False)
        pid = self.host.pid                     # booted when it has a /run of its own
        self.lab.until(lambda: os.path.exists(f"/proc/{pid}/root/run/no-sshd"), 10, f"{self.host.name}: boot")
        if start_command:
            self.started.append(self.host.start("sh", "-c", start_command))

    def ended(self):
        self.started = [p for p in self.started if p.poll() is None]
        if self.sshd_due and time.monotonic() >= self.sshd_due and self.host.pid:
            self.sshd_due = None
            self.host.run("rm", "-f", "/run/no-sshd", check=False)
        return not self.host.pid

    def off(self):
        self.host.down()
        for process in self.started:
            process.wait()
        self.started = []

    def remove(self):
        self.off()
        self.lab.command("umount", self.host.dir + "/disk", check=False)
        self.lab.command("rm", "-rf", self.host.dir)


KINDS = {"process": ProcessMachine, "netns": NetnsMachine}


class Switch(threading.Thread):
    """Brings one machine to what was last wanted of it. ended(machine's own doing) is called from here when it went off by
    itself: from the inside, or because somebody pulled the plug."""

    def __init__(self, machine, ended):
        super().__init__(daemon=True)
        self.machine, self.ended = machine, ended
        self.wanted, self.is_on, self.over = None, False, False     # wanted: arguments of machine.on(), or None
        self.is_ready = False           # is_on, and on() has returned
        self.condition = threading.Condition()
        self.start()

    def turn_on(self, place, start_command, new_key, sshd_s):
        self.want((place, start_command, new_key, time.monotonic() + sshd_s))

    def turn_off(self):
        self.want(None)

    def remove(self):
        self.want(None, over=True)

    def want(self, wanted, over=False):
        with self.condition:
            self.wanted, self.over = wanted, self.over or over
            self.condition.notify()

    def run(self):
        while not self.over:
            wanted = self.wanted
            try:
                self.bring_to(wanted)
            except Exception:                   # a machine that does not come up is as one that went off
                traceback.print_exc()
                with contextlib.suppress(Exception):
                    self.went_off(wanted)
            with self.condition:
                if self.wanted is wanted and not self.over:
                    self.condition.wait(LOOK_S)
        try:
            self.machine.remove()
        except Exception:
            traceback.print_exc()

    def bring_to(self, wanted):
        if wanted and not self.is_on:
            if self.machine.sshd_later or time.monotonic() >= wanted[-1]:
                self.is_on = True
                self.machine.on(*wanted)
                self.is_ready = True
        elif self.is_on and not wanted:
            self.is_ready = False
            self.machine.off()
            self.is_on = False
        elif self.is_on and self.machine.ended():
            self.went_off(wanted)

    def went_off(self, wanted):
        with self.condition:
            if self.wanted is wanted:
                self.wanted = None
        self.is_ready = False
        self.machine.off()
        self.is_on = False
        self.ended()
