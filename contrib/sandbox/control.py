"""The sandbox's own door, for those who run it: a Unix socket, one line of JSON each way.

    {"do": "fault", "with": {"name": "lost", "on": "power_off"}}  ->  {"ok": true, "data": null}  or  {"ok": false, "error": "..."}

VERBS is the whole of it; ctl's --help is made of it.
"""
import dataclasses
import inspect
import json
import os
import socket
import socketserver
import threading
import time

from faults import Refusal

MAX_BYTES = 64 << 20


class Trouble(Exception):
    pass


# What may be said: one sentence names what is allowed ------------------------------------------------------------------------

def choice(what, value, allowed):
    if value not in allowed:
        raise Trouble(f"{what} {value!r}: there are {' '.join(str(a).lower() if isinstance(a, bool) else a for a in allowed)}")
    return value


def whole(what, value, least=0):
    """A whole number."""
    try:
        found = int(value)
        if found != float(value) or found < least or isinstance(value, bool):
            raise ValueError
        return found
    except (TypeError, ValueError, OverflowError):
        raise Trouble(f"{what} {value!r}: a whole number{f' of {least} or more' if least >= 0 else ''}") from None


def seconds(what, value):
    try:
        if 0 <= float(value) < 1e9 and not isinstance(value, bool):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise Trouble(f"{what} {value!r}: a number of {'days' if what == 'days' else 'seconds'}, 0 or more")


def spec_of(company, spec):
    return company.specs[choice("SPEC", spec, company.specs)]


CHARGES = ("payg", "daily", "weekly", "monthly", "yearly")
# What a value of that name may be, whichever verb has it.
CHECKS = {
    "after": lambda company, value: seconds("after", value), "for_s": lambda company, value: seconds("for_s", value),
    "seconds": lambda company, value: seconds("seconds", value), "days": lambda company, value: seconds("days", value),
    "times": lambda company, value: whole("times", value), "gpus": lambda company, value: whole("gpus", value, 1),
    "price": lambda company, value: whole("price", value), "disk_gb": lambda company, value: whole("disk_gb", value),
    "idle": lambda company, value: whole("idle", value), "milli": lambda company, value: whole("milli", value),
    "since": lambda company, value: whole("since", value), "assets": lambda company, value: whole("assets", value, -(10 ** 12)),
    "spec": spec_of, "region": lambda company, value: value is None or choice("region", value, company.data["region_names"]),
    "charge": lambda company, value: choice("charge", value, CHARGES),
    "family": lambda company, value: choice("family", value, ("console", "pro")),
    "on": lambda company, value: value == "*" or not company.operations or choice("on", value, ("*", *company.operations)),
    "shutdown": lambda company, value: choice("shutdown", value, ("ends", "bills")),
    "timed_format": lambda company, value: choice("timed_format", value, ("any", "text", "ms")),
    **{key: lambda company, value, key=key: choice(key, value, (True, False))
       for key in ("verified", "wechat_bound", "developer_on_console", "rotate", "auto_payg")}}


def usage(company, verb):
    """How a verb is said."""
    text = f"{verb} {' '.join(VERBS[verb][0].__doc__.split())}"
    return text + (f". SPEC: {' '.join(company.specs)}" if "SPEC" in text or "spec=" in text else "")


def check(company, verb, more):
    """Every value by its name, and no value that the verb does not have."""
    function = VERBS[verb][0]
    inner = {"fault": company.faults.order, "rent": company.rent}.get(verb)
    try:
        inspect.signature(inner).bind(**more) if inner else inspect.signature(function).bind(company, **more)
        if verb == "prepay":
            inspect.signature(company.prepay).bind(**more)
        for key, value in more.items():
            if verb == "press" and key not in ("button", "instance"):
                raise TypeError
            if key in CHECKS:
                CHECKS[key](company, value)
    except TypeError:
        raise Trouble(usage(company, verb)) from None


def ask(path, verb, **more):
    """The client's half."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        with s.makefile("rwb") as f:
            f.write(json.dumps({"do": verb, "with": more}).encode() + b"\n")
            f.flush()
            answer = json.loads(f.readline(MAX_BYTES) or b'{"ok": false, "error": "no answer"}')
    if not answer["ok"]:
        raise Trouble(answer["error"])
    return answer["data"]


def instance_of(company, uuid):
    """By its whole uuid, its name, or the only one there is."""
    found = [i for i in company.instances.values() if uuid in (i.uuid, i.name)]
    if uuid == "" and len(company.instances) == 1:
        found = list(company.instances.values())
    if len(found) != 1:
        names = " ".join(i.name or i.uuid for i in company.instances.values()) or "none yet"
        raise Trouble(f"which instance? there are {names}" if uuid == "" else
                      f"{'no such instance' if not found else 'several instances'}: {uuid} (there are {names})")
    return found[0]


# What can be done: each takes the company and named values -----------------------------------------------------------------

def fault(company, name, **more):
    """NAME [on=CALL] [times=N] [seconds=S] [instance=UUID] [word=W]: for the next N calls (1; 0: for ever)"""
    if more.get("instance"):
        more["instance"] = instance_of(company, more["instance"]).uuid
    company.faults.order(name, **more)


def faults(company):
    """the faults that are still waiting"""
    return company.faults.list()


def heal(company):
    """forget all faults"""
    company.faults.heal()


BUTTONS = ("power_on", "no_gpu", "power_off", "release", "restart_box", "pull_plug")


def press(company, button, instance=""):
    """BUTTON [INSTANCE]: as somebody in the console: power_on power_off release no_gpu;
    restart_box: as the platform; pull_plug: it dies, and bills"""
    choice("BUTTON", button, BUTTONS)
    found = instance_of(company, instance)
    buttons = {
        "power_on": lambda: (company.check_start(found, "gpu"), company.power_on(found, "gpu", why="console")),
        "no_gpu": lambda: (company.check_start(found, "non_gpu"), company.power_on(found, "non_gpu", why="console")),
        "power_off": lambda: (company.check_stop(found), company.power_off(found, "console")),
        "release": lambda: (company.check_release(found), company.release(found, "console")),
        "restart_box": lambda: company.restart_box(found),
        "pull_plug": lambda: company.switches[found.uuid].turn_off()}
    entry = company.note(button, by="console", instance=found.uuid)
    buttons[button]()
    entry["effect_at"] = entry["answered_at"] = time.time()


def stock(company, spec, number, after=0, region=None):
    """SPEC N|any [after=S] [region=R]: cards that can really be had, now or in S seconds, or 0|any in a region alone; what runs keeps its own"""
    row, value = spec_of(company, spec), None if number == "any" else whole("stock", number)
    if region and value:
        raise Trouble("of one region: 0 or any")
    if region:
        (company.sold_out.discard if value is None else company.sold_out.add)((spec, region))
    elif after:
        company.agenda.later(float(after), row.update, {"stock": value})
    else:
        row["stock"] = value


def advertise(company, spec, number):
    """SPEC N: what the stock call says, true or not"""
    spec_of(company, spec)["advertised"][0] = whole("number", number)


def price(company, spec, milli):
    """SPEC MILLI: 1/1000 yuan per card and hour, from the next power-on"""
    spec_of(company, spec)["price"] = int(milli)


def account(company, **changes):
    """[KEY=VALUE]...: shows and changes: assets verified shutdown=ends|bills rotate web_token ..."""
    for key in changes:
        if key not in company.account:
            raise Trouble(f"an account has no {key} ({' '.join(company.account)})")
    company.account.update(changes)
    return company.account


def rent(company, **more):
    """[name=] [spec=] [gpus=] [charge=payg|daily|...] [for_s=] [price=] [auto_payg=] [disk_gb=] [idle=] [family=]: its uuid"""
    return company.rent(**more)


def prepay(company, instance, **more):
    """INSTANCE [for_s=] [price=] [auto_payg=] [charge=daily|...]: its time from now on is paid in advance"""
    company.prepay(instance_of(company, instance), **more)


def host(company, instance, idle):
    """INSTANCE IDLE: free cards on an ordinary instance's machine"""
    instance_of(company, instance).machine_gpus[0] = int(idle)


def age(company, instance, days):
    """INSTANCE DAYS: it went off so much earlier"""
    found = instance_of(company, instance)
    found.stopped = (found.stopped or int(time.time())) - round(float(days) * 86400)


def midnight(company):
    """charge disks for a day"""
    company.midnight()


def instances(company):
    """all of them, as they are"""
    switch = company.switches
    return [dict(dataclasses.asdict(i), is_on=switch[i.uuid].is_on, is_ready=switch[i.uuid].is_ready)
            for i in company.instances.values()]


def bill(company):
    """rows: instance kind mode start end rate amount seconds"""
    return company.bill.list(time.time())


def calls(company, since=0):
    """[since=N]: every call: n at call by instance fault code effect_at answered_at"""
    return company.calls[int(since):]


def events(company, since=0):
    """[since=N]: every change of a status"""
    return company.events[int(since):]


def messages(company):
    """what was pushed to WeChat"""
    return [message for _, message in company.messages]


# verb: (function, names of values that need no NAME=)
VERBS = {"fault": (fault, ["name", "on"]), "faults": (faults, []), "heal": (heal, []), "press": (press, ["button", "instance"]),
         "stock": (stock, ["spec", "number"]), "advertise": (advertise, ["spec", "number"]), "price": (price, ["spec", "milli"]),
         "account": (account, []), "rent": (rent, ["name"]), "prepay": (prepay, ["instance"]),
         "host": (host, ["instance", "idle"]),
         "age": (age, ["instance", "days"]), "midnight": (midnight, []), "instances": (instances, []), "bill": (bill, []),
         "calls": (calls, ["since"]), "events": (events, ["since"]), "messages": (messages, [])}


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(json.dumps(self.answer(line), ensure_ascii=False).encode() + b"\n")

    def answer(self, line):
        try:
            asked = json.loads(line)
            do, more, company = choice("verb", asked["do"], VERBS), asked.get("with", {}), self.server.company
            with company.lock:
                check(company, do, more)
                return {"ok": True, "data": VERBS[do][0](company, **more)}
        except Refusal as no:
            return {"ok": False, "error": str(no)}
        except KeyError as e:
            return {"ok": False, "error": f"no such thing: {e}"}
        except (Trouble, TypeError, ValueError) as e:
            return {"ok": False, "error": str(e)}


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path, company):
        self.company, self.path = company, path
        self.make_way(path)
        old = os.umask(0o077)
        try:
            super().__init__(path, Handler)
        finally:
            os.umask(old)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @staticmethod
    def make_way(path):
        """A socket that a killed one left may go; one that is in use may not."""
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(path)
            except FileNotFoundError:
                return
            except ConnectionRefusedError:
                return os.unlink(path)
        raise Trouble(f"a company is open at {path} already")

    def end(self):
        self.shutdown()
        self.server_close()
        os.unlink(self.path)
