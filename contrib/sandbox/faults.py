"""What can go wrong at the company: its own error texts, and faults that are ordered by name.

A fault waits for the next TIMES calls it applies to (0: for ever) and says two things: what becomes of the effect (now, later,
never), and what the caller gets to see. Lines are those of reference/autodl.md.
"""
import dataclasses

# name: (code, msg, line). What §4.5 has as "msg contains" stands in the middle of a sentence like theirs.
ERRORS = {
    "bad_parameter": ("RequestParameterIsWrong", "请求参数错误", 470),
    "not_found": ("RecordNotFoundError", "未查询到相关实例", 471),
    "not_verified": ("TORealName", "账号未完成实名认证，请先实名", 472),
    "no_permission": ("BadRequest", "无当前资源访问权限", 473),
    "not_off": ("BadRequest", "请在实例关机状态下执行释放操作", 474),
    "no_stock": ("InternalError", "当前算力规格暂无库存, 请修改配置或稍等再试", 475),       # whole text: l.208
    "image_not_off": ("InternalError", "保存实例镜像前，请确保实例是关机状态", 476),
    "bad_mode": ("ServerError", "不支持的启动模式", 477),
    "denied": ("AuthorizeFailed", "登陆超时，请重新登录; 登录超时，请重新登录", 478),        # whole text: l.338
    "host_full": ("InstanceError", "该主机空闲GPU不足，请稍后再试。主机GPU空闲数量：0 卡", 479),
    "low_balance": ("InternalError", "账户余额不足，请充值", 480),                  # l.480: text and code are guessed
    "in_debt": ("BadRequest", "账户已欠费，请充值", 480),
    # l.80: "answers an error", which one nobody wrote down. So a client must not know it by its words.
    "wrong_state": ("BadRequest", "实例当前状态不支持该操作", 80),
}


class Refusal(Exception):
    """The company says no: one row of ERRORS."""

    def __init__(self, name):
        self.code, self.msg, self.line = ERRORS[name]
        super().__init__(f"{self.code} {self.msg}")


def refuse(name):
    raise Refusal(name)


NOW, LATER, NEVER = "now", "later", "never"

# name: (effect, answer, seconds, what it is). seconds: how long it usually is about, changed by seconds=N.
FAULTS = {
    "timeout_before": (NEVER, "hang", 120, "no answer, nothing happens"),
    "timeout_after": (NOW, "hang", 120, "no answer, and it happened"),
    "timeout_late": (LATER, "hang", 3, "no answer, and it happens after so long"),
    "slow": (NOW, "slow", 10, "happens at once, answered after so long (a read: with what was true before)"),
    "slow_before": (NOW, "wait", 10, "lies there for so long, then happens and is answered"),
    "late": (LATER, "true", 3, "Success at once, happens after so long"),
    "lost": (NEVER, "true", 0, "Success, and nothing ever happens"),
    "bad_gateway": (NEVER, "http 502", 0, "502 with HTML, nothing happens"),
    "bad_gateway_after": (NOW, "http 502", 0, "502 with HTML, and it happened"),
    "bad_gateway_late": (LATER, "http 502", 200, "502 with HTML, and it happens after so long"),
    "unavailable": (NEVER, "http 503", 0, "503 with HTML"),
    "too_many": (NEVER, "http 429", 0, "429 with HTML"),
    "unauthorized": (NEVER, "http 401", 0, "401 with HTML"),
    "html": (NEVER, "http 200", 0, "200 with HTML, nothing happens"),
    "html_after": (NOW, "http 200", 0, "200 with HTML, and it happened"),
    "cut": (NEVER, "cut", 0, "connection closed without an answer, nothing happens"),
    "cut_after": (NOW, "half", 0, "it happens, the connection ends in the middle of the answer"),
    "reset": (NOW, "reset", 0, "it happens, the connection is reset"),
    "garbage": (NOW, "garbage", 0, "it happens, the answer is no JSON"),
    "empty": (NOW, "empty", 0, "it happens, the answer has no bytes"),
    "flood": (NOW, "flood", 0, "it happens, the answer has 3 MiB"),
    "null_data": (NOW, "null", 0, "it happens, the answer's data is null"),
    "unknown_code": (NEVER, "code", 0, "a code and text nobody knows"),
    # Wrong content of an answer to a read.
    "state": (NOW, "true", 0, "status, list say WORD instead (word=...)"),
    "hidden": (NOW, "true", 0, "lists leave the instances out"),
    "stale": (NOW, "true", 0, "snapshot has host, port, password of the last power cycle"),
    "no_fields": (NOW, "true", 0, "snapshot has no host, port, password"),
    # The next power-on, whoever orders it.
    "boot_fails": (NOW, "boot", 0, "ends in WORD instead of running (word=...; default shutdown, shutdown_by_starting_error)"),
    "new_host_key": (NOW, "boot", 0, "another host key"),
    "sshd_late": (NOW, "boot", 10, "sshd comes so much later than running"),
    "no_start_command": (NOW, "boot", 0, "the start command does not run"),
}
BOOT = [name for name, row in FAULTS.items() if row[1] == "boot"]


@dataclasses.dataclass
class Fault:
    name: str
    on: str                 # a call's name as in the list of calls, or *
    times: int              # 0: for ever
    seconds: float
    instance: str           # this one alone, or ""
    word: str
    used: int = 0

    @property
    def effect(self):
        return FAULTS[self.name][0] if self.name in FAULTS else NEVER

    @property
    def answer(self):
        return FAULTS[self.name][1] if self.name in FAULTS else "error"

    def fits(self, call, instance):
        return (self.on in ("*", call) and (not self.instance or self.instance == instance)
                and (not self.times or self.used < self.times))


class Faults:
    """Those that were ordered and are not used up; the oldest that fits is taken."""

    def __init__(self):
        self.ordered = []

    def order(self, name, on="*", times=1, seconds=None, instance="", word=""):
        if name not in FAULTS and name not in ERRORS:
            raise ValueError(f"fault {name!r}: there are {' '.join([*FAULTS, *ERRORS])}")
        usual = FAULTS[name][2] if name in FAULTS else 0
        self.ordered.append(Fault(name, on, int(times), usual if seconds is None else float(seconds), instance, word))

    def take(self, call, instance="", boot=False):
        for fault in self.ordered:
            if (fault.name in BOOT) == boot and fault.fits(call, instance):
                fault.used += 1
                return fault
        return None

    def take_boot(self, instance):
        """All that the next power-on has to suffer: name -> fault."""
        found = {}
        while fault := next((f for f in self.ordered if f.name in BOOT and f.name not in found and f.fits("*", instance)), None):
            fault.used += 1
            found[fault.name] = fault
        return found

    def heal(self):
        self.ordered.clear()

    def list(self):
        return [dataclasses.asdict(f) for f in self.ordered if not f.times or f.used < f.times]


def text():
    """What --help says of them."""
    rows = [f"  {name:18} {row[3]}" for name, row in FAULTS.items()]
    rows += [f"  {name:18} {code}: {msg}" for name, (code, msg, _) in ERRORS.items()]
    return "\n".join(rows)
