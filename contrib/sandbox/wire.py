"""HTTP: reads a call strictly, hands it to the API it belongs to, lets the ordered fault have its way, and notes it all.

An API is a table of Operations. Each names the check that its parameters must pass and a function that returns what is answered
and, for what changes something, the effect as a function of its own. Lines are those of reference/autodl.md.
"""
import contextlib
import dataclasses
import http.server
import json
import secrets
import socket
import socketserver
import struct
import sys
import threading
import time
import typing
import urllib.parse

import faults
from faults import Refusal, refuse

BODY_MAX = 1 << 20
HTML = "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
REASONS = {200: "OK", 401: "401 Unauthorized", 429: "429 Too Many Requests", 502: "502 Bad Gateway",
           503: "503 Service Temporarily Unavailable"}


@dataclasses.dataclass
class Operation:
    call: str                   # its name in the list of calls
    run: typing.Callable        # (company, parameters, fault) -> data, or (data, effect) where something changes
    needs: dict                 # parameter -> check
    may: dict = dataclasses.field(default_factory=dict)
    token: str = "developer"
    no_body: bool = False       # also nothing at all
    changes: bool = False


@dataclasses.dataclass
class Request:
    method: str
    path: str
    query: str
    headers: typing.Any
    body: bytes


# Checks of parameters ----------------------------------------------------------------------------------------------------

def text(value):
    return isinstance(value, str)


def word(value):
    return isinstance(value, str) and value != ""


def number(least, most=1 << 31):
    return lambda value: type(value) is int and least <= value <= most


def words(value):
    return isinstance(value, list) and all(map(word, value))


PAGES = {"page_index": number(1), "page_size": number(1, 1000)}


def parameters(request, operation):
    """Every parameter known and right, nothing missing, nothing twice; else l.470."""
    if request.method == "GET":
        if request.body:
            refuse("bad_parameter")                         # l.73-75: a body on GET
        try:
            pairs = urllib.parse.parse_qsl(request.query, keep_blank_values=True, strict_parsing=bool(request.query))
        except ValueError:
            refuse("bad_parameter")
        found = dict(pairs)
        if len(found) != len(pairs):
            refuse("bad_parameter")
    else:
        found = body_of(request, operation)
    for name, value in found.items():
        check = operation.needs.get(name) or operation.may.get(name) or refuse("bad_parameter")
        if not check(value):
            refuse("bad_parameter")
    if set(operation.needs) - set(found):
        refuse("bad_parameter")
    return found


def no_repeats(pairs):
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def body_of(request, operation):
    if request.query:
        refuse("bad_parameter")
    if not request.body and (operation.no_body or not operation.needs):
        return {}
    if request.headers.get("Content-Type", "").split(";")[0].strip().lower() != "application/json":
        refuse("bad_parameter")                             # l.91
    try:
        found = json.loads(request.body, object_pairs_hook=no_repeats)
    except ValueError:
        refuse("bad_parameter")
    return found if isinstance(found, dict) else refuse("bad_parameter")


def check_token(company, operation, headers):
    """l.48: raw, no Bearer. What a bad developer token gets is not recorded (l.694); the console's answer is (l.338)."""
    given = headers.get_all("Authorization") or []
    good = [company.account[operation.token + "_token"]]
    if operation.token == "web" and company.account["developer_on_console"]:
        good.append(company.account["developer_token"])
    if len(given) != 1 or not given[0] or given[0] not in good:
        refuse("denied")


# One call ------------------------------------------------------------------------------------------------------------------

def envelope(code, msg, data):
    """l.53-57."""
    return {"code": code, "data": data, "msg": msg, "request_id": secrets.token_hex(16)}


def wanted_instance(request):
    """What the call is about, however wrong it may be otherwise: faults and the list of calls go by it."""
    with contextlib.suppress(ValueError, UnicodeDecodeError):
        found = dict(urllib.parse.parse_qsl(request.query)) if request.method == "GET" else json.loads(request.body or b"{}")
        if isinstance(found, dict) and isinstance(found.get("instance_uuid"), str):
            return found["instance_uuid"]
    return ""


def perform(company, operation, request, entry, fault):
    """The answer's envelope. With the lock held: two calls at once are one after the other."""
    try:
        check_token(company, operation, request.headers)
        found = parameters(request, operation)
        result = operation.run(company, found, fault)
    except Refusal as no:
        return envelope(no.code, no.msg, None)
    if not operation.changes:
        return envelope("Success", "", result)
    data, effect = result
    if operation.call == "create":
        entry["instance"] = data

    def happen():
        entry["effect_at"] = time.time()
        effect()
    if not fault or fault.effect == faults.NOW:
        happen()
    elif fault.effect == faults.LATER:
        company.agenda.later(fault.seconds, happen)
    return envelope("Success", "", data)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle(self):
        with contextlib.suppress(OSError):                  # callers that leave in the middle
            super().handle()

    def log_message(self, *_):
        pass

    def do_GET(self):
        company, tables = self.server.company, self.server.operations
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > BODY_MAX or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            return self.send(413, "text/plain", b"too large")
        path, _, query = self.path.partition("?")
        request = Request(self.command, path, query, self.headers, self.rfile.read(int(length)))
        operation = tables.get((self.command, path))
        if not operation:                                   # l.51-52: a path they do not have
            company.note(f"{self.command} {path}", code="404")
            return self.send(404, "text/plain", b"404 page not found")
        self.call(company, operation, request)

    do_POST = do_PUT = do_DELETE = do_GET

    def call(self, company, operation, request):
        with company.lock:
            instance = wanted_instance(request)
            fault = company.faults.take(operation.call, instance)
            entry = company.note(operation.call, instance=instance, fault=fault.name if fault else "")
        if fault and fault.answer == "wait":
            company.over.wait(fault.seconds)
        answer = None
        if not fault or fault.effect != faults.NEVER or fault.answer == "true":
            with company.lock:
                answer = perform(company, operation, request, entry, fault)
                entry["code"] = answer["code"]
        kind, _, status = (fault.answer if fault else "true").partition(" ")
        if kind == "error":
            answer = envelope(*faults.ERRORS[fault.name][:2], None)
            entry["code"] = answer["code"]
        self.answer(company, fault, answer, kind, status)
        entry["answered_at"] = time.time()

    def answer(self, company, fault, answer, kind, status):
        if kind == "code":
            answer = envelope("SomethingElse", "出了点问题", None)
        elif kind == "null":
            answer = dict(answer, data=None)
        elif kind == "slow":
            company.over.wait(fault.seconds)
        if kind in ("error", "code", "null", "slow", "wait", "true"):
            return self.send_json(json.dumps(answer, ensure_ascii=False).encode())
        if kind == "http":
            return self.send(int(status), "text/html", HTML.format(REASONS[int(status)]).encode())
        body = {"garbage": b'{"code":"Success","data":', "empty": b"", "flood": b'{"code":"' + b"x" * (3 << 20)}.get(kind)
        if body is not None:
            return self.send_json(body)
        self.break_off(company, kind, fault, answer)

    def break_off(self, company, kind, fault, answer):
        """hang, cut, half, reset: no whole answer comes on this connection."""
        self.close_connection = True
        if kind == "hang":
            company.over.wait(max(fault.seconds, 120) if fault.effect == faults.LATER else fault.seconds)
        elif kind == "half":
            whole = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(whole)))
            self.end_headers()
            self.wfile.write(whole[:len(whole) // 2])
        elif kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def send_json(self, body):
        self.send(200, "application/json; charset=utf-8", body)     # l.60: 200 also for failures

    def send(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Access-Control-Allow-Origin", "*")        # l.343
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, company, operations):
        super().__init__(address, Handler)
        self.company, self.operations = company, operations
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)            # HTTPServer's asks the resolver for a name, which may take long

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)
