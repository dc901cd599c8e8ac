"""Cases of machines that cost money (cases.py says what a case is). Their times of day, as in "lease to 14:52", are shown as HH:MM."""
import time

from steps import case, error, stage, widths

MODEL = "ollama:deepseek-r1:7b"
STATUS = [{"reply": {"world": "money"}}]
ACCOUNT = {"world": "account"}
CONSOLE = {"provider": "autodl-console", "title": "AutoDL", "unofficial": True, "unit": "CNY", "instances": 0, "today": {"milli": 0, "unit": "CNY", "estimate": False, "unknown": False},
           "month": {"milli": 0, "unit": "CNY", "estimate": False, "unknown": False}, "rate": {"milli": 0, "unit": "CNY", "estimate": False, "unknown": False}}
SPENT_MORE = {"provider": "autodl", "title": "AutoDL", "unit": "CNY", "day_milli": 30000, "alert_milli": 24000, "instances": 3}
RENTAL = {"world": "rental-in-use"}
OFF = {"guard": {"state": "away", "proved": True}, "stays": None, "provider_state": "shutdown", "released_at_ms": "@1296000s"}


def yuan(milli, estimate=False, unknown=False):
    return {"milli": milli, "unit": "CNY", "estimate": estimate, "unknown": unknown}


def rental(**more):
    return {"goal": "on", "gpu": "4090D", "cards": 1, "disk_gb": 50, "id": "pro-5f0c", "region": "西北B区", "provider_state": "running",
            "provider_state_at_ms": "@-12s", "tries": 0, "rate": yuan(1980), "today": yuan(6106),
            "guard": {"state": "kept", "read_at_ms": "@-12s", "acts_at_ms": "@888s", "ways": "shutdown", "proved": True}, **more}


def machine(name, state, tunnel="none", trouble=None, **more):
    return {"name": name, "provider": "autodl", "state": state, "rented": True, "tunnel": {"state": tunnel, "tries": 0, "reconnects": 0},
            "rental": rental(**more), "trouble": trouble}


def hunting(name, on):
    return {"name": name, "id": name[7:], "engine": "ollama", "state": "connecting", "stage": "capacity", "goal": "on", "instance": on, "in_flight": 0,
            "held": 2, "requests": 2, "awake": [], "since_at_ms": "@-38s", "next": {"action": "retry"}}


ASLEEP = {**hunting(MODEL, "hz-3090"), "state": "asleep", "stage": None, "held": 0, "next": None}
NOT_CONFIRMED = {"code": "stop_not_confirmed", "target": "hz-3090", "exit": 11, "next": ["llmhostctl down hz-3090 --now"],
                 "message": "may still be billed at ¥1.48/h: AutoDL still says \"运行中\" after 2m31s"}
NO_CAPACITY = {"code": "no_capacity", "target": "bj-4090", "exit": 6, "next": ["llmhostctl down bj-4090"], "message": "AutoDL: 当前算力规格暂无库存"}
DAEMON = {"version": "0.1.0", "pid": 4711, "uptime_ms": 525660000, "endpoint": "http://127.0.0.1:11434", "gateway_state": "listening",
          "state_directory": "/var/lib/llmhost"}
OFF_TWINS = [hunting(MODEL, name) for name in ("bj-3090", "bj-4090")]
TROUBLE = {"daemon": DAEMON, "accounts": [ACCOUNT], "trouble": [NOT_CONFIRMED, NO_CAPACITY], "models": [hunting("ollama:qwen3:14b", "bj-4090"), hunting("ollama:qwen3:8b", "bj-3090")],
           "instances": [machine("hz-3090", "stopping", trouble=NOT_CONFIRMED, stop_asked_at_ms="@-151s", rate=yuan(1480), today=yuan(1000)),
                         machine("bj-4090", "waiting", trouble=NO_CAPACITY, tries=13, next_try_at_ms="@21s", search_until_at_ms="@3600s", today=yuan(250)),
                         machine("bj-3090", "waiting", trouble={**NO_CAPACITY, "code": "budget"}),
                         machine("cq-5090", "running", "up", provider_state_at_ms="@-240s", stays="minimum_up", until_at_ms="@480s",
                                 rate=yuan(0, unknown=True), today=yuan(410, True), guard={"state": "refused", "owner": "k3x9", "proved": False}),
                         machine("nm-a100", "running", "up", stays="kept", until_at_ms="@7200s", rate=yuan(3450),
                                 guard={"state": "useless", "reason": "not root, and sudo asks for a password", "proved": False}),
                         machine("xb-3090", "stopping", stop_asked_at_ms="@-12s", doubted_until_at_ms="@166s", rate=yuan(1480)),
                         machine("xb-4090", "starting", guard={"state": "installing", "proved": False}),
                         machine("hk-4090", "running", stays="budget", until_at_ms="@90s", guard={"state": "none", "proved": False})]}
# Nothing is rented yet, or nobody knows; the last one came up just now.
COMING = [machine("gz-4090d", "waiting"), machine("gz-5090", "creating", guard={"state": "to_come", "proved": False}),
          machine("gz-3090", "unknown", asked_at_ms="@-5s", guard={"state": "to_come", "proved": False}),
          machine("xb-4090", "starting", guard={"state": "timer_first", "proved": False}),
          machine("xb-3090", "unknown", since_at_ms="@-2s", guard={"state": "away", "proved": False}),
          machine("xb-5090d", "unknown", since_at_ms="@-2s", was="stopped", stays=None, guard={"state": "away", "proved": True}),
          machine("xb-5090", "running", stays="in_use", since_at_ms="@-9s", guard={"state": "away", "proved": False}),
          machine("xb-a100", "running", stays="in_use", since_at_ms="@-99s", guard={"state": "away", "proved": False})]
# Of two machines: what is about both stands below neither name.
DOWN_TWO = [stage("engine", "running", "ollama"), stage("engine", "done", "2 of 2 stopped", took_ms=1100),
            stage("power_off", "running", "AutoDL: running", instance="a"), stage("power_off", "running", "AutoDL: running", instance="guangzhou-5090"),
            stage("power_off", "done", "AutoDL: shutdown", instance="a", took_ms=5100), stage("confirmed", "done", "AutoDL: shutdown", instance="a", took_ms=5100),
            stage("power_off", "done", "AutoDL: shutdown", instance="guangzhou-5090", took_ms=15000),
            stage("confirmed", "done", "AutoDL: shutdown", instance="guangzhou-5090", took_ms=15000)]
DOWN_TWO = [*({"more": {**step["more"], "done": False}} for step in DOWN_TWO), {"reply": {"done": True, "took_ms": 15100}}]
COST = {"accounts": [ACCOUNT], "total": [yuan(5430)], "lines": [
    {"instance": "gz-4090", "state": "running", "gpu": "4090D", "cards": 1, "now": yuan(1980), "today": yuan(6106), "month": yuan(71200), "stopped": yuan(14, True), "disk_gb": 50},
    {"instance": "nm-a100", "state": "running", "gpu": "A100-PCIE-40GB", "cards": 2, "now": yuan(3450), "today": yuan(1314), "month": yuan(18950), "stopped": yuan(0), "prepaid_until_at_ms": "@600000s"},
    {"instance": "xb-4090d", "state": "stopped", "now": yuan(20, True), "today": yuan(250, True), "month": yuan(6400, True), "stopped": yuan(14, True), "disk_gb": 50, "gpu": "5090", "cards": 1},
    {"instance": "内蒙-5090", "state": "stopping", "now": yuan(0, unknown=True), "today": yuan(1060, unknown=True), "month": yuan(9120, unknown=True),
     "stopped": yuan(0, unknown=True)}]}
REMOVED = {"provider": "autodl", "unit": "CNY", "today": yuan(780, True), "month": yuan(6400, True), "rate": yuan(0)}
# Two calls that got no answer, and one that was not read yet: their sums are marked.
UNHEARD = {**COST, "lines": [COST["lines"][0], {"instance": "gz-5090", "state": "creating", "gpu": "5090", "now_unknown": "AutoDL has not answered the call that makes it",
                                                "today": yuan(0, unknown=True), "month": yuan(0, unknown=True), "stopped": yuan(0)},
                             {"instance": "rented", "state": "unknown", "now_unknown": "AutoDL may still act on a power-on asked 12s ago",
                              "today": yuan(250, unknown=True), "month": yuan(6400, True, True), "stopped": yuan(14, True), "disk_gb": 50}]}
# A name that other machines had before it.
REUSED = {**COST, "lines": [{**COST["lines"][0], "instance": "rented", "id": "pro-5f0c"},
                            *({"instance": "rented", "id": id, "state": "released", "earlier": True, "was_on_at_ms": 1790856000000, "now": yuan(0), "today": yuan(today),
                               "month": yuan(month), "stopped": yuan(0)} for id, today, month in (("pro-41aa", 0, 6400), (None, 250, 12100)))]}
UNITS = {"accounts": [ACCOUNT, {"provider": "pai-dsw", "title": "PAI-DSW", "unit": "CU", "month_milli": 250000, "today": {**yuan(4200), "unit": "CU"},
                                "month": {**yuan(61000), "unit": "CU"}, "rate": {**yuan(0), "unit": "CU"}, "instances": 1}],
         "total": [], "lines": COST["lines"][:1] + [{"instance": "dsw-lab", "state": "stopped", **{k: {**yuan(n), "unit": "CU"} for k, n in (
             ("now", 0), ("today", 4200), ("month", 61000), ("stopped", 0))}}]}
ROWS = [{"provider": "autodl", "instance": "gz-4090", "kind": "compute", "by_us": True, "from_at_ms": "@-9000s", "from_basis": "stamp", "to_at_ms": "@-5400s",
         "to_basis": "stamp", "to_confirmed": True, "rate_milli": 1980, "rate_basis": "snapshot", "amount": yuan(1980)},
        {"provider": "autodl", "instance": "gz-4090", "kind": "compute", "by_us": False, "from_at_ms": "@-3600s", "from_basis": "seen", "to_confirmed": False,
         "rate_milli": 1980, "rate_basis": "list", "amount": yuan(1980, True)},
        {"provider": "autodl", "instance": "xb-4090d", "kind": "disk", "by_us": True, "from_at_ms": "@-9000s", "from_basis": "price", "to_at_ms": "@-5400s",
         "to_basis": "guess", "to_confirmed": False, "rate_basis": "unknown", "amount": yuan(0, unknown=True)}]
OFFERS = [{"provider": "autodl", "gpu": "4090D", "memory_gib": 24, "price": yuan(1980), "price_day": "2026-09-01", "stock": 12, "unofficial": False},
          {"provider": "autodl", "gpu": "4090", "memory_gib": 24, "price": yuan(2080), "price_day": "2026-09-01", "stock": 0, "unofficial": True},
          {"provider": "autodl", "gpu": "H20-NVLink", "memory_gib": 96, "unofficial": False}]
JUDGED = [{**OFFERS[0], "fits": "yes", "context": 13312, "needs_bytes": 23500000000}, {**OFFERS[1], "fits": "tight", "context": 13312, "needs_bytes": 23500000000},
          {**OFFERS[2], "fits": "unknown"}, {**OFFERS[0], "gpu": "3080", "memory_gib": 10, "fits": "no", "needs_bytes": 23500000000}]
UP = [{"more": {"model": {"world": "ready-model"}, "instance": machine("gz-4090", "starting")}},
      stage("capacity", "done", "4090D in 西北B区, ¥1.98/h~", took_ms=400),
      stage("power_on", "running", "gz-4090: 4090D in 西北B区, ¥1.98/h~", usual_ms=22000),
      stage("power_on", "done", "running, first guard 30m", took_ms=21800),
      stage("ssh", "done", "connect.gz.example:34222", took_ms=3100),
      stage("guard", "done", "lease 15m, read back", took_ms=900),
      stage("engine", "done", "ollama 0.12.3", took_ms=1200),
      stage("load", "done", "5.6 GB, 100% GPU", took_ms=11600),
      {"reply": {"model": {"world": "ready-model"}, "took_ms": 39100, "usual_ms": 41000, "endpoint": "http://127.0.0.1:11434"}}]
NO_MACHINE = error("Usage", "no_instance", "there is no instance yet", ["llmhostctl instance add gpu1 'ssh -p 46464 root@HOST'"])
WHICH = error("Usage", "which_instance", "there are several instances: which one?", [f"llmhostctl up {MODEL} --on INSTANCE"])
SEVERAL = [{"reply": {"daemon": DAEMON, "models": [], "trouble": [], "accounts": [ACCOUNT, CONSOLE], "instances": [
    {"world": "gz"}, machine("bj-4090d", "stopped", rate=yuan(1880, True), **OFF),
    machine("h800", "stopped", gpu="H800", cards=2, rate=yuan(0, unknown=True), **OFF)]}}]
NO_PRICE = error("Usage", "price_unknown", "nothing was switched on: what an hour of H800 costs is not known until it is there",
                 [f"llmhostctl up {MODEL} --gpu=H800 --max-price=AMOUNT"], target=MODEL,
                 why="say what it may cost at most: the price is read as soon as the machine is on, and it is switched off again if it is dearer")
NO_CARD = error("Usage", "gpu_needed", "--max-price means nothing without --gpu", ["llmhostctl offers", f"llmhostctl up {MODEL} --gpu=GPU"],
                why="without a card no machine is rented", target=MODEL)
CHEAPEST = [{"reply": {"offers": [{**JUDGED[0], "gpu": "3080", "price": yuan(880), "fits": "no"}, {**JUDGED[1], "fits": "yes"}, {**JUDGED[0], "price": yuan(1985, True)},
                                  {**JUDGED[2], "fits": "yes"}]}}]
UNSIZED = [{"reply": {"offers": [JUDGED[2], {**JUDGED[2], "gpu": "3080", "price": yuan(880)}],
                      "notes": ["the registry of ollama cannot be reached: registry.ollama.ai has no address"]}}]
IMAGES = [{"provider": "autodl", "id": "image-0123456789", "name": "llama-3", "ready": True, "provider_state": "finished", "bytes": 54000000000, "made_at_ms": 1790856000000},
          {"provider": "autodl", "id": "image-9876543210", "name": "试验", "ready": False, "provider_state": "saving"}]
SAVE = [stage("save", "running", ""), stage("save", "running", "saving"), stage("save", "done", "finished", took_ms=61000), {"reply": {"image": IMAGES[0]}}]
IMAGE_ON = error("Conflict", "image_not_off", "gz-4090 was not saved: it is not off", ["llmhostctl down gz-4090"], why="only the disk of a machine that is off can be saved",
                 target="gz-4090")


def found(machine, state, text, **more):
    """Of a search on several machines, one after the other."""
    return stage("capacity", state, text, instance=machine, **more)


# The one that was meant has no card; the next is made, whose first card is not free; then it is the first one's turn again.
NEXT = [UP[0], found("5090", "running", "asks for 5090"), found("5090", "refused", "no free card"), found("5090", "running", "none free, try 1, until 09:30"),
        found("5090", "ahead", ""), found("pro6000-2", "running", "asks for 5090"), found("pro6000-2", "refused", "5090: no free card"),
        found("pro6000-2", "refused", "PRO6000: no free card"), found("pro6000-2", "running", "none free, try 2, until 09:30", next_at_ms="@7210s")]
AGAIN = [*NEXT, found("pro6000-2", "ahead", ""), found("5090", "running", "asks for 5090"), found("5090", "ahead", ""), found("pro6000-2", "running", "asks for PRO6000"),
         found("pro6000-2", "done", "PRO6000, ¥5.98/h~", took_ms=2000), stage("power_on", "running", "PRO6000, ¥5.98/h~", instance="pro6000-2", usual_ms=5000),
         stage("power_on", "done", "running, first guard 30m", instance="pro6000-2", took_ms=5000),
         stage("ssh", "failed", "the machine costs ¥6.98 an hour, and at most ¥6.00 was allowed: it is switched off again", instance="pro6000-2", took_ms=100),
         found("北京一区-4090d", "running", "asks for 4090D"), found("北京一区-4090d", "done", "4090D, ¥1.98/h~", took_ms=400),
         stage("load", "done", "5.6 GB, 100% GPU", instance="北京一区-4090d", took_ms=11600), UP[-1]]
# Several cards come into question, each in two regions: all are named when it begins, and the one that is made when it bills.
SOUGHT = machine("rented", "absent", never_made=True, gpu="4090D,4080Sx2,PRO6000", id=None, region="westDC3,beijingDC2", rate=yuan(1980, True), search_max_price=yuan(2200),
                 candidates=[{"gpu": gpu, "cards": n, "region": region, "state": state, **price} for gpu, n, state, price in (
                     ("4090D", 1, "next", {"price": yuan(1980, True)}), ("4080S", 2, "later", {"price": yuan(1500, True)}), ("H800", 1, "later", {}),
                     ("PRO6000", 1, "dear", {"price": yuan(5980, True)})) for region in ("westDC3", "beijingDC2")])
CARDS = [{"more": {**UP[0]["more"], "model": {**hunting(MODEL, "rented")}, "instance": SOUGHT}}, found("rented", "running", "asks for 4090D in westDC3"),
         found("rented", "refused", "4090D in westDC3: no free card"), found("rented", "done", "4080Sx2 in westDC3, ¥1.50/h~", took_ms=2000),
         stage("power_on", "running", "4080Sx2 in westDC3, ¥1.50/h~", instance="rented", usual_ms=22000),
         stage("power_on", "done", "running, first guard 30m", instance="rented", took_ms=21800), UP[-1]]
# Somebody widens it meanwhile.
WIDENED = [{"more": {**UP[0]["more"], "notes": ["the search of 4090d is changed: 4090D or 4080S, at most ¥2.20/h (it was 4090D)"]}},
           stage("capacity", "running", "none free, try 3, until 09:30", next_at_ms="@7210s"), {"await": "next in 2h00m"},
           stage("capacity", "changed", "from now on 4090D or 4080S, at most ¥3.00/h"), stage("capacity", "running", "none free, try 4, until 09:30", next_at_ms="@7230s"), {"await": "try 4"}, UP[-1]]
# A boot fails: the card is asked for anew.
BACK = [UP[0], stage("capacity", "done", "4090D, ¥1.98/h~", took_ms=400), stage("power_on", "running", "gz-4090: 4090D, ¥1.98/h~", usual_ms=22000), stage("power_on", "ahead", ""),
        stage("capacity", "running", "none free, try 2, until 09:30", next_at_ms="@7210s"), {"await": "next in 2h00m"}, *UP[1:]]
WIDE = [{"more": {**UP[0]["more"], "notes": ["PRO6000 is left out: ¥5.98 an hour is more than is allowed"]}},
        found("gz-4090", "running", "asks for 4090D in westDC3"), found("gz-4090", "refused", "4090D in westDC3: no free card"),
        found("gz-4090", "refused", "4090D in beijingDC2: no free card"),
        found("gz-4090", "refused", "5090 in westDC3: AutoDL refuses it (该规格暂不支持在此地区创建), and does not say which region has it"),
        found("gz-4090", "running", "none free, try 3, until 09:30", next_at_ms="@7210s"), {"await": "next in 2h00m"}, error("NoCapacity", "no_capacity", "no 4090D,5090,PRO6000 was free in the time given; the last answer: AutoDL has no free card of this kind "
         "(当前算力规格暂无库存, 请修改配置或稍等再试)", ["llmhostctl offers", f"llmhostctl down {MODEL}"], target=MODEL)]
HUNT = [UP[0], stage("capacity", "running", "none is free: try 3, next in 30s"), {"await": "next in 30s"}, {"interrupt": True}, {"hang": True}]
LEFT = [*UP[:2], UP[2], {"await": "gz-4090: 4090D"}, {"interrupt": True}, {"hang": True}]
SECOND = [{"more": {"model": hunting(MODEL, "5090"), "instance": machine("5090", "waiting"), "notes": [
    f"{MODEL} is already ready on gz-4090, at ¥1.98/h; this rents a second machine beside it. the one there is: \"llmhostctl up {MODEL} --on gz-4090\"; "
    f"an end of the second: \"llmhostctl down {MODEL} --on 5090\""]}}, *HUNT[1:]]
SECONDED = [{"reply": {"daemon": DAEMON, "models": [{"world": "ready-model"}, hunting(MODEL, "5090")], "instances": [], "trouble": []}}]
HUNTED = [{"reply": {"daemon": DAEMON, "models": [{"world": "ready-model"}], "instances": [], "trouble": []}}]
BUDGET = error("Refused", "budget", "not started: ¥28.40 of today's ¥30.00 is spent, and one hour here is ¥1.98.",
               ["llmhostctl cost", f"llmhostctl up {MODEL} --over-budget", "llmhostctl provider set autodl --budget-day 50"], target="gz-4090")
NO_GUARD = [UP[0], stage("guard", "failed", "not read back: the root disk is full", took_ms=900),
            error("Refused", "unguarded", "gz-4090 is off again: a machine without a working guard is not kept.",
                  [f"llmhostctl up {MODEL} --no-guard"], why="the guard was written, but not read back (the root disk is full)", target="gz-4090")]


def why(target, verdict, *causes):
    return {"target": target, "verdict": verdict, "causes": [{"cause": c, "count": 1, **more} for c, more in causes]}


ON = {"since_at_ms": "@-11120s"}
WHY = [("awake", [("in_use", ON)]), ("awake", [("idle", {**ON, "until_at_ms": "@792s"})]), ("awake", [("misnamed", {"text": "5090"}), ("idle", ON)]),
       ("awake", [("kept", {**ON, "until_at_ms": "@7200s"})]), ("awake", [("minimum_up", {**ON, "until_at_ms": "@480s"})]),
       ("awake", [("failed_hold", {**ON, "until_at_ms": "@250s"})]), ("awake", [("quiet_use", {**ON, "until_at_ms": "@250s", "text": "a login was typed into 3m10s ago"})]),
       ("awake", [("max_up", {**ON, "until_at_ms": "@250s"})]), ("awake", [("budget", {**ON, "until_at_ms": "@90s"})]), ("awake", [("prepaid", {**ON, "until_at_ms": "@600000s"})]),
       ("stops", [("stopped_by_user", ON), ("stopping", {"since_at_ms": "@-151s", "text": "running"}),
                  ("doubted", {"until_at_ms": "@166s", "text": "AutoDL may still act on a power-on asked 12s ago"}),
                  ("failure", {"since_at_ms": "@-151s", "text": "it may still be billed at ¥1.48/h"})]),
       ("search", [("searched", {"since_at_ms": "@-4000s", "text": "4090D or PRO6000, at most ¥2.20/h"}), ("answered", {"count": 13, "text": "4090D: 暂无库存"}),
                   ("answered", {"count": 0, "text": "PRO6000 is left out: ¥5.98 an hour is more than is allowed"}),
                   ("next_try", {"until_at_ms": "@21s", "text": "4090D"}), ("search_ends", {"until_at_ms": "@3200s", "text": "m11"})]),
       ("off", [("never_made", {})]),
       ("off", [("was_off", {"since_at_ms": "@-4000s"})]),
       ("off", [("asleep", {}), ("machine_off", {"since_at_ms": "@-4000s", "text": "shutdown"})])]


def down(*steps, **last):
    return [{"more": {"progress": {"stage": name, "state": "done", "text": text, "took_ms": took}, "done": False}} for name, text, took in steps] + [
        {"reply": {"done": True, "took_ms": 41800, **last}}]


DOWN = down(("streams", "0 left", 34200), ("engine", "ollama stopped", 1100), ("power_off", "shutting_down", 600), ("confirmed", "shutdown", 5900),
            instance=machine("gz-4090", "stopped", **OFF), spent=yuan(6190))
AWAY = [{"more": {"progress": {"stage": "engine", "state": "running", "took_ms": 9100,
         "text": "the tunnel is down; AutoDL is asked to switch it off; until then it is on at ¥1.88/h, its guard ends it by 14:58"}, "done": False}}]
STAYS = machine("gz-4090", "running", goal="on", stays="kept", until_at_ms="@21600s")
GUARDED = {"name": "gz-box", "provider": "ssh", "state": "running", "rented": True, "tunnel": {"state": "up", "tries": 0, "reconnects": 0},
           "in_box": {"stop": "shutdown", "stays": "kept", "until_at_ms": "@7200s", "guard": {"state": "kept", "ways": "shutdown", "proved": True}}}
OF_OTHERS = {**GUARDED, "in_box": {**GUARDED["in_box"], "guard": {"state": "refused", "owner": "k3x9", "proved": False}}}
UNREACHED = {**GUARDED, "state": "unknown", "in_box": {"stop": "shutdown", "guard": {"state": "away", "proved": True}}}
MODEL_KEPT = {**hunting("ollama:qwen3:14b", "nm-a100"), "state": "ready", "stage": None, "next": {"action": "keep_ends", "at_ms": "@3600s"}}
BYHAND = [{"instance": "gz-box", "state": "running", "since_at_ms": "@-600s"}]
COST_OF = [{"reply": {**COST, "lines": COST["lines"][:1]}}]
SHOW = [{"reply": {"instance": {**machine("bj-4090", "stopped", **OFF), "address": "connect.bj.example:41022", "user": "root"}, "settings": {}, "models": [MODEL]}}]
MACHINES = [{"id": "pro-5f0c", "name": "ab12cd34-gz-4090-1", "gpu": "4090D", "cards": 1, "state": "running", "power": "on", "no_card": False,
             "price": yuan(1880, True), "instance": "gz-4090"},
            {"id": "2c8a41f0d7-0b1e5a77", "name": "训练用", "gpu": "A100-PCIE-40GB", "cards": 2, "state": "running", "power": "on", "no_card": True,
             "price": yuan(0, unknown=True), "prepaid_until_at_ms": "@7200s"},
            {"id": "pro-77aa", "gpu": "5090", "cards": 1, "state": "shutdown", "power": "off", "no_card": False, "price": yuan(2780, True)}]
LOST = {"id": "pro-81d2", "name": "pxphguzd-4090d-3", "gpu": "4090D", "cards": 1, "state": "running", "power": "on", "no_card": False, "price": yuan(1880, True),
        "provider": "autodl", "orphan": True, "since_at_ms": "@-7500s", "seen_at_ms": "@-240s"}
WHOSE = ("its record is lost (an older database was put in place); or an llmhostd elsewhere works with a copy of this database, and it is that one's to end")
ORPHAN = {"code": "orphan", "target": "pro-81d2", "exit": 11, "next": ["llmhostctl down --at autodl pro-81d2"], "why": WHOSE,
          "message": "AutoDL: running for 2h05m at ¥1.88/h~ (seen 4m ago), and no instance here knows it (pxphguzd-4090d-3)"}
NOT_ORPHAN = error("Conflict", "is_instance", "pro-5f0c was not switched off: pro-5f0c is the instance gz-4090", ["llmhostctl instance list --at autodl"], target="pro-5f0c")
NO_INSTANCE = error("NotFound", "not_found", "no instance \"nosuch\"", ["llmhostctl instance list"], target="nosuch")
NOT_OFF = error("Conflict", "not_off", "bj-4090 was not given back: it is not off", ["llmhostctl down bj-4090"], target="bj-4090")
ADOPTED = machine("gz", "unknown", adopted=True, id="pro-77aa", gpu="5090", disk_gb=0, region=None)
NO_SUCH_MACHINE = error("NotFound", "no_such_machine", "gz was not added: there is no machine pro-1 at AutoDL; there are: pro-77aa (5090, shutdown)",
                        ["llmhostctl instance list --at autodl", "llmhostctl instance add gz --provider=autodl --id=ID"], target="gz")
KEPT = [{"reply": {"models": [], "cost": yuan(6900), "instance": machine("nm-a100", "running", "up", stays="kept", until_at_ms="@7200s")}}]
WITHOUT = machine("gz", "running", "up", adopted=True, no_card=True, stays="no_card", until_at_ms="@3600s", rate=yuan(100, True))
DRILL = [{"id": "guard.drill", "target": "gz-4090", "level": "ok", "next": [],
          "message": "its guard stopped it, and AutoDL said that it is off 38s later: the guard is proved"}]
TOKEN = "t0k-n0t-sh0wn"
ADD = [{"reply": {"account": ACCOUNT}}]
ADD_CONSOLE = [{"reply": {"account": {**CONSOLE, "title": "AutoDL (console, unofficial)", "day_milli": 50000}}}]
LIMITED = {**CONSOLE, "provider": "autodl", "title": "AutoDL", "unofficial": False, "today": yuan(7670), "month": yuan(7670), "rate": yuan(1880), "month_milli": 5000,
           "balance": yuan(41300)}
KNOWN = ["autodl", "pai-dsw"]
KNOWN_CONSOLE = [{"reply": {"accounts": [], "known": ["autodl", "autodl-console"]}}]
LISTED = [{"reply": {"accounts": [], "known": KNOWN}}]

def guards(folder):
    """What the daemon left for whoever finds it gone: one of its three machines has stopped since."""
    state = folder / ".local/state/llmhost"
    state.mkdir(parents=True)
    now = int(time.time() * 1000)
    (state / "guards").write_text(
        f"gz-4090 running {now + 800_000} 1980 CNY\nnm-a100 running {now + 1_100_000} 0 CNY\nhz-3090 stopping 0 1480 CNY\nxy-5090 creating 0 2780 CNY\n"
        f"bj-4090 running {now - 1000} 1980 CNY\nhalf runn")


RENT = [
    # ---- no daemon ----
    case("rent-absent-80", "status", None, prepare=guards, columns=80),
    case("rent-absent-pipe", "cost", None, prepare=guards),
    case("rent-absent-json", "status --json", None, prepare=guards),
    # ---- status ----
    *widths("rent-status", "status", {"Status": STATUS}),
    case("status-one-of-two-off", f"status {MODEL} -q", {"Status": [{"reply": {"daemon": DAEMON, "models": [{**OFF_TWINS[0], "state": "off"}, OFF_TWINS[1]], "instances": [], "accounts": [], "trouble": []}}]}),
    case("status-both-off", f"status {MODEL} -q", {"Status": [{"reply": {"daemon": DAEMON, "models": [{**OFF_TWINS[0], "state": "off"}, {**OFF_TWINS[1], "state": "failed"}], "instances": [], "accounts": [], "trouble": []}}]}),
    case("rent-status-120", "status", {"Status": STATUS}, columns=120),
    case("rent-status-pipe", "status", {"Status": STATUS}),
    case("rent-status-trouble", "status", {"Status": [{"reply": TROUBLE}]}, columns=140),
    case("rent-status-coming", "status", {"Status": [{"reply": {"daemon": DAEMON, "accounts": [ACCOUNT], "trouble": [], "models": [], "instances": COMING}}]}, columns=120),
    case("rent-coming-show", "instance show gz-5090", {"InstanceShow": [{"reply": {"instance": COMING[1], "settings": {}, "models": []}}]}, columns=80),
    case("rent-why-coming", "why gz-5090", {"Why": [{"reply": {"lines": [why("gz-5090", "awake", ("switching_on", {"count": 1, "since_at_ms": "@-5s"}))], "not_counted": []}}]}),
    case("rent-status-trouble-80", "status", {"Status": [{"reply": TROUBLE}]}, columns=80),
    # A search that has its end is no trouble; one that has none, or is over, is.
    case("rent-status-search-over", "status", {"Status": [{"reply": {**TROUBLE, "models": [], "trouble": [NO_CAPACITY],
         "instances": [machine("bj-4090", "waiting", trouble=NO_CAPACITY, tries=13, search_until_at_ms="@-60s")]}}]}, columns=100),
    case("rent-status-accounts", "status", {"Status": [{"reply": {**TROUBLE, "models": [], "instances": [], "trouble": [], "accounts": UNITS["accounts"]}}]}, columns=80),
    case("rent-status-first", "status", {"Status": [{"reply": {"daemon": DAEMON, "models": [], "instances": [], "trouble": [], "accounts": [ACCOUNT]}}]}, columns=80),
    case("rent-status-first-console", "status", {"Status": [{"reply": {"daemon": DAEMON, "models": [], "instances": [], "trouble": [], "accounts": [CONSOLE]}}]}, columns=80),
    case("rent-status-json", "status --json", {"Status": [{"reply": {**TROUBLE, "models": [], "instances": TROUBLE["instances"][:1]}}]}),
    case("rent-status-instance", "status gz-4090", {"Status": [{"reply": {"daemon": DAEMON, "models": [{"world": "ready-model"}], "trouble": [],
         "instances": [machine("gz-4090", "running", "up", stays="in_use", image="PyTorch 2.8", max_price=yuan(2200), since_at_ms="@-11120s")]}}],
         "Logs": [{"reply": {"lines": [], "older": 0}}]}, columns=80),
    case("rent-status-useless", "status nm-a100", {"Status": [{"reply": {"daemon": DAEMON, "models": [], "trouble": [],
         "instances": [i for i in TROUBLE["instances"] if i["name"] == "nm-a100"]}}], "Logs": [{"reply": {"lines": [], "older": 0}}]}, columns=80),
    case("rent-status-model", f"status {MODEL}", {"Status": [{"reply": {"daemon": DAEMON, "models": [{"world": "ready-model"}], "trouble": [],
         "instances": [machine("gz-4090", "running", "up", stays="in_use")]}}], "Logs": [{"reply": {"lines": [], "older": 0}}]}, columns=80),
    case("rent-watch", "status -w", {"Watch": [{"more": {**TROUBLE, "models": [], "instances": TROUBLE["instances"][:1], "trouble": [NOT_CONFIRMED]}},
         {"await": "NOT CONFIRMED"}, {"more": {"trouble": [], "instance": machine("hz-3090", "stopped", **OFF), "accounts": [{**SPENT_MORE, "today": yuan(9900), "month": yuan(9900), "rate": yuan(0)}]}},
         {"await": "9.90"}, {"interrupt": True}, {"hang": True}]}, columns=80),
    *widths("rent-list", "instance list", {"InstanceList": [{"reply": {"instances": TROUBLE["instances"][:3]}}]}),
    *widths("machines", "instance list --at autodl", {"InstanceList": [{"reply": {"instances": [], "machines": MACHINES}}]}),
    case("machines-none", "instance list --at autodl", {"InstanceList": [{"reply": {"instances": [], "machines": []}}]}),
    case("adopt", "instance add gz --provider=autodl --id=pro-77aa", {"InstanceAdd": [{"reply": {"instance": ADOPTED}}]}),
    case("adopt-not-there", "instance add gz --provider=autodl --id=pro-1", {"InstanceAdd": [NO_SUCH_MACHINE]}),
    case("adopt-address", "instance add gz --provider=autodl --id=pro-77aa --port 22", None),
    case("adopt-where", "instance add gz --id=pro-77aa", None),
    case("adopt-remove", "instance remove gz", {"InstanceRemove": [{"reply": {"notes": [
         "it is off, and goes on existing at AutoDL with its data and what its disk costs: https://www.autodl.com/console/instance/list"]}}]}),
    case("adopt-left-alone", "status", {"Status": [{"reply": {"daemon": DAEMON, "models": [], "trouble": [], "accounts": [ACCOUNT], "instances": [
         machine("gz", "running", "up", adopted=True, stays="not_by_us", guard={"state": "not_ours", "proved": False})]}}]}),
    case("rent-show", "instance show bj-4090", {"InstanceShow": SHOW}, columns=80),
    *widths("rent-why", "why", {"Why": [{"reply": {"not_counted": [], "lines": [why(f"m{i}", verdict, *causes) for i, (verdict, causes) in enumerate(WHY)]}}]}),
    # ---- cost, offers ----
    *widths("rent-cost", "cost", {"Cost": [{"reply": COST}]}),
    case("rent-status-quiet", "status", {"Status": [{"reply": {"daemon": DAEMON, "models": [], "trouble": [], "instances": [
        machine("gz-4090", "running", "up", stays="quiet_use", until_at_ms="@720s", quiet="its card computed (61%) 3m ago")]}}]}, columns=120),
    case("rent-cost-unheard", "cost", {"Cost": [{"reply": {**UNHEARD, "accounts": [{**SPENT_MORE, "today": yuan(6356, unknown=True), "month": yuan(77600, True, True),
                                                                                   "rate": yuan(1980, unknown=True), "balance": yuan(41300), "balance_at_ms": "@-5s"}]}}]}, columns=80),
    case("rent-cost-unheard-of", "cost gz-5090 rented", {"Cost": [{"reply": {**UNHEARD, "lines": UNHEARD["lines"][1:]}}]}, columns=60),
    case("rent-cost-unheard-json", "cost --json", {"Cost": [{"reply": {"accounts": [], "total": [], "lines": UNHEARD["lines"][1:2]}}]}),
    *widths("rent-cost-reused", "cost rented", {"Cost": [{"reply": REUSED}]}),
    case("rent-cost-of", "cost gz-4090", {"Cost": COST_OF}, columns=80),
    case("rent-cost-units", "cost", {"Cost": [{"reply": UNITS}]}, columns=80),
    case("rent-cost-since", "cost --since 2026-11-20", {"Cost": [{"reply": {**COST, "lines": COST["lines"][:1], "rows": ROWS}}]}, columns=120),
    case("rent-cost-none", "cost", {"Cost": [{"reply": {"accounts": [], "lines": [], "total": []}}]}),
    case("rent-cost-by-hand", "cost", {"Cost": [{"reply": {"accounts": [], "lines": [], "total": [], "unpriced": BYHAND}}]}, columns=80),
    case("rent-cost-left-out", "cost", {"Cost": [{"reply": {**COST, "lines": COST["lines"][:1], "unpriced": BYHAND, "orphans": [LOST]}}]}, columns=80),
    case("rent-cost-json", "cost --json", {"Cost": [{"reply": {**COST, "lines": COST["lines"][:1], "rows": ROWS[:1]}}]}),
    *widths("rent-offers", "offers", {"Offers": [{"reply": {"offers": OFFERS, "notes": ["the API has no plain 4090; the console has one"]}}]}),
    *widths("rent-offers-for", "offers --for ollama:deepseek-r1:32b --gpu 4090D --provider autodl", {"Offers": [{"reply": {"offers": JUDGED}}]}),
    *widths("rent-offers-table", "offers --for ollama:deepseek-r1:32b", {"Offers": [{"reply": {"offers": [{**JUDGED[0], "from_table": True}, {**JUDGED[3], "from_table": True}],
            "notes": ["how large deepseek-r1:32b is cannot be asked: no name server answers"]}}]}),
    case("rent-offers-unknown", "offers --for tiny", {"Offers": [error("Usage", "bad_model", "\"tiny\" names no model: it has no engine in front",
         ["llmhostctl offers --for ollama:tiny"], target="tiny")]}),
    case("rent-offers-none", "offers --gpu 4091", {"Offers": [{"reply": {"offers": []}}]}),
    *widths("rent-images", "image list", {"ImageList": [{"reply": {"images": IMAGES}}]}),
    case("rent-images-none", "image list --provider autodl", {"ImageList": [{"reply": {"images": []}}]}),
    case("rent-images-json", "image list --json", {"ImageList": [{"reply": {"images": IMAGES[:1]}}]}),
    case("rent-image-save", "image save gz-4090 llama-3", {"ImageSave": SAVE}, columns=80),
    case("rent-down-searched", f"down {MODEL}", {"Down": down(("power_off", "nothing was switched on", 0), search={"powered": False})}, columns=80),
    case("rent-down-found", f"down {MODEL}", {"Down": down(("power_off", "shutting_down", 600), ("confirmed", "shutdown", 5900),
         search={"powered": True, "powered_ms": 8000, "amount": yuan(4), "instances": ["gz-4090"]})}, columns=80),
    case("rent-down-found-two", f"down {MODEL}", {"Down": down(search={"powered": True, "powered_ms": 8000, "amount": yuan(4), "instances": ["4090d", "5090"]})}, columns=80),
    *widths("rent-down-unsure", f"down {MODEL}", {"Down": down(("power_off", "none is seen; a call for one got no answer", 0),
                                                               search={"powered": False, "unsure": ["4090d"]})}),
    case("rent-down-found-unsure", f"down {MODEL}", {"Down": down(search={"powered": True, "powered_ms": 8000, "amount": yuan(4), "instances": ["5090"],
                                                                          "unsure": ["4090d"]})}, columns=80),
    case("rent-down-left", f"down {MODEL}", {"Down": down(("power_off", "nothing was switched on", 0), search={"powered": False, "gpu": "4090D,5090", "max_price_milli": 2500})}, columns=80),
    case("rent-down-left-all", f"down {MODEL}", {"Down": down(("power_off", "nothing was switched on", 0), search={
        "powered": False, "gpu": "4090D,5090", "max_price_milli": 2500, "provider": "autodl", "region": "westDC3,beijingDC2", "image": "image-0123456789",
        "disk_gb": 100, "arguments": ["-c", "16 k"]})}, columns=80),
    case("rent-down-left-secret", f"down {MODEL}", {"Down": down(("power_off", "nothing was switched on", 0), search={
        "powered": False, "gpu": "4090D", "left_out": True})}, columns=80),
    case("rent-image-save-pipe", "image save gz-4090 llama-3", {"ImageSave": SAVE}),
    case("rent-image-save-quoted", ["image", "save", "gz-4090", "bad name?"], {"ImageSave": [{"reply": {"image": {**IMAGES[0], "name": "bad name?", "ready": True}}}]}),
    case("rent-image-save-later", "image save gz-4090 llama-3 --no-wait", {"ImageSave": [{"reply": {"image": {**IMAGES[0], "ready": False}}}]}, columns=80),
    case("rent-image-save-on", "image save gz-4090 llama-3", {"ImageSave": [IMAGE_ON]}, columns=80),
    case("rent-help-image-save", "image save --help", None),
    *widths("rent-up-next", f"up {MODEL} --gpu 5090,PRO6000,4090D", {"Up": AGAIN}),
    case("rent-up-next-pipe", f"up {MODEL} --gpu 5090,PRO6000,4090D", {"Up": AGAIN}),
    case("rent-up-next-left", f"up {MODEL} --gpu 5090,PRO6000", {"Up": [*NEXT, {"await": "next in 2h00m"}, {"interrupt": True}, {"hang": True}], "Status": [{"close": True}]}, columns=80),
    *widths("rent-up-cards", f"up {MODEL} --gpu 4090D,4080Sx2,PRO6000 --region westDC3,beijingDC2 --max-price 2.20", {"Up": CARDS}),
    case("rent-up-cards-pipe", f"up {MODEL} --gpu 4090D,4080Sx2,PRO6000 --region westDC3,beijingDC2 --max-price 2.20", {"Up": CARDS}),
    case("rent-up-widened", f"up {MODEL} --gpu 4090D,4080S --max-price 2.20", {"Up": WIDENED}, columns=80),
    case("rent-up-widened-pipe", f"up {MODEL} --gpu 4090D,4080S --max-price 2.20", {"Up": [step for step in WIDENED if "await" not in step]}),
    case("rent-up-back", f"up {MODEL}", {"Up": BACK}, columns=80),
    case("rent-up-hunt-wide", f"up {MODEL} --gpu 4090D,5090,PRO6000 --region westDC3,beijingDC2 --until 2h", {"Up": WIDE}, columns=80),
    case("rent-offers-json", "offers --json", {"Offers": [{"reply": {"offers": JUDGED[:1]}}]}),
    # ---- provider ----
    case("rent-add", "provider add autodl --max-price 2.20", {"ProviderList": LISTED, "ProviderAdd": ADD}, columns=80,
         answers=[("token for autodl", TOKEN + "\n"), ("spent a day", "dear\n"), (r"12\.50\.\s+how much.*\]: ", "30\n")], hidden=[TOKEN]),
    case("rent-add-usual", "provider add autodl", {"ProviderList": LISTED, "ProviderAdd": ADD}, columns=80, answers=[("token for autodl", TOKEN + "\n"), ("spent a day", "\n")]),
    case("rent-add-pipe", "provider add autodl --token-file -", {"ProviderList": LISTED, "ProviderAdd": ADD}, stdin=TOKEN + "\n"),
    case("rent-add-console", "provider add autodl --console", {"ProviderList": KNOWN_CONSOLE, "ProviderAdd": ADD_CONSOLE}, columns=80,
         answers=[("token for autodl-console", TOKEN + "\n"), ("spent a day", "\n")]),
    case("rent-add-console-named", "provider add autodl-console --token-file -", {"ProviderList": KNOWN_CONSOLE, "ProviderAdd": ADD_CONSOLE}, stdin=TOKEN + "\n"),
    case("rent-add-console-quiet", "provider add autodl --console --token-file - -q", {"ProviderList": KNOWN_CONSOLE, "ProviderAdd": ADD_CONSOLE}, stdin=TOKEN + "\n"),
    case("rent-set-console", "provider set autodl-console --budget-day 50", {"ProviderSet": ADD_CONSOLE}),
    case("rent-add-nobody", "provider add autodl", {"ProviderList": LISTED}),
    case("rent-add-typo", "provider add autodel --token-file -", {"ProviderList": LISTED}, stdin=TOKEN + "\n"),
    case("rent-add-again", "provider add autodl --token-file -", {"ProviderList": [{"reply": {"accounts": [ACCOUNT], "known": ["pai-dsw"]}}]}, stdin=TOKEN + "\n"),
    case("rent-add-url", "provider add autodl --token-file - --base-url 127.0.0.1:8300", {"ProviderList": LISTED, "ProviderAdd": [error("Usage", "bad_url",
         "autodl was not added: \"127.0.0.1:8300\" is no address of an API: it begins with https:// and a name",
         ["llmhostctl provider add autodl --base-url=http://127.0.0.1:8300"], target="autodl")]}, stdin=TOKEN + "\n"),
    case("rent-add-other", "provider add vast", {"ProviderList": LISTED}),
    case("rent-add-json", "provider add autodl --token-file - --budget-day 0 --budget-month 600 --balance-floor ¥5.5 --base-url http://127.0.0.1:8 --json",
         {"ProviderList": LISTED, "ProviderAdd": ADD}, stdin=TOKEN + "\n"),
    case("rent-add-refused", "provider add autodl --token-file -", {"ProviderList": LISTED, "ProviderAdd": [error("CredentialsRefused", "token_refused", "AutoDL refused the token",
         ["llmhostctl provider add autodl --token-file=FILE"], target="autodl", provider={"name": "AutoDL", "code": "AuthorizeFailed", "message": "登录超时"})]}, stdin=TOKEN + "\n"),
    case("rent-add-money", "provider add autodl --budget-day 5,50", None),
    case("rent-set", "provider set autodl --budget-day 50", {"ProviderSet": ADD}, columns=80),
    case("rent-set-floor", "provider set autodl --balance-floor 100", {"ProviderSet": [{"reply": {"account": {**LIMITED, "floor_milli": 100000, "ending": ["gz-4090"], "trouble": {"code": "low_balance",
         "target": "autodl", "exit": 5, "next": [], "message": "¥41.30 are left at AutoDL, and ¥100.00 are to stay there"}}}}]}, columns=80),
    case("rent-set-month", "provider set autodl --budget-month 5", {"ProviderSet": [{"reply": {"account": {**LIMITED, "rate": yuan(0), "trouble": {"code": "budget_month",
         "target": "autodl", "exit": 5, "next": [], "message": "¥7.67 are spent at AutoDL, of ¥5.00 for a month"}}}}]}, columns=80),
    case("rent-set-exempt", "provider set autodl --budget-month 5", {"ProviderSet": [{"reply": {"account": {**LIMITED, "exempt": ["gz-4090"], "ending": ["nm-a100", "bj-4090"],
         "trouble": {"code": "budget_month", "target": "autodl", "exit": 5, "next": [], "message": "¥7.67 are spent at AutoDL, of ¥5.00 for a month"}}}}]}, columns=80),
    case("rent-set-dearer", "provider set autodl --max-price 1", {"ProviderSet": [{"reply": {"account": {**LIMITED, "price_milli": 1000, "dearer": ["gz-4090"]}}}]}, columns=80),
    case("rent-exempt", "status", {"Status": [{"reply": {"daemon": DAEMON, "models": [], "trouble": [], "accounts": [{**LIMITED, "exempt": ["gz-4090"]}],
         "instances": [machine("gz-4090", "running", "up", stays="in_use", until_at_ms="@720s")]}}]}, columns=100),
    case("rent-cost-exempt", "cost", {"Cost": [{"reply": {**COST, "lines": COST["lines"][:1], "accounts": [{**LIMITED, "exempt": ["gz-4090"]}]}}]}, columns=80),
    case("rent-cost-reserved", "cost", {"Cost": [{"reply": {**COST, "lines": COST["lines"][:1], "accounts": [{**LIMITED, "reserved": yuan(710)}]}}]}, columns=80),
    case("rent-set-token", "provider set autodl --token", {"ProviderSet": ADD}, columns=80, answers=[("token for autodl", TOKEN + "\n")], hidden=[TOKEN]),
    case("rent-help", "provider --help", None),
    case("rent-help-add", "provider add --help", None),
    case("rent-help-offers", "offers --help", None),
    case("rent-help-instances", "instance list --help", None),
    case("rent-set-nothing", "provider set autodl", None),
    *widths("rent-providers", "provider list", {"ProviderList": [{"reply": {"accounts": [ACCOUNT], "known": KNOWN}}]}),
    case("rent-providers-none", "provider list", {"ProviderList": [{"reply": {"accounts": [], "known": KNOWN}}]}),
    case("rent-provider-remove", "provider remove autodl", {"ProviderRemove": [{"reply": {}}]}),
    case("rent-provider-remove-spent", "provider remove autodl", {"ProviderRemove": [{"reply": {"removed": REMOVED}}]}, columns=60),
    case("rent-cost-refused", "cost --refresh", {"Cost": [{"reply": {**COST, "lines": COST["lines"][:1], "not_asked": [
        {"code": "token_refused", "target": "autodl", "exit": 5, "message": "the token is refused", "next": []}]}}]}, columns=80),
    case("rent-cost-refused-before", "cost", {"Cost": [{"reply": {**COST, "lines": COST["lines"][:1], "accounts": [{**SPENT_MORE, "today": yuan(7670), "month": yuan(76000), "rate": yuan(1980),
        "trouble": {"code": "token_refused", "target": "autodl", "exit": 5, "message": "the token is refused", "next": []}}]}}]}, columns=80),
    case("rent-cost-removed", "cost", {"Cost": [{"reply": {"accounts": [], "removed": [REMOVED], "total": [yuan(6400)], "lines": [
        {"instance": "gz-4090", "state": "released", "now": yuan(0), "today": yuan(780, True), "month": yuan(6400, True), "stopped": yuan(0), "was_on_at_ms": "@-600s"}]}}]}, columns=80),
    # ---- up, down ----
    *widths("rent-up", f"up {MODEL} --gpu 4090D --max-price 2.20 --disk 100G", {"Up": UP}),
    case("rent-up-pipe", f"up {MODEL} --gpu 4090D,5090 --provider autodl --image PyTorch --region 西北B区 --over-budget --no-guard --anyway", {"Up": UP}),
    case("rent-up-hunt", f"up {MODEL} --gpu 4090D", {"Up": HUNT, "Status": HUNTED, "InstanceShow": [{"reply": {
         "instance": machine("gz-4090", "waiting"), "settings": {}, "models": []}}]}, columns=80),
    case("rent-up-second", f"up {MODEL} --gpu 5090", {"Up": SECOND, "Status": SECONDED, "InstanceShow": [{"reply": {
         "instance": machine("5090", "waiting"), "settings": {}, "models": []}}]}, columns=80),
    case("rent-up-second-on", f"up {MODEL} --gpu 5090", {"Up": SECOND, "Status": SECONDED, "InstanceShow": [{"reply": {
         "instance": machine("5090", "starting", rate=yuan(2780, True)), "settings": {}, "models": []}}]}, columns=80),
    case("rent-up-left-unknown", f"up {MODEL} --gpu 4090D", {"Up": HUNT, "Status": HUNTED, "InstanceShow": [{"reply": {
         "instance": machine("gz-4090", "unknown"), "settings": {}, "models": []}}]}, columns=80),
    case("rent-up-left-not-asked", f"up {MODEL} --gpu 4090D", {"Up": HUNT, "Status": HUNTED, "InstanceShow": [{"reply": {
         "instance": machine("gz-4090", "unknown", never_made=True), "settings": {}, "models": []}}]}, columns=80),
    case("rent-up-hunt-on", f"up {MODEL} --gpu 4090D", {"Up": HUNT, "Status": HUNTED, "InstanceShow": [{"reply": {
         "instance": machine("gz-4090", "creating"), "settings": {}, "models": []}}]}, columns=80),
    *widths("rent-up-left-on", f"up {MODEL}", {"Up": LEFT, "Status": HUNTED, "InstanceShow": [{"reply": {
        "instance": machine("gz-4090", "starting", rate=yuan(1980, True)), "settings": {}, "models": []}}]}),
    case("rent-up-left-json", f"up {MODEL} --json", {"Up": LEFT, "Status": HUNTED, "InstanceShow": [{"reply": {
        "instance": machine("gz-4090", "running"), "settings": {}, "models": []}}]}),
    case("rent-up-left-asked", f"up {MODEL} --gpu 4090D,4080Sx2", {"Up": [CARDS[0], {"await": "H800"}, {"interrupt": True}, {"hang": True}], "Status": HUNTED, "InstanceShow": [{"reply": {
        "instance": {**SOUGHT, "state": "creating"}, "settings": {}, "models": []}}]}, columns=80),
    case("rent-up-hunt-unsure", f"up {MODEL} --gpu 4090D", {"Up": HUNT, "Status": HUNTED, "InstanceShow": [{"reply": {
         "instance": machine("gz-4090", "waiting", unsure=True), "settings": {}, "models": []}}]}, columns=80),
    case("rent-up-hunt-gone", f"up {MODEL} --gpu 4090D", {"Up": HUNT, "Status": [{"close": True}]}, columns=80),
    case("rent-up-budget", f"up {MODEL}", {"Up": [BUDGET]}, columns=80),
    case("rent-up-no-guard", f"up {MODEL}", {"Up": NO_GUARD}, columns=80),
    case("rent-up-disk", f"up {MODEL} --disk 100", None),
    case("rent-up-proposed", f"up {MODEL}", {"Up#1": [NO_MACHINE], "Offers": CHEAPEST, "Up#2": UP}, columns=80, answers=[("rent a 4090D", "y\n")]),
    case("rent-up-declined", f"up {MODEL}", {"Up": [NO_MACHINE], "Offers": CHEAPEST}, columns=80, answers=[("rent a 4090D", "\n")]),
    case("rent-up-agreed", f"up {MODEL} --max-price 2.05", {"Up#1": [NO_CARD], "Offers": CHEAPEST, "Up#2": UP}),
    case("rent-up-dear", f"up {MODEL} --max-price 1.50", {"Up": [NO_CARD], "Offers": CHEAPEST}),
    case("rent-up-unknown-size", f"up {MODEL} --max-price 2.05", {"Up": [NO_CARD], "Offers": UNSIZED}, columns=80),
    case("rent-up-unknown-size-nowhere", f"up {MODEL}", {"Up": [NO_MACHINE], "Offers": UNSIZED}, columns=80),
    case("rent-up-nobody", f"up {MODEL}", {"Up": [NO_MACHINE], "Offers": CHEAPEST}),
    case("rent-up-unpriced", f"up {MODEL} --gpu H800", {"Up#1": [NO_PRICE], "Up#2": UP}, columns=80,
         answers=[("nothing: leave it off", "whatever\n"), (r"2\.20\.\s+what may .*\): ", "9.50\n")]),
    case("rent-up-unpriced-no", f"up {MODEL} --gpu H800", {"Up": [NO_PRICE]}, columns=60, answers=[("nothing: leave it off", "\n")]),
    case("rent-up-unpriced-interrupted", f"up {MODEL} --gpu H800", {"Up": [NO_PRICE]}, columns=80, answers=[("nothing: leave it off", "\x03")]),
    case("rent-up-which-interrupted", f"up {MODEL}", {"Up": [WHICH], "Status": SEVERAL}, columns=80, answers=[(r"\[1-4\]: ", "\x03")]),
    case("rent-up-unpriced-on", f"up {MODEL}", {"Up#1": [{**NO_PRICE, "target": "gz"}], "Up#2": UP}, columns=80, answers=[("nothing: leave it off", "2\n")]),
    case("rent-up-unpriced-nobody", f"up {MODEL} --gpu H800", {"Up": [NO_PRICE]}),
    *widths("rent-up-which", f"up {MODEL}", {"Up#1": [WHICH], "Status": SEVERAL, "Up#2": UP}, answers=[(r"\[1-4\]: ", "2\n")]),
    case("rent-up-which-new", f"up {MODEL}", {"Up#1": [WHICH], "Status": SEVERAL, "Offers": CHEAPEST, "Up#2": UP}, columns=80,
         answers=[(r"\[1-4\]: ", "4\n"), ("rent a ", "y\n")]),
    case("rent-up-which-none", f"up {MODEL}", {"Up#1": [WHICH], "Status": SEVERAL, "Offers": [{"reply": {"offers": [JUDGED[0], JUDGED[2]]}}]}, columns=80,
         answers=[(r"\[1-4\]: ", "4\n")]),
    case("rent-up-interrupted", f"up {MODEL}", {"Up": [NO_MACHINE], "Offers": [{"interrupt": True}, {"hang": True}]}),
    case("rent-up-no-account", f"up {MODEL}", {"Up": [NO_MACHINE], "Offers": [error("NotFound", "no_provider", "there is no account to rent with")]}),
    case("rent-down-several", "down llama.cpp:*", {"Down": down(("engine", "2 of 2 stopped", 1100), ended=[
         {"instance": machine("gz-4090", "stopped", **OFF), "spent": yuan(6190)}, {"instance": machine("hz-3090", "stopped"), "spent": yuan(310)}]),
         "Cost#1": COST_OF, "Cost#2": COST_OF}, columns=80),
    *widths("rent-down", "down gz-4090", {"Down": DOWN, "Cost": COST_OF}),
    *widths("rent-down-two", f"down {MODEL}", {"Down": DOWN_TWO}),
    case("rent-release-60", "release guangzhou-4090d-for-the-night-shift --confirm=guangzhou-4090d-for-the-night-shift", {"Release": [{"await": "longer lists it"}, {"reply": {"spent": yuan(250)}}]}, columns=60),
    case("rent-up-hunt-60", f"up {MODEL} --gpu 4090D", {"Up": HUNT, "Status": HUNTED, "InstanceShow": [{"reply": {
         "instance": machine("gz-4090", "waiting"), "settings": {}, "models": []}}]}, columns=60),
    case("rent-down-pipe", f"down {MODEL}", {"Down": DOWN, "Cost": COST_OF}),
    case("rent-down-json", "down gz-4090 --json -q", {"Down": DOWN}),
    case("rent-keep", "keep nm-a100 2h", {"Keep": KEPT}),
    case("rent-keep-search", "keep bj-4090 1h", {"Keep": [{"reply": {"models": [], "cost": yuan(1880), "instance": machine("bj-4090", "waiting", stays=None)}}]}),
    case("rent-keep-model-search", "keep ollama:qwen3:14b 1h", {"Keep": [{"reply": {"models": [hunting("ollama:qwen3:14b", "bj-4090")], "cost": yuan(1880),
         "instance": machine("bj-4090", "waiting", stays=None)}}]}),
    case("rent-keep-json", "keep nm-a100 2h --json", {"Keep": KEPT}),
    case("rent-keep-no-card", "keep gz 1h --no-card", {"Keep": [{"reply": {"models": [], "cost": yuan(100, True), "instance": WITHOUT}}]}),
    case("rent-keep-no-card-on", "keep gz 1h --no-card", {"Keep": [error("Conflict", "not_off", "gz is not off: only from there it comes up without its card",
         ["llmhostctl down gz", "llmhostctl keep gz TIME --no-card"], target="gz")]}),
    case("rent-no-card", "status", {"Status": [{"reply": {"daemon": DAEMON, "models": [], "trouble": [], "accounts": [ACCOUNT], "instances": [WITHOUT]}}]}),
    case("rent-no-card-why", "why gz", {"Why": [{"reply": {"lines": [why("gz", "awake", ("no_card", {**ON, "until_at_ms": "@3600s"}))], "not_counted": []}}]}),
    case("rent-keep-refused", "keep gz-4090 9h", {"Keep": [error("Refused", "budget", "of ¥30.00 for a day at autodl ¥9.00 are spent and ¥7.00 reserved: ¥14.00 are left, "
         "and gz-4090 for 9h00m takes ¥17.83; the longest that fits is 7h03m",
         ["llmhostctl keep gz-4090 7h03m", "llmhostctl cost", "llmhostctl provider set autodl --budget-day=AMOUNT"], target="autodl")]}, columns=80),
    case("rent-keep-off", "keep --off nm-a100", {"Keep": [{"reply": {"models": [], "instance": machine("nm-a100", "running", stays="idle", until_at_ms="@60s")}}]}),
    case("rent-keep-off-model", "keep --off nm-a100", {"Keep": [{"reply": {"models": [{**MODEL_KEPT, "instance": "nm-a100"}], "instance": machine("nm-a100", "running", stays="kept", until_at_ms="@3600s")}}]}),
    case("rent-keep-off-beside", f"keep --off {MODEL}", {"Keep": [{"reply": {"models": [{**ASLEEP, "state": "ready", "instance": "gz-4090", "goal": "on_demand"}], "instance": STAYS, "stay": [STAYS]}}]}),
    case("rent-keep-off-other", f"keep --off {MODEL}", {"Keep": [{"reply": {"models": [{**ASLEEP, "state": "ready", "instance": "nm-a100", "goal": "on_demand"}, MODEL_KEPT],
         "instance": machine("nm-a100", "running", stays="in_use", until_at_ms="@3600s")}}]}),
    case("byhand-keep-off-beside", f"keep --off {MODEL}", {"Keep": [{"reply": {"models": [{**ASLEEP, "state": "ready", "instance": "gz-box", "goal": "on_demand"}], "instance": GUARDED,
         "stay": [GUARDED]}}]}),
    *widths("byhand-down-kept", f"down {MODEL}", {"Down": down(("engine", "ollama stopped", 1100), instance=GUARDED, stay=[GUARDED])}),
    case("byhand-down-unknown", f"down {MODEL}", {"Down": down(("engine", "ollama stopped", 1100), instance=UNREACHED, stay=[UNREACHED])}),
    case("byhand-down-others", f"down {MODEL}", {"Down": down(("engine", "ollama stopped", 1100), instance=OF_OTHERS, stay=[OF_OTHERS])}),
    *widths("rent-down-kept", f"down {MODEL}", {"Down": down(("engine", "ollama stopped", 1100), instance=STAYS, stay=[STAYS])}),
    case("rent-sleep-kept", f"sleep {MODEL}", {"Sleep": down(("engine", "ollama stopped", 1100), instance=STAYS, stay=[STAYS])}),
    case("rent-wait", "wait hz-3090 --for=confirmed", {"Wait": [{"more": {"instance": machine("hz-3090", "stopping")}},
                                                                {"reply": {"instance": machine("hz-3090", "stopped")}}]}, columns=80),
    case("rent-wait-stopped", f"wait {MODEL} --for=stopped", {"Wait": [{"reply": {"instance": machine("hz-3090", "stopping", goal="off")}}]}, columns=80),
    case("rent-wait-stopped-in-use", f"wait {MODEL} --for=stopped", {"Wait": [{"reply": {"instance": machine("hz-3090", "running", goal="on")}}]}, columns=80),
    case("rent-down-late", f"down {MODEL} --timeout 20s", {"Down": [error("TimedOut", "timed_out", "hz-3090 is not confirmed off after 20s: AutoDL refuses the token",
         ["llmhostctl wait hz-3090 --for=confirmed"], why="hz-3090 is on at ¥1.48/h, its guard ends it by 14:58; it is asked again and again", target="hz-3090")]}, columns=80),
    case("rent-down-away", f"down {MODEL}", {"Down": AWAY + down(("engine", "stopped", 15600), ("power_off", "AutoDL: shutdown", 15600),
         ("confirmed", "AutoDL: shutdown", 15600), instance=machine("gz-4090", "stopped", **OFF), spent=yuan(6190)), "Cost": COST_OF}),
    case("rent-down-away-goes-on", f"down {MODEL}", {"Down": AWAY + [{"await": "is asked to switch"}, {"interrupt": True}, {"hang": True}]}, columns=80),
    case("rent-wait-beside", "wait hz-3090 --for=confirmed", {"Wait": [{"reply": {"model": ASLEEP, "instance": machine("hz-3090", "stopped")}}]}),
    case("rent-wait-asleep", f"wait {MODEL} --for=confirmed", {"Wait": [{"reply": {"model": ASLEEP, "instance": machine("hz-3090", "stopped")}}]}, columns=80),
    # ---- release, take, drill ----
    case("rent-release", "release bj-4090", {"InstanceShow": SHOW, "Release": [{"await": "asked to give"}, {"reply": {"spent": yuan(250)}}]}, columns=80,
         answers=[("type the name", "bj-4090\n")]),
    case("rent-release-other", "release bj-4090", {"InstanceShow": SHOW}, columns=80, answers=[("type the name", "y\n")]),
    case("rent-orphan-release-no", "release --at autodl pro-81d2", {}, columns=80, answers=[("type the id", "no\n")]),
    case("rent-release-no", "release bj-4090", {"InstanceShow": SHOW}, columns=80, answers=[("type the name", "\n")]),
    case("rent-release-nobody", "release bj-4090", {"InstanceShow": SHOW}),
    case("rent-release-unknown", "release nosuch", {"InstanceShow": [NO_INSTANCE]}),
    case("rent-release-refused", "release bj-4090 --confirm=bj-4090", {"Release": [NOT_OFF]}),
    case("rent-release-never-made", "release 5090", {"InstanceShow": [{"reply": {"instance": machine("5090", "absent", never_made=True), "settings": {}, "models": []}}],
         "Release": [{"reply": {"never_made": True}}]}, columns=80, answers=[("type the name", "5090\n")]),
    case("rent-release-confirm", "release bj-4090 --confirm=bj-4090", {"Release": [{"reply": {"spent": yuan(250, True)}}]}),
    case("rent-release-json", "release bj-4090 --confirm=bj-4090 --json -q", {"Release": [{"reply": {"spent": yuan(250, True)}}]}),
    case("rent-release-wrong", "release bj-4090 --confirm=gz-4090", {}),
    case("rent-take", "instance take gz-4090", {"InstanceTake": [{"reply": {"instance": machine("gz-4090", "running", "up", stays="in_use")}}]}),
    case("rent-drill", "doctor gz-4090 --drill", {"Doctor": [{"await": "its guard stops"}, {"reply": {"healthy": True, "checks": DRILL}}]}),
    case("rent-drill-nobody", "doctor --drill", None),
    # ---- what nothing here knows ----
    *widths("rent-orphan", "status", {"Status": [{"reply": {"daemon": DAEMON, "models": [], "trouble": [ORPHAN], "accounts": [ACCOUNT], "orphans": [LOST],
                                                               "instances": [machine("gz-4090", "running", "up", stays="in_use")]}}]}),
    case("rent-orphan-json", "status --json", {"Status": [{"reply": {"daemon": DAEMON, "models": [], "trouble": [ORPHAN], "orphans": [LOST], "instances": []}}]}),
    *widths("rent-orphan-list", "instance list --at autodl", {"InstanceList": [{"reply": {"instances": [], "machines": [MACHINES[0], LOST,
            {**LOST, "id": "pro-90aa", "name": "pxphguzd-5090-1", "gpu": "5090", "power": "off", "state": "shutdown"}]}}]}),
    case("rent-orphan-down", "down --at autodl pro-81d2", {"Down": down(("power_off", "off", 600), ("confirmed", "its company says so", 5900),
         machine={**LOST, "state": "shutdown", "power": "off"})}, columns=80),
    case("rent-orphan-down-known", "down --at autodl pro-5f0c", {"Down": [NOT_ORPHAN]}),
    case("rent-orphan-down-interrupted", "down --at autodl pro-81d2", {"Down": [{"more": {"progress": {"stage": "power_off", "state": "running", "text": "AutoDL: running"}, "done": False}}, {"await": "power off"}, {"interrupt": True}, {"hang": True}]}),
    case("rent-orphan-release", "release --at autodl pro-81d2", {"Release": [{"reply": {}}]}, columns=80, answers=[("type the id", "pro-81d2\n")]),
    case("rent-orphan-release-nobody", "release --at autodl pro-81d2", {}),
    case("rent-orphan-release-json", "release --at autodl pro-81d2 --confirm=pro-81d2 --json -q", {"Release": [{"reply": {}}]}),
    case("help-down", "down --help", None),
    case("help-release", "release --help", None),
    # ---- the Tab key ----
    case("complete-provider-add", ["__complete", "provider", "add", ""], {"ProviderList": [{"reply": {"accounts": [ACCOUNT], "known": KNOWN}}]}),
    case("complete-provider-set", ["__complete", "provider", "set", ""], {"ProviderList": [{"reply": {"accounts": [ACCOUNT], "known": KNOWN}}]}),
    case("complete-orphan", ["__complete", "release", "--at", "autodl", ""], {"Status": [{"reply": {"daemon": DAEMON, "models": [], "trouble": [ORPHAN], "orphans": [LOST], "instances": []}}]}),
    case("complete-orphan-elsewhere", ["__complete", "down", "--at=pai-dsw", ""], {"Status": [{"reply": {"daemon": DAEMON, "models": [], "trouble": [ORPHAN], "orphans": [LOST], "instances": []}}]}),
    case("complete-image", ["__complete", "up", "ollama:phi4", "--image", ""], {"ImageList": [{"reply": {"images": IMAGES}}]}),
    case("complete-release", ["__complete", "release", ""], {"Status": STATUS}),
]
for one in RENT:
    one["minutes"] = True
