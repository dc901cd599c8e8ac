"""The rental company's faults, and two calls at once. Facts: reference/autodl.md, §N, l.N are its sections and lines."""
import concurrent.futures
import http.client
import random
import time

from customer import CONSOLE, ORDER, PAGE, PRO, Told, WithCompany, ask, buy, good, listed, pro, running, turn_off, web
from host import until

LIMIT_S = 90


class Faults(WithCompany):
    """Each fault by name: what the caller sees, and whether it happened. The call that changes something is a new name."""
    SEEN = {        # fault: (what the caller sees, the effect); those that wait do so for a second
        "timeout_before": ("silence", "never"), "timeout_after": ("silence", "now"), "timeout_late": ("silence", "later"),
        "slow": ("late Success", "now"), "slow_before": ("late Success", "late"), "late": ("Success", "later"),
        "lost": ("Success", "never"), "bad_gateway": (502, "never"), "bad_gateway_after": (502, "now"), "bad_gateway_late": (502, "later"),
        "unavailable": (503, "never"), "too_many": (429, "never"), "unauthorized": (401, "never"), "html": ("no JSON", "never"),
        "html_after": ("no JSON", "now"), "cut": ("closed", "never"), "cut_after": ("closed", "now"), "reset": ("closed", "now"),
        "garbage": ("no JSON", "now"), "empty": ("no JSON", "now"), "flood": ("no JSON", "now"), "null_data": ("Success", "now"),
        "unknown_code": ("SomethingElse", "never")}

    def seen(self, uuid, name):
        start = time.monotonic()
        try:
            answer = ask(self.c, "PUT", CONSOLE + "/name", token=self.c.web_token, limit_s=1.6, instance_uuid=uuid, instance_name=name)
            return ("late " if time.monotonic() - start > 0.8 else "") + answer["code"]
        except Told as told:
            return told.args[0]
        except ValueError:
            return "no JSON"
        except TimeoutError:
            return "silence"
        except (ConnectionError, http.client.HTTPException):
            return "closed"

    def test_each_on_a_call_that_changes_something(self):
        uuid = self.c.rent(name="before")
        named = lambda: self.c.instance(uuid)["name"]
        for name, (sight, effect) in self.SEEN.items():
            with self.subTest(fault=name):
                self.c.fault(name, on="console/name", seconds=3 if name == "timeout_late" else 30 if sight == "silence" else 1)
                self.assertEqual(self.seen(uuid, name), sight)
                entry = [e for e in self.c.calls() if e["call"] == "console/name"][-1]
                self.assertEqual(entry["fault"], name)
                if effect == "later":
                    self.assertNotEqual(named(), name)
                    until(lambda: named() == name, 5, "the effect")
                    entry = next(e for e in self.c.calls() if e["n"] == entry["n"])
                    self.assertGreater(entry["effect_at"] - entry["at"], 0.8)
                elif effect == "never":
                    self.assertNotEqual(named(), name)
                    self.assertIsNone(entry["effect_at"])
                else:
                    self.assertEqual(named(), name)
                    self.assertEqual(entry["effect_at"] - entry["at"] > 0.8, effect == "late")
                self.assertEqual(self.seen(uuid, "next"), "Success")         # once is the default

    def test_each_error_text(self):
        """§4.5, one row each; nothing happens."""
        table = {"bad_parameter": ("RequestParameterIsWrong", "请求参数错误"), "not_found": ("RecordNotFoundError", "未查询到相关实例"),
                 "not_verified": ("TORealName", "未完成实名认证"), "no_permission": ("BadRequest", "无当前资源访问权限"),
                 "not_off": ("BadRequest", "请在实例关机状态下执行释放操作"), "no_stock": ("InternalError", "当前算力规格暂无库存"),
                 "image_not_off": ("InternalError", "保存实例镜像前，请确保实例是关机状态"), "bad_mode": ("ServerError", "不支持的启动模式"),
                 "denied": ("AuthorizeFailed", "登录超时"), "host_full": ("InstanceError", "主机GPU空闲数量：0 卡"),
                 "low_balance": ("InternalError", "余额"), "in_debt": ("BadRequest", "欠费"), "wrong_state": ("BadRequest", "状态")}
        for name, (code, msg) in table.items():
            with self.subTest(error=name):
                self.c.fault(name, on="create")
                self.refused(pro(self.c, "create", **ORDER), code, msg)
                self.assertEqual([self.c.calls()[-1][k] for k in ("fault", "code", "effect_at")], [name, code, None])
        self.assertEqual(self.c.instances(), [])

    def test_which_call_how_often_which_instance(self):
        one, two = self.c.rent(name="one"), self.c.rent(name="two")
        self.c.fault("no_permission", "console/detail", times=2, instance=one)
        codes = [web(self.c, "GET", "/detail", instance_uuid=u)["code"] for u in (two, one, one, one)]
        self.assertEqual(codes, ["Success", "BadRequest", "BadRequest", "Success"])
        self.c.fault("no_permission", times=0)
        self.assertEqual({web(self.c, "POST", "")["code"] for _ in range(5)}, {"BadRequest"})
        self.assertEqual([f["used"] for f in self.c.faults()], [5])
        self.c.heal()
        good(web(self.c, "POST", ""))

    def test_lost_power_off(self):
        uuid = running(self.c)
        self.c.fault("lost", on="power_off")
        self.assertIsNone(good(pro(self.c, "power_off", instance_uuid=uuid)))
        time.sleep(0.4)
        self.assertEqual(good(pro(self.c, "status", instance_uuid=uuid)), "running")
        turn_off(self.c, uuid)

    def test_creation_nobody_heard_of(self):
        """No answer, and later it is there, under its name."""
        self.c.fault("timeout_late", on="create", seconds=1)
        with self.assertRaises(TimeoutError):
            ask(self.c, "POST", PRO + "create", limit_s=0.3, **dict(ORDER, instance_name="late one"))
        self.assertEqual(good(pro(self.c, "list", **PAGE))["list"], [])
        until(lambda: [i["name"] for i in good(pro(self.c, "list", **PAGE))["list"]] == ["late one"], 3, "the instance")

    def test_late_power_on_of_what_is_on_by_then_does_nothing(self):
        uuid = running(self.c)
        turn_off(self.c, uuid)
        self.c.fault("late", on="power_on", seconds=1)
        good(pro(self.c, "power_on", instance_uuid=uuid, payload="gpu"))
        good(pro(self.c, "power_on", instance_uuid=uuid, payload="gpu"))
        self.c.until(uuid, "running")
        until(lambda: all(e["effect_at"] for e in self.c.calls() if (e["call"], e["instance"]) == ("power_on", uuid)), 5,
              "both effects")
        self.assertEqual([e["status"] for e in self.c.events() if e["instance"] == uuid][-2:], ["starting", "running"])

    def test_slow_read_tells_what_was(self):
        uuid = running(self.c)
        self.c.fault("slow", on="status", seconds=0.8)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            told = pool.submit(pro, self.c, "status", instance_uuid=uuid)
            until(lambda: self.c.calls()[-1]["call"] == "status", 3, "the call")
            turn_off(self.c, uuid)
            self.assertEqual(good(told.result()), "running")

    def test_wrong_words_in_reads(self):
        c, uuid = self.c, running(self.c)
        c.fault("state", on="status", word="powering_on")
        c.fault("state", on="list", word="re_initializing")
        self.assertEqual(good(pro(c, "status", instance_uuid=uuid)), "powering_on")
        self.assertEqual(listed(c, uuid)["status"], "re_initializing")
        c.fault("hidden", on="list")
        self.assertIsNone(listed(c, uuid))
        self.assertEqual(listed(c, uuid)["status"], "running")
        first = good(pro(c, "snapshot", instance_uuid=uuid))
        turn_off(c, uuid)
        good(pro(c, "power_on", instance_uuid=uuid, payload="gpu"))
        c.until(uuid, "running")
        c.fault("stale", on="snapshot")
        self.assertEqual(good(pro(c, "snapshot", instance_uuid=uuid))["root_password"], first["root_password"])
        c.fault("no_fields", on="snapshot")
        self.assertNotIn("ssh_port", good(pro(c, "snapshot", instance_uuid=uuid)))
        self.assertNotEqual(good(pro(c, "snapshot", instance_uuid=uuid))["root_password"], first["root_password"])

    def test_boots_that_fail(self):
        """l.412, l.695: costs nothing, takes no card."""
        c, ordinary = self.c, self.c.rent(name="o")
        c.stock("4090D", 1)
        for word in ("", "failed"):
            c.fault("boot_fails", word=word)
            uuid = buy(c)
            c.until(uuid, word or "shutdown")
            self.assertEqual([r for r in c.bill() if r["instance"] == uuid], [])
        good(pro(c, "power_on", instance_uuid=uuid, payload="gpu"))
        c.until(uuid, "running")
        c.fault("boot_fails")
        good(web(c, "POST", "/power_on", instance_uuid=ordinary))
        c.until(ordinary, "shutdown_by_starting_error")

    def test_no_such_fault(self):
        with self.assertRaisesRegex(Exception, "fault 'boom': there are timeout_before"):
            self.c.fault("boom")


class Together(WithCompany):
    """Two calls at once."""

    def at_once(self, count, call):
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            return [f.result() for f in [pool.submit(call) for _ in range(count)]]

    def test_power_on_takes_effect_once(self):
        uuid = running(self.c)
        turn_off(self.c, uuid)
        codes = [a["code"] for a in self.at_once(12, lambda: pro(self.c, "power_on", instance_uuid=uuid, payload="gpu"))]
        self.assertEqual(codes.count("Success"), 1)
        self.c.until(uuid, "running")
        time.sleep(0.3)
        self.assertEqual(len([r for r in self.c.bill() if r["instance"] == uuid and r["end"] is None]), 1)

    def test_last_card_is_sold_once(self):
        self.c.stock("4090D", 1)
        codes = [a["code"] for a in self.at_once(12, lambda: pro(self.c, "create", **ORDER))]
        self.assertEqual((codes.count("Success"), codes.count("InternalError")), (1, 11))
        self.assertEqual(len(self.c.instances()), 1)

    def test_many_who_press_everything(self):
        """Whatever comes together: each instance is billed once at a time, for what its states say, and has legal states only."""
        after = {"creating": {"starting"}, "starting": {"running"}, "running": {"shutting_down"}, "shutting_down": {"shutdown"},
                 "shutdown": {"starting", "released"}}
        c, seed = self.c, int(time.time())
        c.stock("4090D", 3)
        c.fault("late", on="power_off", times=0, seconds=0.3)
        c.fault("late", on="power_on", times=5, seconds=0.5)

        def press(number):
            dice, due = random.Random(seed + number), time.monotonic() + 3
            while time.monotonic() < due:
                if dice.random() < 0.1:
                    pro(c, "create", **ORDER)
                for item in good(pro(c, "list", **PAGE))["list"]:
                    call = dice.choice(["power_on", "power_off", "power_off", "release"])
                    pro(c, call, instance_uuid=item["uuid"], **({"payload": "gpu"} if call == "power_on" else {}))
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            list(pool.map(press, range(6)))
        c.heal()
        self.addCleanup(c.stock, "4090D", "any")
        self.clean()
        rows, lives, at = c.bill(), {}, {}
        for e in c.events():
            lives.setdefault(e["instance"], []).append(e["status"])
            if e["status"] == "running":
                at.setdefault(e["instance"], []).append(int(e["at"]))
        self.assertGreater(len(rows), 5, seed)
        for uuid, life in lives.items():
            self.assertEqual([(a, b) for a, b in zip(life, life[1:]) if b not in after[a]], [], f"{uuid}, seed {seed}")
            mine = [r for r in rows if r["instance"] == uuid]
            self.assertEqual([r["start"] for r in mine], at.get(uuid, []), seed)
            self.assertTrue(all(r["end"] is not None for r in mine), seed)
            self.assertTrue(all(a["end"] <= b["start"] for a, b in zip(mine, mine[1:])), seed)

    def test_calls_are_listed_in_their_order(self):
        uuid = running(self.c)
        self.at_once(8, lambda: pro(self.c, "status", instance_uuid=uuid))
        turn_off(self.c, uuid)
        calls = self.c.calls()
        self.assertEqual([e["n"] for e in calls], list(range(1, len(calls) + 1)))
        self.assertEqual([e["at"] for e in calls], sorted(e["at"] for e in calls))
        mine = [e for e in calls if e["instance"] == uuid]
        self.assertEqual([e["call"] for e in mine], ["create"] + ["status"] * 8 + ["power_off"])
        self.assertTrue(all(e["at"] <= (e["effect_at"] or e["answered_at"]) <= e["answered_at"] for e in mine))

    def test_buttons_are_listed_too(self):
        uuid = running(self.c)
        self.c.press("power_off", uuid)
        self.c.until(uuid, "shutdown")
        with self.assertRaisesRegex(Exception, "BadRequest"):
            self.c.press("power_off", uuid)
        self.c.press("power_on", "llmhost-1")
        self.c.until(uuid, "running")
        self.assertEqual([e["call"] for e in self.c.calls() if e["by"] == "console" and e["effect_at"]], ["power_off", "power_on"])
        self.assertIn("console", [e["why"] for e in self.c.events()])
