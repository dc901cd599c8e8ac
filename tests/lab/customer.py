"""A customer of the rental company (company.py), and a company for a class of tests.

Calls are made as they should be, by ask() and what is built on it, or byte by byte, by raw()."""
import contextlib
import datetime
import http.client
import json
import time
import unittest
import urllib.parse

import company
from company import Company
from host import until

PRO = "/api/v1/dev/instance/pro/"
CONSOLE = "/api/v1/instance"
IMAGE = "base-image-l2t43iu6uk"
ORDER = {"req_gpu_amount": 1, "expand_system_disk_by_gb": 0, "gpu_spec_uuid": "4090D", "image_uuid": IMAGE, "cuda_v_from": 118,
         "instance_name": "llmhost-1"}
PAGE = {"page_index": 1, "page_size": 50}
NO_MACHINE = {"sshd": 3600}             # its sshd never comes: for what the company says of it


class Told(Exception):
    """An answer that is no envelope: (status, body)."""


def raw(c, method, path, body=b"", headers=(), limit_s=10):
    """(status, body) of one call on a connection of its own."""
    there = http.client.HTTPConnection(urllib.parse.urlparse(c.url).netloc, timeout=limit_s)
    try:
        there.putrequest(method, path)
        for name, value in headers:
            there.putheader(name, value)
        if body or method != "GET":
            there.putheader("Content-Length", str(len(body)))
        there.endheaders(body or None)
        answer = there.getresponse()
        return answer.status, answer.read()
    finally:
        there.close()


def ask(c, method, path, token=None, limit_s=10, **body):
    """One right call; the envelope."""
    headers = [("Authorization", token or c.developer_token)]
    if method == "GET":
        path, data = path + "?" + urllib.parse.urlencode(body), b""
    else:
        headers.append(("Content-Type", "application/json"))
        data = json.dumps(body).encode()
    status, answer = raw(c, method, path, data, headers, limit_s)
    if status != 200:
        raise Told(status, answer)
    return json.loads(answer)


def web(c, method, path, **body):
    return ask(c, method, CONSOLE + path, token=c.web_token, **body)


def pro(c, call, **body):
    return ask(c, "GET" if call in ("status", "snapshot") else "POST", PRO + call, **body)


def good(answer):
    assert answer["code"] == "Success" and answer["msg"] == "" and len(answer["request_id"]) == 32, answer
    return answer["data"]


def buy(c, **more):
    return good(pro(c, "create", **dict(ORDER, **more)))


def running(c, **more):
    uuid = buy(c, **more)
    c.until(uuid, "running")
    return uuid


def turn_off(c, uuid):
    good(pro(c, "power_off", instance_uuid=uuid))
    return c.until(uuid, "shutdown")


def listed(c, uuid):
    return next((i for i in good(pro(c, "list", **PAGE))["list"] if i["uuid"] == uuid), None)


def seconds(stamp):
    assert stamp["Valid"], stamp
    return datetime.datetime.fromisoformat(stamp["Time"]).timestamp()


class WithCompany(unittest.TestCase):
    """One company for all tests of a class; each gets it with an account as new, and nothing on it."""
    times, kind = NO_MACHINE, "netns"

    @classmethod
    def setUpClass(cls):
        cls.c = cls.enterClassContext(Company(cls.kind, **cls.times))

    def setUp(self):
        self.addCleanup(self.clean)

    def clean(self):
        c = self.c
        c.heal()
        c.account(verified=True, shutdown="ends", rotate=True, timed_format="any", assets=10 ** 9)
        c.stock("4090D", "any")
        c.price("4090D", 1880)
        until(self.nothing_left, 15, "the end of all instances")
        c.account(assets=50000 + sum(r["amount"] for r in c.bill()))
        self.assertEqual(c.said(), "")

    def nothing_left(self):
        """One look at what is still there: running is switched off, off for long enough is released."""
        for i in self.c.instances():
            with contextlib.suppress(company.Trouble):          # late effects of calls may still be under way
                if i["status"] == "running":
                    self.c.press("power_off", i["uuid"])
                elif i["status"] in company.OFF:
                    self.c.age(i["uuid"], 100)
        return not self.c.instances()

    def refused(self, answer, code, msg):
        self.assertEqual(answer["code"], code, answer)
        self.assertIn(msg, answer["msg"])
        self.assertIsNone(answer["data"])
