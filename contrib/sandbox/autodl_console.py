"""What AutoDL's web console calls: ordinary instances. Unofficial. Lines are those of reference/autodl.md.

Left out: login (l.335), ordering and cloning (l.383-385), images (l.386-388), and what nobody has tried (restart, recreate, l.354)."""
import datetime
import re
import time

import autodl_pro
import company as companies
from company import TZ, maybe_stamp, stamp
from faults import refuse
from wire import PAGES, Operation, number, text, word, words


def family(company, found):
    return company.find(found["instance_uuid"], "console")


def item(company, instance, fault):
    """One of the list, l.360-371."""
    place, spec = instance.place, company.specs[instance.spec]
    status = fault.word if fault and fault.name == "state" else instance.status
    return {"uuid": instance.uuid, "machine_id": instance.uuid.split("-")[0], "machine_alias": "641机",
            "region_sign": instance.region, "region_name": company.data["region_names"][instance.region],
            "rent_deadline": "2027-12-31T00:00:00+08:00", "disk_expand_available": 500 << 30, "driver_version": "550.67",
            "highest_cuda_version": "12.4", "status": status, "sub_status": "", "status_at": stamp(instance.status_at),
            "oom_killed": False, "ssh_command": f"ssh -p {place['port']} root@{place['host']}", "proxy_host": place["host"],
            "proxy_host_ip": place["host"], "snapshot_gpu_alias_name": spec["stock_name"], "root_password": place["password"],
            "jupyter_token": instance.jupyter, "jupyter_domain": "a1-sandbox.autodl.com:8443",
            "region_customer_port_visible": "enterprise", "ssh_port": place["port"], "image": "", "private_image_uuid": "",
            "reproduction_uuid": "", "reproduction_id": 0, "cpu_limit": 16, "mem_limit_in_byte": 64 << 30,
            "start_mode": instance.mode, "shm_size": 0, "charge_type": instance.charge, "req_gpu_amount": instance.gpus,
            "payg_price": spec["price"] * instance.gpus, "expired_at": maybe_stamp(instance.expires),
            "started_at": maybe_stamp(instance.started), "stopped_at": maybe_stamp(instance.stopped),
            "disk_health_status": 0, "usage_info": autodl_pro.usage(instance),
            "expand_data_disk_size": instance.disk_gb << 30, "name": instance.name,
            "timed_shutdown_at": maybe_stamp(instance.timed), "gpu_all_num": instance.machine_gpus[1],
            "gpu_idle_num": instance.machine_gpus[0], "machine_followed": False, "auto_trans_to_payg": instance.auto_payg}


def list_all(company, found, fault):
    """l.349: {} also works."""
    mine = [i for i in company.instances.values() if i.family == "console" and not (fault and fault.name == "hidden")]
    mine = [i for i in mine if not found.get("status") or i.status in found["status"]]
    mine = [i for i in mine if not found.get("charge_type") or i.charge in found["charge_type"]]
    items = [item(company, i, fault) for i in sorted(mine, key=lambda i: -i.created)]
    return companies.page(items, found.get("page_index", 1), found.get("page_size", 100))


def detail(company, found, fault):
    """l.350."""
    instance = family(company, found)
    whole = item(company, instance, fault)
    return {"status": whole["status"], "data_disk_expand_size": whole["expand_data_disk_size"],
            "proxy_host": whole["proxy_host"], "ssh_port": whole["ssh_port"],
            "machine": {"machine_id": whole["machine_id"], "gpu_idle_num": whole["gpu_idle_num"]}}


def snapshot(company, found, fault):
    """l.351: the price of all cards."""
    instance = family(company, found)
    spec = company.specs[instance.spec]
    return {"payg_price": spec["price"] * instance.gpus, "origin_pay_price": spec["origin"] * instance.gpus,
            "machine_info_snapshot": {"machine_sku": []}}


def power_on(company, found, fault):
    """l.352: the console itself sends no payload for a boot with cards."""
    instance, mode = family(company, found), found.get("payload", "gpu")
    if mode not in ("gpu", "non_gpu"):
        refuse("bad_mode")
    company.check_account()
    company.check_start(instance, mode)
    return None, lambda: company.power_on(instance, mode)


def power_off(company, found, fault):
    """l.353."""
    instance = family(company, found)
    company.check_stop(instance)
    return None, lambda: company.power_off(instance)


def release(company, found, fault):
    """l.355. Here so that it can be seen that nobody calls it."""
    instance = family(company, found)
    company.check_release(instance)
    return None, lambda: company.release(instance)


def when(value, format):
    """l.356: "YYYY-MM-DD HH:MM" of UTC+8, or milliseconds, or null; the account says which are accepted today."""
    if value is None and format != "text":
        return None
    if type(value) is int and format != "text" and value > 10 ** 12:
        return value / 1000
    if isinstance(value, str) and format != "ms" and re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", value):
        try:
            return datetime.datetime.strptime(value, "%Y-%m-%d %H:%M").replace(tzinfo=TZ).timestamp()
        except ValueError:
            pass
    refuse("bad_parameter")


def timed_shutdown(company, found, fault):
    instance = family(company, found)
    at = when(found["shutdown_at"], company.account["timed_format"])
    if at is not None and at <= time.time() - 60:
        refuse("bad_parameter")

    def set_it():
        instance.timed = at
    return None, set_it


def name(company, found, fault):
    """l.357."""
    instance = family(company, found)

    def set_it():
        instance.name = found["instance_name"]
    return None, set_it


def gpu_types(company, found, fault):
    """§3.3, l.381."""
    return [{s["stock_name"]: {"idle_gpu_num": s["advertised"][0], "total_gpu_num": s["advertised"][1]}}
            for s in company.specs.values()]


def market(company, found, fault):
    """§3.3, l.382: machines one could order; this one has no ordering."""
    items = [{"machine_id": f"{n:010x}", "machine_alias": f"{n}机", "region_sign": "beijing-E", "gpu_name": s["stock_name"],
              "gpu_idle_num": s["advertised"][0], "gpu_order_num": s["advertised"][0], "highest_cuda_version": "12.4",
              "cpu_per_gpu": 16, "mem_per_gpu": 64 << 30, "payg_price": s["price"], "max_data_disk_expand_size": 500 << 30}
             for n, s in enumerate(company.specs.values(), 1)
             if not found.get("gpu_type_name") or s["stock_name"] in found["gpu_type_name"]]
    items = [i for i in items if i["gpu_idle_num"] >= found.get("gpu_idle_num", 0)]
    return companies.page(items, found["page_index"], found["page_size"])


def web(call, run, needs, may=(), changes=False):
    return Operation("console/" + call, run, needs, dict(may), "web", changes=changes)


def anything(value):
    return True


ONE = {"instance_uuid": word}
AT = "/api/v1/instance"
OPERATIONS = {
    ("POST", AT): web("list", list_all, {}, {"date_from": text, "date_to": text, "status": lambda v: v == [] or words(v),
                                             "charge_type": lambda v: v == [] or words(v), **PAGES}),
    ("GET", AT + "/detail"): web("detail", detail, ONE),
    ("GET", AT + "/snapshot"): web("snapshot", snapshot, ONE),
    ("POST", AT + "/power_on"): web("power_on", power_on, ONE, {"payload": text}, True),
    ("POST", AT + "/power_off"): web("power_off", power_off, ONE, (), True),
    ("POST", AT + "/release"): web("release", release, ONE, (), True),
    ("POST", AT + "/timed/shutdown"): web("timed_shutdown", timed_shutdown, {**ONE, "shutdown_at": anything}, (), True),
    ("PUT", AT + "/name"): web("name", name, {**ONE, "instance_name": text}, (), True),
    ("POST", "/api/v1/machine/region/gpu_type"): web("gpu_type", gpu_types, {"region_sign_list": words}),
    ("POST", "/api/v1/user/machine/list"): web("market", market, {"charge_type": word, **PAGES}, {
        "region_sign_list": words, "gpu_type_name": words, "gpu_idle_num": number(0), "machine_tag_name": anything,
        "mount_net_disk": anything, "default_order": anything}),
}
