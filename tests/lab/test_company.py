"""The rental company (contrib/sandbox) as a customer sees it: all it answers, and what it refuses. No daemon near.

Facts are those of reference/autodl.md, read once more for this file; §N, l.N are its sections and lines."""
import datetime
import json
import os
import subprocess
import tempfile
import time
import unittest

import host as hosts
from customer import CONSOLE, IMAGE, NO_MACHINE, ORDER, PAGE, PRO, WithCompany, ask, buy, good, listed, pro, raw, running, seconds, turn_off, web
from host import until

LIMIT_S = 90


class Answers(WithCompany):
    def test_balance(self):
        """§2.1, l.103-115: a body is not needed, and an account nobody verified has one, too."""
        self.c.account(verified=False)
        whole = {"assets", "accumulate", "voucher_balance", "blocked_asset", "total_recharge_asset", "available_coupon_num",
                 "to_expire_voucher_num", "certain_conditions_voucher_balance", "id", "uid", "remittance_code",
                 "exclusive_transfer_account", "created_at", "updated_at"}
        status, body = raw(self.c, "POST", "/api/v1/dev/wallet/balance", headers=[("Authorization", self.c.developer_token)])
        self.assertEqual(set(good(json.loads(body))), whole)
        self.assertEqual(good(json.loads(body))["assets"], 50000)
        self.assertEqual(set(good(ask(self.c, "POST", "/api/v1/dev/wallet/balance"))), whole)

    def test_life_of_a_pro_instance(self):
        """§2.2: create boots at once (l.148), a plain string each (l.147, l.156), off before released (l.221)."""
        c = self.c
        uuid = buy(c)
        self.assertRegex(uuid, "^pro-[0-9a-f]{12}$")
        self.assertEqual(good(pro(c, "status", instance_uuid=uuid)), "creating")
        c.until(uuid, "running")
        self.assertEqual(good(pro(c, "status", instance_uuid=uuid)), "running")
        self.refused(pro(c, "release", instance_uuid=uuid), "BadRequest", "请在实例关机状态下执行释放操作")
        self.assertIsNone(good(pro(c, "power_off", instance_uuid=uuid)))
        self.assertEqual(good(pro(c, "status", instance_uuid=uuid)), "shutting_down")
        self.refused(pro(c, "release", instance_uuid=uuid), "BadRequest", "请在实例关机状态下执行释放操作")
        c.until(uuid, "shutdown")
        self.assertIsNone(good(pro(c, "release", instance_uuid=uuid)))
        self.refused(pro(c, "status", instance_uuid=uuid), "RecordNotFoundError", "未查询到相关实例")
        self.assertIsNone(listed(c, uuid))
        self.assertEqual([e["status"] for e in c.events() if e["instance"] == uuid],
                         ["creating", "starting", "running", "shutting_down", "shutdown", "released"])

    def test_power_off_while_starting_is_heard_and_does_nothing(self):
        """l.215; and l.80: while it stops or is off it is an error."""
        uuid = buy(self.c)
        self.assertIsNone(good(pro(self.c, "power_off", instance_uuid=uuid)))
        self.c.until(uuid, "running")
        good(pro(self.c, "power_off", instance_uuid=uuid))
        self.assertNotEqual(pro(self.c, "power_off", instance_uuid=uuid)["code"], "Success")
        self.c.until(uuid, "shutdown")
        self.assertNotEqual(pro(self.c, "power_off", instance_uuid=uuid)["code"], "Success")

    def test_snapshot(self):
        """l.159-184: no address while it boots, a new one for each power cycle (l.555), the old one while off."""
        c = self.c
        uuid = buy(c, req_gpu_amount=2, expand_system_disk_by_gb=3)
        fields = {"ssh_command", "proxy_host", "ssh_port", "root_password"}
        self.assertFalse(fields & set(good(pro(c, "snapshot", instance_uuid=uuid))))
        c.until(uuid, "running")
        first = good(pro(c, "snapshot", instance_uuid=uuid))
        self.assertLessEqual(fields, set(first))
        self.assertEqual(first["ssh_command"], f"ssh -p {first['ssh_port']} root@{first['proxy_host']}")
        self.assertEqual((first["payg_price"], first["origin_pay_price"]), (2 * 1880, 2 * 1980))
        self.assertEqual((first["expand_system_disk_size"], first["system_init_disk_size"]), (3 << 30, 30 << 30))
        self.assertEqual((first["chip_corp"], first["cpu_arch"], first["usage_info"]["valid"]), ("nvidia", "x86", False))
        turn_off(c, uuid)
        off = good(pro(c, "snapshot", instance_uuid=uuid))
        self.assertEqual([off[f] for f in fields], [first[f] for f in fields])
        good(pro(c, "power_on", instance_uuid=uuid, payload="gpu"))
        self.assertFalse(fields & set(good(pro(c, "snapshot", instance_uuid=uuid))))
        c.until(uuid, "running")
        second = good(pro(c, "snapshot", instance_uuid=uuid))
        self.assertNotEqual(second["ssh_port"], first["ssh_port"])
        self.assertNotEqual(second["root_password"], first["root_password"])

    def test_address_may_stay(self):
        """l.555-556: one real power cycle kept both."""
        c, uuid = self.c, running(self.c)
        c.account(rotate=False)
        first = good(pro(c, "snapshot", instance_uuid=uuid))
        turn_off(c, uuid)
        good(pro(c, "power_on", instance_uuid=uuid, payload="gpu"))
        c.until(uuid, "running")
        second = good(pro(c, "snapshot", instance_uuid=uuid))
        self.assertEqual([second[f] for f in ("ssh_command", "root_password")], [first[f] for f in ("ssh_command", "root_password")])

    def test_stamps_are_old_while_a_new_boot_is_under_way(self):
        """l.186-195, l.68: whole seconds of UTC+8, Go's shape; both of the last cycle until the next is there."""
        c = self.c
        uuid = buy(c)
        item = listed(c, uuid)
        self.assertEqual(item["started_at"], {"Time": "0001-01-01T00:00:00Z", "Valid": False})
        self.assertEqual(set(item), {"created_at", "uuid", "machine_id", "machine_alias", "region_sign", "region_name", "status",
                                     "sub_status", "status_at", "start_mode", "charge_type", "req_gpu_amount", "expired_at",
                                     "started_at", "stopped_at", "name", "timed_shutdown_at", "gpu_spec_uuid"})
        self.assertEqual((item["name"], item["gpu_spec_uuid"], item["charge_type"]), ("llmhost-1", "4090D", "payg"))
        c.until(uuid, "running")
        item = listed(c, uuid)
        self.assertRegex(item["started_at"]["Time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+08:00$")
        self.assertLess(abs(seconds(item["started_at"]) - time.time()), 5)
        self.assertFalse(item["stopped_at"]["Valid"])
        turn_off(c, uuid)
        before = listed(c, uuid)
        good(pro(c, "power_on", instance_uuid=uuid, payload="gpu"))
        booting = listed(c, uuid)
        self.assertEqual(booting["status"], "starting")
        self.assertEqual([booting[k] for k in ("started_at", "stopped_at")], [before[k] for k in ("started_at", "stopped_at")])
        c.until(uuid, "running")
        self.assertEqual(listed(c, uuid)["stopped_at"], before["stopped_at"])

    def test_pages(self):
        """l.70-71; the list needs no verified account (l.197)."""
        made = [buy(self.c, instance_name=f"n{i}") for i in range(5)]
        self.c.account(verified=False)
        pages = [good(pro(self.c, "list", page_index=n, page_size=2)) for n in (1, 2, 3, 4)]
        self.assertEqual([len(p["list"]) for p in pages], [2, 2, 1, 0])
        self.assertEqual(sorted(i["uuid"] for p in pages for i in p["list"]), sorted(made))
        self.assertEqual({k: v for k, v in pages[1].items() if k != "list"},
                         {"page_index": 2, "page_size": 2, "offset": 2, "max_page": 3, "result_total": 5, "page": 2})

    def test_power_on_of_what_is_not_off_is_refused(self):
        uuid = buy(self.c)
        self.assertNotEqual(pro(self.c, "power_on", instance_uuid=uuid, payload="gpu")["code"], "Success")
        self.c.until(uuid, "running")
        self.assertNotEqual(pro(self.c, "power_on", instance_uuid=uuid, payload="gpu")["code"], "Success")

    def test_payloads(self):
        """l.202-204: an empty one boots with a card, others boot nothing."""
        uuid = running(self.c)
        turn_off(self.c, uuid)
        for payload in ("cpu", "no_gpu", "nogpu", "cpu_only", "cpu-only", "none", "non_gpu"):
            self.refused(pro(self.c, "power_on", instance_uuid=uuid, payload=payload), "ServerError", "不支持的启动模式")
        self.assertEqual(good(pro(self.c, "status", instance_uuid=uuid)), "shutdown")
        self.assertIsNone(good(pro(self.c, "power_on", instance_uuid=uuid, payload="")))
        self.assertEqual(self.c.until(uuid, "running")["mode"], "gpu")

    def test_images(self):
        """l.224-233: off first, then it takes its time; what was saved can be ordered."""
        c = self.c
        uuid = running(c)
        self.refused(pro(c, "image/save", instance_uuid=uuid, image_name="a"), "InternalError", "保存实例镜像前，请确保实例是关机状态")
        turn_off(c, uuid)
        image = good(pro(c, "image/save", instance_uuid=uuid, image_name="a"))["image_uuid"]
        found = lambda: next(i for i in good(pro(c, "image/private/list", **PAGE))["list"] if i["image_uuid"] == image)
        self.assertEqual(set(found()), {"image_uuid", "name", "status", "image_size", "create_at"})
        self.assertNotEqual(found()["status"], "finished")
        self.refused(pro(c, "create", **dict(ORDER, image_uuid=image)), "RequestParameterIsWrong", "请求参数错误")
        until(lambda: found()["status"] == "finished", 5, "the image")
        buy(c, image_uuid=image)

    def test_stock_says_nothing_about_what_can_be_had(self):
        """§2.3: an array of single keys (l.248), an unknown region as if sold out, and it lies (l.250-251)."""
        c, path = self.c, "/api/v1/dev/machine/region/gpu_stock"
        c.stock("4090D", 0)
        shown = good(ask(c, "POST", path, region_sign="westDC3", gpu_name_set=["RTX 4090D"]))
        self.assertEqual(shown, [{"RTX 4090D": {"idle_gpu_num": 140, "total_gpu_num": 1032, "chip_corp": "nvidia", "cpu_arch": "x86"}}])
        self.refused(pro(c, "create", **ORDER), "InternalError", "当前算力规格暂无库存")
        self.assertEqual(good(ask(c, "POST", path, region_sign="west-C")), [])
        self.assertEqual(len(good(ask(c, "POST", path, region_sign="beijingDC2", cuda_v_from=118))), 7)

    def test_stock_comes_and_goes(self):
        c = self.c
        c.stock("4090D", 1)
        uuid = running(c)
        self.refused(pro(c, "create", **ORDER), "InternalError", "暂无库存")
        turn_off(c, uuid)                                   # l.491: keeps no card
        other = running(c)
        self.refused(pro(c, "power_on", instance_uuid=uuid, payload="gpu"), "InternalError", "当前算力规格暂无库存, 请修改配置或稍等再试")
        turn_off(c, other)
        c.stock("4090D", 0)
        c.stock("4090D", 1, after=0.3)
        self.refused(pro(c, "power_on", instance_uuid=uuid, payload="gpu"), "InternalError", "暂无库存")
        until(lambda: pro(c, "power_on", instance_uuid=uuid, payload="gpu")["code"] == "Success", 3, "a card")
        self.refused(pro(c, "create", **dict(ORDER, req_gpu_amount=2)), "InternalError", "暂无库存")

    def test_account_that_is_not_verified(self):
        """l.472, l.152."""
        uuid = running(self.c)
        self.c.account(verified=False)
        for call, body in {"create": ORDER, "status": {"instance_uuid": uuid}, "power_off": {"instance_uuid": uuid}}.items():
            self.refused(pro(self.c, call, **body), "TORealName", "未完成实名认证")

    def test_what_enterprises_have(self):
        """l.473."""
        self.refused(ask(self.c, "POST", "/api/v1/dev/deployment/list", **PAGE), "BadRequest", "无当前资源访问权限")

    def test_wechat(self):
        """§2.5: five a minute. contrib/hooks/wechat sends one."""
        push = lambda **body: ask(self.c, "POST", "/api/v1/wechat/message/send", **body)
        text = 'it may be "billed" \\ $(x) `x`\n在等'
        token = os.path.join(self.enterContext(tempfile.TemporaryDirectory()), "wechat.token")
        happened = {"EVENT": "stop_not_confirmed", "TARGET": "gz-4090", "TEXT": text, "WECHAT_URL": self.c.url,
                    "CONFIG_DIRECTORY": os.path.dirname(token)}
        env = {"PATH": os.environ["PATH"], **{"LLMHOST_" + n: v for n, v in happened.items()}}
        hook = lambda: subprocess.run([hosts.REPO + "/contrib/hooks/wechat"], env=env, capture_output=True, text=True, cwd="/")
        self.assertRegex(hook().stderr, "^no token")
        for mode, said in [(0o644, "^others may read"), (0o600, "^AutoDL refused it: .*AuthorizeFailed")]:
            with open(token, "w") as f:
                f.write("wrong" if mode == 0o600 else self.c.developer_token)
            os.chmod(token, mode)
            self.assertRegex(hook().stderr, said)
        self.assertEqual(self.c.messages(), [])
        with open(token, "w") as f:
            f.write(self.c.developer_token + "\n")
        self.assertEqual(hook().stdout, "sent\n")
        for n in range(4):
            self.assertIsNone(good(push(title=f"{n}", content="text")))
        self.assertNotEqual(push(title="6")["code"], "Success")
        self.assertRegex(hook().stderr, "^AutoDL refused it: ")
        sent = self.c.messages()
        self.assertEqual([m["title"] for m in sent], ["llmhost: stop_not_confirmed gz-4090", *"0123"])
        self.assertEqual((sent[0]["name"], sent[0]["content"]), ("gz-4090", text.replace("\n", " ")))


class Strict(WithCompany):
    """What a loose fake would let through."""

    def call(self, method, path, body=b"", token="", kind="application/json", **more):
        headers = [("Content-Type", kind)] if kind else []
        headers += [("Authorization", t) for t in ([token or self.c.developer_token] if isinstance(token, str) else token)]
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        status, answer = raw(self.c, method, path, data, headers)
        self.assertEqual(status, 200)
        return json.loads(answer)

    def test_token(self):
        """l.48: raw, nothing before it; once; the right one of the two."""
        token = self.c.developer_token
        for wrong in (["Bearer " + token], [token + " "[:0] + "x"], [], ["x", token], [self.c.web_token], [""]):
            answer = self.call("POST", PRO + "list", PAGE, token=wrong)
            self.refused(answer, "AuthorizeFailed", "登录超时")
        self.refused(self.call("POST", CONSOLE, {}, token=["Bearer " + self.c.web_token]), "AuthorizeFailed", "登陆超时")
        self.refused(self.call("POST", CONSOLE, {}), "AuthorizeFailed", "登录超时")         # the developer's (l.339-342)
        self.c.account(developer_on_console=True)
        self.addCleanup(self.c.account, developer_on_console=False)
        good(self.call("POST", CONSOLE, {}))

    def test_reads_take_the_query_string_and_no_body(self):
        """l.73-76."""
        uuid = buy(self.c)
        for call in ("status", "snapshot"):
            at = PRO + call
            good(self.call("GET", f"{at}?instance_uuid={uuid}", kind=""))
            for path, body in ((at, {"instance_uuid": uuid}), (f"{at}?instance_uuid={uuid}", {"instance_uuid": uuid}), (at, b""),
                               (f"{at}?instance_uuid={uuid}&x=1", b""), (f"{at}?instance_uuid={uuid}&instance_uuid={uuid}", b""),
                               (f"{at}?uuid={uuid}", b""), (f"{at}?instance_uuid=", b"")):
                with self.subTest(path=path, body=body):
                    self.refused(self.call("GET", path, body), "RequestParameterIsWrong", "请求参数错误")

    def test_orders(self):
        """l.137-151: types, ranges, ids, regions; nothing missing, nothing more."""
        wrong = [{"req_gpu_amount": n} for n in (0, 5, "1", 1.0, True, None)]
        wrong += [{"expand_system_disk_by_gb": n} for n in (-1, 501, "0", 30 << 30)]
        wrong += [{"gpu_spec_uuid": s} for s in ("RTX 4090D", "4090d", "", 4090)]
        wrong += [{"image_uuid": s} for s in ("PyTorch", "image-unknown", "")]
        wrong += [{"cuda_v_from": n} for n in ("118", 11.8, 12)]
        wrong += [{"data_center_list": s} for s in (["west-C"], ["westDC2"], ["westDC3", "foshanDC1"], "westDC3")]
        wrong += [{"instance_name": 1}, {"start_command": ["sh"]}, {"name": "x"}, {"payload": "gpu"}]
        for change in wrong:
            with self.subTest(change=change):
                self.refused(self.call("POST", PRO + "create", dict(ORDER, **change)), "RequestParameterIsWrong", "请求参数错误")
        for missing in set(ORDER) - {"instance_name"}:
            with self.subTest(missing=missing):
                body = {k: v for k, v in ORDER.items() if k != missing}
                self.refused(self.call("POST", PRO + "create", body), "RequestParameterIsWrong", "")
        self.assertEqual(self.c.instances(), [])
        buy(self.c, data_center_list=["beijingDC2"], start_command="true")

    def test_bodies(self):
        body = json.dumps(PAGE).encode()
        for data, kind in ((body, ""), (body, "text/plain"), (b"", "application/json"), (b"[]", "application/json"),
                           (b"{", "application/json"), (b'{"page_index":1,"page_index":1,"page_size":5}', "application/json"),
                           (b"page_index=1&page_size=5", "application/x-www-form-urlencoded")):
            with self.subTest(data=data, kind=kind):
                self.refused(self.call("POST", PRO + "list", data, kind=kind), "RequestParameterIsWrong", "")
        self.refused(self.call("POST", PRO + "list?page_index=1&page_size=5", {}), "RequestParameterIsWrong", "")
        for page in ({"page_index": 0, "page_size": 5}, {"page_index": 1}, {"page_index": "1", "page_size": 5}):
            self.refused(self.call("POST", PRO + "list", page), "RequestParameterIsWrong", "")
        self.refused(self.call("POST", "/api/v1/dev/wallet/balance", {"x": 1}), "RequestParameterIsWrong", "")
        self.refused(self.call("POST", PRO + "power_on", {"instance_uuid": buy(self.c)}), "RequestParameterIsWrong", "")
        self.refused(self.call("POST", "/api/v1/dev/machine/region/gpu_stock", {}), "RequestParameterIsWrong", "")

    def test_paths_and_methods_they_do_not_have(self):
        """l.52: 404."""
        for method, path in (("GET", "/api/v1/dev/user/info"), ("GET", PRO + "list"), ("POST", PRO + "status"),
                             ("POST", PRO + "power_on/"), ("DELETE", PRO + "release")):
            self.assertEqual(raw(self.c, method, path, headers=[("Authorization", self.c.developer_token)])[0], 404, path)

    def test_families_do_not_know_each_other(self):
        """l.471: an ordinary instance sent to the Pro API, and the other way round."""
        mine, theirs = self.c.rent(name="o"), buy(self.c)
        for call in ("power_off", "release", "power_on"):
            more = {"payload": "gpu"} if call == "power_on" else {}
            self.refused(pro(self.c, call, instance_uuid=mine, **more), "RecordNotFoundError", "未查询到相关实例")
            self.refused(web(self.c, "POST", "/" + call, instance_uuid=theirs), "RecordNotFoundError", "未查询到相关实例")
        self.refused(pro(self.c, "status", instance_uuid=mine), "RecordNotFoundError", "")
        self.assertEqual([i["uuid"] for i in good(web(self.c, "POST", ""))["list"]], [mine])
        self.assertEqual([i["uuid"] for i in good(pro(self.c, "list", **PAGE))["list"]], [theirs])


class Console(WithCompany):
    """§3: ordinary instances."""

    def item(self, uuid):
        return next(i for i in good(web(self.c, "POST", "", **PAGE, date_from="", date_to="", status=[], charge_type=[]))["list"]
                    if i["uuid"] == uuid)

    def test_list_and_reads(self):
        """l.349-351, l.360-371: address and password also while off."""
        uuid = self.c.rent(name="mine", gpus=2)
        item = self.item(uuid)
        self.assertRegex(uuid, "^[0-9a-f]{10}-[0-9a-f]{8}$")
        self.assertEqual(item["machine_id"], uuid.split("-")[0])
        self.assertLessEqual({"rent_deadline", "ssh_command", "proxy_host", "ssh_port", "root_password", "start_mode", "charge_type",
                              "expired_at", "started_at", "stopped_at", "usage_info", "timed_shutdown_at", "gpu_all_num",
                              "gpu_idle_num", "auto_trans_to_payg", "payg_price", "region_name", "oom_killed"}, set(item))
        self.assertEqual((item["status"], item["name"], item["gpu_idle_num"]), ("shutdown", "mine", 8))
        self.assertTrue(item["root_password"] and item["ssh_port"])
        self.assertEqual(good(web(self.c, "POST", "", status=["running"]))["list"], [])
        self.assertEqual(good(web(self.c, "GET", "/detail", instance_uuid=uuid))["status"], "shutdown")
        self.assertEqual(good(web(self.c, "GET", "/snapshot", instance_uuid=uuid))["payg_price"], 2 * 1880)
        self.assertIsNone(good(web(self.c, "PUT", "/name", instance_uuid=uuid, instance_name="other")))
        self.assertEqual(self.item(uuid)["name"], "other")
        self.refused(web(self.c, "POST", "/release", instance_uuid="nobody"), "RecordNotFoundError", "")

    def test_power_and_the_same_address(self):
        uuid = self.c.rent(name="mine")
        before = self.item(uuid)
        for body in ({}, {"payload": "gpu"}):
            self.assertIsNone(good(web(self.c, "POST", "/power_on", instance_uuid=uuid, **body)))
            self.c.until(uuid, "running")
            self.assertEqual((self.item(uuid)["start_mode"], self.item(uuid)["gpu_idle_num"]), ("gpu", 7))
            self.assertEqual(self.item(uuid)["ssh_command"], before["ssh_command"])
            self.assertIsNone(good(web(self.c, "POST", "/power_off", instance_uuid=uuid)))
            self.c.until(uuid, "shutdown")
        self.refused(web(self.c, "POST", "/power_on", instance_uuid=uuid, payload="cpu"), "ServerError", "不支持的启动模式")
        self.assertIsNone(good(web(self.c, "POST", "/release", instance_uuid=uuid)))
        self.assertIsNone(self.c.instance(uuid))

    def test_full_host_and_no_card(self):
        """l.479, l.498: full; l.503: without a card at 0.1 an hour, one at a time."""
        full, other = self.c.rent(name="full", idle=0), self.c.rent(name="other")
        self.refused(web(self.c, "POST", "/power_on", instance_uuid=full), "InstanceError", "该主机空闲GPU不足")
        good(web(self.c, "POST", "/power_on", instance_uuid=full, payload="non_gpu"))
        self.c.until(full, "running")
        self.assertEqual((self.item(full)["start_mode"], self.item(full)["gpu_idle_num"]), ("non_gpu", 0))
        self.assertEqual([r["rate"] for r in self.c.bill() if r["instance"] == full], [100])
        self.assertNotEqual(web(self.c, "POST", "/power_on", instance_uuid=other, payload="non_gpu")["code"], "Success")
        good(web(self.c, "POST", "/power_off", instance_uuid=full))
        self.c.until(full, "shutdown")
        self.c.host(full, 1)
        good(web(self.c, "POST", "/power_on", instance_uuid=full))

    def test_timed_shutdown(self):
        """l.356: two formats, either of which may be the only one; null takes it back; read back in the list."""
        c, uuid = self.c, self.c.rent(name="mine")
        good(web(c, "POST", "/power_on", instance_uuid=uuid))
        c.until(uuid, "running")
        set_to = lambda at: web(c, "POST", "/timed/shutdown", instance_uuid=uuid, shutdown_at=at)
        minute = datetime.datetime.now(datetime.timezone(datetime.timedelta(hours=8))) + datetime.timedelta(hours=2)
        text = minute.strftime("%Y-%m-%d %H:%M")
        good(set_to(text))
        self.assertEqual(self.item(uuid)["timed_shutdown_at"], {"Time": text.replace(" ", "T") + ":00+08:00", "Valid": True})
        good(set_to(None))
        self.assertFalse(self.item(uuid)["timed_shutdown_at"]["Valid"])
        for wrong in ("tomorrow", 5, "2020-01-01 00:00", True, ""):
            self.refused(set_to(wrong), "RequestParameterIsWrong", "")
        c.account(timed_format="text")
        self.refused(set_to(int(time.time() * 1000) + 5000), "RequestParameterIsWrong", "")
        c.account(timed_format="ms")
        self.refused(set_to(text), "RequestParameterIsWrong", "")
        good(set_to(int(time.time() * 1000) + 300))
        self.assertEqual(c.until(uuid, "shutdown")["timed"], None)
        self.assertIn("timed shutdown", [e["why"] for e in c.events() if e["instance"] == uuid])

    def test_market(self):
        """§3.3, l.381-382."""
        path, token = "/api/v1/user/machine/list", self.c.web_token
        found = good(ask(self.c, "POST", path, token=token, charge_type="payg", gpu_type_name=["RTX 5090"], gpu_idle_num=1, **PAGE))
        self.assertEqual([(m["gpu_name"], m["payg_price"]) for m in found["list"]], [("RTX 5090", 2780)])
        types = good(ask(self.c, "POST", "/api/v1/machine/region/gpu_type", token=token, region_sign_list=["beijing-A"]))
        self.assertIn({"RTX 4090D": {"idle_gpu_num": 140, "total_gpu_num": 1032}}, types)
