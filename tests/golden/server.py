"""A small Varlink server that says what a script tells it to, and notes what it was asked.

A script maps a method to its steps; "Up#2" is for the second call of Up. Steps:
  {"more": {...}}             a reply that is not the last      {"reply": {...}}   the last reply
  {"error": NAME, ...}        an error with these parameters     {"system_error": NAME, ...}  one of org.varlink.service
  {"await": REGEX}            until the client has shown this    {"interrupt": true}          Ctrl-C at the client
  {"close": true}             the daemon goes away               {"hang": true}               nothing more is said
  {"raw": TEXT}               bytes as they are
Replies and errors are held against the contract, and so is every call."""
import json
import os
import re
import socket
import threading
import time

AGO = re.compile(r"^@(-?)(\d+)s$")


def with_times(value, now_ms):
    """"@-185s" is the wall clock 185 s ago, half a second more so that no border is near; "@90s" is in 90 s."""
    if isinstance(value, dict):
        return {k: with_times(v, now_ms) for k, v in value.items()}
    if isinstance(value, list):
        return [with_times(v, now_ms) for v in value]
    found = AGO.match(value) if isinstance(value, str) else None
    if not found:
        return value
    distance = int(found[2]) * 1000
    return now_ms - distance - 400 if found[1] else now_ms + distance + 600


class Server:
    def __init__(self, path, script, contract, version):
        self.path, self.script, self.contract, self.version = path, script, contract, version
        self.calls, self.complaints, self.counts = [], [], {}
        self.client = None
        self.has_client = threading.Event()
        self.connections = []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(16)
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def watch(self, client):
        self.client = client
        self.has_client.set()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def stop(self):
        for s in [self.listener] + self.connections:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()
        if os.path.exists(self.path):
            os.unlink(self.path)

    def serve(self, connection):
        pending = b""
        try:
            while True:
                while b"\0" not in pending:
                    data = connection.recv(65536)
                    if not data:
                        return
                    pending += data
                message, pending = pending.split(b"\0", 1)
                self.answer(connection, json.loads(message))
        except (OSError, BrokenPipeError):
            return
        except Exception as e:      # a broken script must not look like a daemon that went away
            self.complaints.append(f"server: {e!r}")
            connection.close()

    def send(self, connection, message):
        connection.sendall(json.dumps(message, ensure_ascii=False).encode() + b"\0")

    def answer(self, connection, call):
        interface, _, method = call["method"].rpartition(".")
        if interface == "org.varlink.service" and method == "GetInfo":
            self.send(connection, {"parameters": {"vendor": "llmhost", "product": "llmhostd", "version": self.version,
                                                  "url": "", "interfaces": ["io.llmhost", "org.varlink.service"]}})
            return
        parameters = call.get("parameters", {})
        self.calls.append((method, parameters, call.get("more", False)))
        wrong = self.contract.wrong_call(method, parameters)
        if wrong or interface != self.contract.name:
            self.complaints.append(f"call: {interface}: {wrong}")
        self.counts[method] = self.counts.get(method, 0) + 1
        numbered = f"{method}#{self.counts[method]}"
        steps = self.script.get(numbered, self.script.get(method))
        if steps is None:
            self.complaints.append(f"unexpected call {method}")
            connection.close()
            return
        for step in steps:
            self.step(connection, method, step)

    def complain_if(self, wrong):
        if wrong:
            self.complaints.append(f"script: {wrong}")

    def step(self, connection, method, step):
        step = with_times(step, int(time.time() * 1000))
        if "more" in step or "reply" in step:
            parameters = step.get("more", step.get("reply"))
            self.complain_if(self.contract.wrong_reply(method, parameters))
            self.send(connection, {"parameters": parameters, **({"continues": True} if "more" in step else {})})
        elif "error" in step:
            parameters = {k: v for k, v in step.items() if k != "error"}
            self.complain_if(self.contract.wrong_error(step["error"], parameters))
            self.send(connection, {"error": f"{self.contract.name}.{step['error']}", "parameters": parameters})
        elif "system_error" in step:
            parameters = {k: v for k, v in step.items() if k != "system_error"}
            self.send(connection, {"error": f"org.varlink.service.{step['system_error']}", "parameters": parameters})
        elif "await" in step:
            self.has_client.wait(10)
            if not self.client.wait_shown(step["await"]):
                self.complaints.append(f"never shown: {step['await']}")
        elif "interrupt" in step:
            self.has_client.wait(10)
            self.client.interrupt()
        elif "close" in step:
            connection.shutdown(socket.SHUT_RDWR)
        elif "raw" in step:
            connection.sendall(step["raw"].encode())
        elif "hang" in step:
            connection.recv(1)
