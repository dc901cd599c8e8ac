"""The company itself: account, price list, stock, instances and their life. Knows nothing of HTTP.

An instance lives as reference/autodl.md says (§4.1 its states, §5 its life and its bill; lines l.N are that page's):

    creating -> starting -> running -> shutting_down -> shutdown -> starting ...; release: gone

What an API call does comes in two halves, because faults come between them: check_x() refuses or not, x() is the effect, which
looks again, since the world may have moved on. All is done under one lock. Time is the real one; how long things take is an
option, and the stamps of a list are the very seconds of the bill.
"""
import dataclasses
import datetime
import json
import os
import secrets
import threading
import time

import agenda
import bill
import faults
import machines
from faults import refuse

OFF = ("shutdown", "shutdown_by_starting_error", "failed")
DAY_S = 86400
TICK_S = 0.1
TZ = datetime.timezone(datetime.timedelta(hours=8))         # l.68


def data():
    with open(os.path.join(os.path.dirname(os.path.realpath(__file__)), "data/autodl.json")) as f:
        return json.load(f)


@dataclasses.dataclass
class Instance:
    uuid: str
    name: str
    family: str                 # pro, console
    spec: str
    gpus: int
    region: str
    image: str
    start_command: str
    created: float
    disk_gb: int                # beyond what is free
    charge: str = "payg"
    status: str = "creating"
    status_at: float = 0
    mode: str = "gpu"
    cycle: int = 0              # counts power-ons and -offs: what was planned before is void
    started: int | None = None  # the last cycle's: old while a new one boots (l.193)
    stopped: int | None = None
    expires: float | None = None
    auto_payg: bool = False
    timed: float | None = None
    place: dict | None = None   # host, port, password of this power cycle
    old_place: dict | None = None
    holds: tuple | None = None  # what it took from the stock
    usage_at: float = 0
    command: str = ""           # of this power-on
    machine_gpus: list = dataclasses.field(default_factory=lambda: [8, 8])     # console: cards of its host, idle and all
    jupyter: str = ""


class Company:
    def __init__(self, options):
        self.options, self.lock, self.over = options, threading.RLock(), threading.Event()
        self.data = data()
        self.specs, self.instances, self.switches, self.images = self.data["specs"], {}, {}, []
        self.operations = ()            # names of the calls that there are, for those who order faults; (): anybody's guess
        self.sold_out = set()           # (spec, reported region): what the stock of the spec says does not hold there
        self.bill, self.faults, self.calls, self.events, self.messages = bill.Bill(), faults.Faults(), [], [], []
        self.account = {
            "assets": options.assets, "verified": True, "wechat_bound": True,
            "shutdown": "ends",                 # or bills: what /usr/bin/shutdown in the box does to the bill (l.506-508)
            "developer_on_console": False,      # l.339-342: unsure, so it may be switched
            "timed_format": "any",              # or text, or ms (l.356: which one is accepted is unsure)
            "rotate": True,                     # a new port and password for each power cycle (l.555)
            "developer_token": "", "web_token": ""}
        self.account.update(developer_token="dev-" + secrets.token_hex(16), web_token="web-" + secrets.token_hex(16))
        self.agenda = agenda.Agenda(self.lock)
        with self.lock:
            self.agenda.every(TICK_S, self.tick)

    def end(self):
        """Everything off; the bill says what it came to."""
        self.over.set()
        self.agenda.end()
        with self.lock:
            now = int(time.time())
            for instance in self.instances.values():
                self.bill.close(instance.uuid, now)
            switches = list(self.switches.values())
        for switch in switches:
            switch.remove()
        for switch in switches:
            switch.join(20)

    # What is there ---------------------------------------------------------------------------------------------------

    def find(self, uuid, family):
        """l.471: also another family's."""
        instance = self.instances.get(uuid)
        return instance if instance and instance.family == family else refuse("not_found")

    def assets(self):
        return self.account["assets"] - self.bill.total(time.time())

    def rate(self, instance):
        if instance.mode == "non_gpu":
            return bill.NO_GPU_RATE
        return self.specs[instance.spec]["price"] * instance.gpus

    def set(self, instance, status, why):
        instance.status, instance.status_at = status, time.time()
        self.events.append({"at": instance.status_at, "instance": instance.uuid, "status": status, "why": why})

    # Stock -----------------------------------------------------------------------------------------------------------

    def has_stock(self, instance, mode):
        if instance.family == "console":
            return mode == "non_gpu" or instance.machine_gpus[0] >= instance.gpus
        if (instance.spec, instance.region) in self.sold_out:
            return False
        return self.specs[instance.spec]["stock"] is None or self.specs[instance.spec]["stock"] >= instance.gpus

    def take(self, instance):
        if instance.family == "console" and instance.mode == "gpu":
            instance.machine_gpus[0] -= instance.gpus
        elif instance.family == "pro" and self.specs[instance.spec]["stock"] is not None:
            self.specs[instance.spec]["stock"] -= instance.gpus
        instance.holds = (instance.family, instance.mode)

    def give_back(self, instance):
        """l.491: a machine that is off keeps no card."""
        if instance.holds == ("console", "gpu"):
            instance.machine_gpus[0] += instance.gpus
        elif instance.holds == ("pro", "gpu") and self.specs[instance.spec]["stock"] is not None:
            self.specs[instance.spec]["stock"] += instance.gpus
        instance.holds = None

    # Life ------------------------------------------------------------------------------------------------------------

    def check_account(self):
        if not self.account["verified"]:
            refuse("not_verified")                          # l.152, l.472

    def check_balance(self):
        if self.assets() <= 0:
            refuse("low_balance")

    def new(self, family, name, spec, gpus, region, image, start_command="", disk_gb=0):
        """Made, not yet there: see create()."""
        uuid = "pro-" + secrets.token_hex(6) if family == "pro" else secrets.token_hex(5) + "-" + secrets.token_hex(4)
        return Instance(uuid, name, family, spec, gpus, region, image, start_command, time.time(), disk_gb)

    def create(self, instance, why="create"):
        """Creation boots at once (l.148)."""
        if not self.has_stock(instance, "gpu"):
            return
        self.add(instance)
        self.take(instance)
        instance.command = instance.start_command
        self.set(instance, "creating", why)
        self.agenda.later(self.options.create, self.creating_is_over, instance, instance.cycle)

    def add(self, instance):
        self.instances[instance.uuid] = instance
        short = instance.uuid[:12] if instance.family == "pro" else "o-" + instance.uuid[-8:]
        machine = machines.KINDS[self.options.hosts](short, self.options)
        instance.jupyter = machine.secret("jupyter token")
        self.switches[instance.uuid] = machines.Switch(machine, lambda: self.went_off(instance))

    def creating_is_over(self, instance, cycle):
        if instance.cycle == cycle and instance.status == "creating":
            self.boot(instance, "created")

    def check_start(self, instance, mode):
        if instance.status not in OFF:
            refuse("wrong_state")
        self.check_balance()
        if not self.has_stock(instance, mode):
            refuse("no_stock" if instance.family == "pro" else "host_full")       # l.208; l.498
        if mode == "non_gpu" and any(i.mode == "non_gpu" and i.status not in OFF for i in self.instances.values()):
            refuse("wrong_state")                           # l.503: one at a time

    def power_on(self, instance, mode, start_command=None, why="power_on"):
        if instance.uuid not in self.instances or instance.status not in OFF or not self.has_stock(instance, mode):
            return
        instance.mode = mode
        instance.command = instance.start_command if start_command is None else start_command     # l.205
        self.take(instance)
        self.boot(instance, why)

    def boot(self, instance, why):
        instance.cycle += 1
        self.set(instance, "starting", why)
        self.agenda.later(self.options.boot, self.boot_is_over, instance, instance.cycle)

    def boot_is_over(self, instance, cycle):
        if instance.cycle != cycle or instance.status != "starting":
            return
        suffers = self.faults.take_boot(instance.uuid)
        if "boot_fails" in suffers:
            usual = "shutdown" if instance.family == "pro" else "shutdown_by_starting_error"      # l.412, l.695
            self.give_back(instance)
            return self.set(instance, suffers["boot_fails"].word or usual, "boot failed")
        instance.old_place = instance.place
        same = instance.place if instance.family == "console" or not self.account["rotate"] else None
        instance.place = self.switches[instance.uuid].machine.plan(same)
        instance.started = int(time.time())
        self.set(instance, "running", "boot")
        self.bill.open(instance.uuid, instance.name, instance.mode, instance.started,
                       0 if instance.charge != "payg" else self.rate(instance))
        late = suffers["sshd_late"].seconds if "sshd_late" in suffers else 0
        command = "" if "no_start_command" in suffers else instance.command
        self.switches[instance.uuid].turn_on(instance.place, command, "new_host_key" in suffers, self.options.sshd + late)

    def check_stop(self, instance):
        """l.215: while it starts, power_off is heard and does nothing; l.79: while it stops, it is an error."""
        if instance.status in OFF or instance.status == "shutting_down":
            refuse("wrong_state")

    def power_off(self, instance, why="power_off"):
        if instance.uuid not in self.instances or instance.status != "running":
            return
        instance.cycle += 1
        instance.usage_at = time.time()
        self.set(instance, "shutting_down", why)
        self.switches[instance.uuid].turn_off()
        self.agenda.later(self.options.stop, self.stop_is_over, instance, instance.cycle)

    def stop_is_over(self, instance, cycle):
        if instance.cycle != cycle:
            return
        if self.switches[instance.uuid].is_on:              # a box that still runs is not off
            return self.agenda.later(0.02, self.stop_is_over, instance, cycle)
        instance.stopped, instance.timed = int(time.time()), None
        self.bill.close(instance.uuid, instance.stopped)
        self.give_back(instance)
        self.set(instance, "shutdown", "off")

    def went_off(self, instance):
        """The box ended without being told to: shutdown inside of it, or it died (l.506)."""
        with self.lock:
            if instance.status == "running" and self.account["shutdown"] == "ends":
                self.power_off(instance, "from inside")

    def restart_box(self, instance):
        """The platform's own doing: the same power cycle, nothing of the customer's runs (reference/lease.md §1.7)."""
        switch = self.switches[instance.uuid]
        if instance.status == "running":
            switch.turn_off()
            self.agenda.later(0.1, self.restarted, instance, instance.cycle)

    def restarted(self, instance, cycle):
        if instance.cycle == cycle and self.switches[instance.uuid].is_on:
            return self.agenda.later(0.02, self.restarted, instance, cycle)
        if instance.cycle == cycle:
            self.switches[instance.uuid].turn_on(instance.place, "", False, 0)

    def check_release(self, instance):
        if instance.status != "shutdown":
            refuse("not_off")                               # l.221: exactly shutdown

    def release(self, instance, why="release"):
        if self.instances.get(instance.uuid) is instance and instance.status in OFF:
            del self.instances[instance.uuid]               # l.71: vanishes from the list
            self.set(instance, "released", why)
            self.switches.pop(instance.uuid).remove()

    def save_image(self, instance, image):
        if instance.uuid in self.instances and instance.status == "shutdown":
            self.images.append(image)
            self.agenda.later(self.options.save, image.update, {"status": "finished"})      # l.227

    # Time passes -----------------------------------------------------------------------------------------------------

    def tick(self):
        now = time.time()
        broke = self.assets() <= 0
        for instance in list(self.instances.values()):
            if instance.expires and now >= instance.expires:
                self.expire(instance)
            if instance.timed and now >= instance.timed:
                instance.timed = None
                self.power_off(instance, "timed shutdown")  # l.505
            if broke and instance.charge == "payg":
                self.power_off(instance, "low balance")     # l.509
            if instance.status in OFF and instance.stopped and now - instance.stopped >= self.options.release_days * DAY_S:
                self.release(instance, "off for too long")  # l.494

    def expire(self, instance):
        """A rental paid in advance is over (l.492-494); what then happens to a machine that is on is unsure, so it is a switch."""
        end, instance.expires, instance.charge = int(instance.expires), None, "payg"
        if not instance.auto_payg:
            return self.power_off(instance, "expired")
        if self.bill.open_row(instance.uuid):
            self.bill.close(instance.uuid, end)
            self.bill.open(instance.uuid, instance.name, instance.mode, end, self.rate(instance))

    def prepay(self, instance, for_s=DAY_S, price=0, auto_payg=True, charge="daily"):
        """Its time from now on is paid in advance, as the console sells it (l.491-493)."""
        now = int(time.time())
        if self.bill.open_row(instance.uuid):
            self.bill.close(instance.uuid, now)
            self.bill.open(instance.uuid, instance.name, instance.mode, now, 0)
        instance.charge, instance.auto_payg, instance.expires = charge, auto_payg, now + int(for_s)
        self.bill.lump(instance.uuid, instance.name, "prepaid", now, instance.expires, int(price))

    def midnight(self):
        """Disks beyond what is free are charged each day, also of machines that are off (l.526); whether those of Pro machines are
        is unsure (l.518): here they are."""
        now = int(time.time())
        for instance in self.instances.values():
            if instance.disk_gb:
                amount = round(instance.disk_gb * bill.DISK_PER_GB_DAY * 1000)
                self.bill.lump(instance.uuid, instance.name, "disk", now, now, amount)

    def rent(self, spec="4090D", gpus=1, name="", charge="payg", for_s=None, price=0, auto_payg=False, disk_gb=0, idle=8,
             region="beijing-E", family="console"):
        """An instance taken in the console, off at first."""
        instance = self.new(family, name, spec, int(gpus), region, "", disk_gb=int(disk_gb))
        instance.charge, instance.auto_payg, instance.machine_gpus = charge, auto_payg, [int(idle), 8]
        self.add(instance)
        if charge != "payg":
            instance.expires = time.time() + float(for_s or DAY_S)
            self.bill.lump(instance.uuid, name, "prepaid", int(instance.created), int(instance.expires), int(price))
        instance.place = self.switches[instance.uuid].machine.plan()       # l.371: filled even while shut down
        instance.stopped = int(instance.created)
        self.set(instance, "shutdown", "rented")
        return instance.uuid

    # The list of calls -----------------------------------------------------------------------------------------------

    def note(self, call, by="api", **more):
        with self.lock:
            entry = {"n": len(self.calls) + 1, "at": time.time(), "call": call, "by": by, "instance": "", "fault": "",
                     "code": "", "effect_at": None, "answered_at": None, **more}
            self.calls.append(entry)
            return entry


def page(items, index, size):
    """l.70-71."""
    start = (index - 1) * size
    return {"list": items[start:start + size], "page_index": index, "page_size": size, "offset": start,
            "max_page": max(1, -(-len(items) // size)), "result_total": len(items), "page": index}


def stamp(t):
    return datetime.datetime.fromtimestamp(t, TZ).isoformat(timespec="seconds")


def maybe_stamp(t):
    """l.68-69: Go's nullable time."""
    return {"Time": stamp(t), "Valid": True} if t is not None else {"Time": "0001-01-01T00:00:00Z", "Valid": False}
