"""The sandbox's own door, for those who run it: a Unix socket, one line of JSON each way.

    {"do": "fault", "with": {"name": "lost", "on": "power_off"}}  ->  {"ok": true, "data": null}  or  {"ok": false, "error": "..."}

VERBS is the whole of it; ctl's --help is made of it.
"""
import dataclasses
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
        raise Trouble(f"no such instance: {uuid}")
    return found[0]


# What can be done: each takes the company and named values -----------------------------------------------------------------

def fault(company, name, **more):
    """NAME [on=CALL] [times=N] [seconds=S] [instance=UUID] [word=W]: for the next N calls (1; 0: for ever)"""
    company.faults.order(name, **more)


def faults(company):
    """the faults that are still waiting"""
    return company.faults.list()


def heal(company):
    """forget all faults"""
    company.faults.heal()


def press(company, button, instance="", **more):
    """BUTTON [INSTANCE]: as somebody in the console: power_on power_off release no_gpu;
    restart_box: as the platform; pull_plug: it dies, and bills"""
    found = instance_of(company, instance)
    buttons = {
        "power_on": lambda: (company.check_start(found, "gpu"), company.power_on(found, "gpu", why="console")),
        "no_gpu": lambda: (company.check_start(found, "non_gpu"), company.power_on(found, "non_gpu", why="console")),
        "power_off": lambda: (company.check_stop(found), company.power_off(found, "console")),
        "release": lambda: (company.check_release(found), company.release(found, "console")),
        "restart_box": lambda: company.restart_box(found),
        "pull_plug": lambda: company.switches[found.uuid].turn_off()}
    if button not in buttons:
        raise Trouble(f"no such button: {button} ({' '.join(buttons)})")
    entry = company.note(button, by="console", instance=found.uuid)
    buttons[button]()
    entry["effect_at"] = entry["answered_at"] = time.time()


def stock(company, spec, number, after=0, region=None):
    """SPEC N|any [after=S] [region=R]: cards that can really be had, now or in S seconds, or 0|any in a region alone; what runs keeps its own"""
    row, value = company.specs[spec], None if number == "any" else int(number)
    if region:
        (company.sold_out.discard if value is None else company.sold_out.add)((spec, region))
    elif after:
        company.agenda.later(float(after), row.update, {"stock": value})
    else:
        row["stock"] = value


def advertise(company, spec, number):
    """SPEC N: what the stock call says, true or not"""
    company.specs[spec]["advertised"][0] = int(number)


def price(company, spec, milli):
    """SPEC MILLI: 1/1000 yuan per card and hour, from the next power-on"""
    company.specs[spec]["price"] = int(milli)


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
            verb = VERBS[asked["do"]][0]
            with self.server.company.lock:
                return {"ok": True, "data": verb(self.server.company, **asked.get("with", {}))}
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
