"""AutoDL's developer API: Pro instances, balance, stock, WeChat push. Lines are those of reference/autodl.md.

Left out: the switch of network storage (l.119) and elastic deployment (§2.4), which this account is not allowed (l.473)."""
import functools
import secrets
import time

import company as companies
from company import maybe_stamp, stamp
from faults import refuse
from wire import PAGES, Operation, number, text, word, words

GB = 1 << 30
INITIAL_DISK = 30 * GB              # l.516
PRO_REGIONS = ("westDC3", "beijingDC2")     # l.150
REPORTED_REGION = {"westDC3": "west-C", "beijingDC2": "bj-B2"}      # l.447-449: another namespace


def verified(run):
    """l.152, l.22: an account nobody has verified. The list and the balance do without (l.115, l.197)."""
    @functools.wraps(run)
    def checked(company, *more):
        company.check_account()
        return run(company, *more)
    return checked


def balance(company, found, fault):
    """§2.1, l.103-115."""
    return {"assets": company.assets(), "accumulate": 118200, "voucher_balance": 0, "blocked_asset": 0,
            "total_recharge_asset": 170000, "available_coupon_num": 0, "to_expire_voucher_num": 0,
            "certain_conditions_voucher_balance": 0, "id": 1, "uid": 1, "remittance_code": "ADL0001",
            "exclusive_transfer_account": "", "created_at": "2025-01-01T00:00:00+08:00",
            "updated_at": "2026-01-01T00:00:00+08:00"}


@verified
def create(company, found, fault):
    """§2.2, l.126-153."""
    images = company.data["base_images"] + [i["image_uuid"] for i in company.images if i["status"] == "finished"]
    if found["gpu_spec_uuid"] not in company.specs or found["image_uuid"] not in images:
        refuse("bad_parameter")                             # l.141-142: an id, not a name
    centers = found.get("data_center_list") or list(PRO_REGIONS)
    if not set(centers) <= set(PRO_REGIONS):
        refuse("bad_parameter")                             # l.150-151
    company.check_balance()
    free = [c for c in centers if (found["gpu_spec_uuid"], REPORTED_REGION[c]) not in company.sold_out]
    instance = company.new("pro", found.get("instance_name", ""), found["gpu_spec_uuid"], found["req_gpu_amount"],
                           REPORTED_REGION[(free or centers)[0]], found["image_uuid"], found.get("start_command", ""),
                           found["expand_system_disk_by_gb"])
    if not company.has_stock(instance, "gpu"):
        refuse("no_stock")                                  # l.152, l.475
    return instance.uuid, lambda: company.create(instance)  # l.147: a string


@verified
def status(company, found, fault):
    """l.155-157: a plain string."""
    instance = company.find(found["instance_uuid"], "pro")
    return fault.word if fault and fault.name == "state" else instance.status


def ssh_fields(instance, fault, ready):
    """l.171-172; missing right after boot (l.182); the last cycle's while off, as usage_info is (l.660)."""
    place = instance.old_place if fault and fault.name == "stale" else instance.place
    if not ready or not place or (fault and fault.name == "no_fields"):
        return {}
    return {"ssh_command": f"ssh -p {place['port']} root@{place['host']}", "proxy_host": place["host"],
            "ssh_port": place["port"], "root_password": place["password"]}


def usage(instance):
    """l.164-169, l.179: old values while off, not valid until collected."""
    since = time.time() - instance.status_at
    valid = instance.status == "running" and since > 1
    if valid:
        instance.usage_at = time.time()
    return {"container_id": "autodl-" + instance.uuid, "valid_at": stamp(instance.usage_at), "cpu_usage_percent": 3.3,
            "mem_usage_percent": 1.2, "mem_usage": 270000000, "mem_limit": 21474836480, "root_fs_used_size": 54000000,
            "root_fs_total_size": 31500000000, "data_disk_total_size": 0, "data_disk_used_size": 0, "storage_fs_usage": "",
            "pull_image_progress": 1, "download_image_progress": 1, "download_oss_file_progress": 0,
            "sys_fs_last_block_size": 0, "is_new": False, "valid": valid}


@verified
def snapshot(company, found, fault):
    """l.159-184."""
    instance = company.find(found["instance_uuid"], "pro")
    spec, ready = company.specs[instance.spec], instance.status not in ("creating", "starting")
    if instance.status == "running" and time.time() - instance.status_at < company.options.fields:
        ready = False
    answer = {"region_sign": instance.region, "payg_price": company.rate(instance),
              "origin_pay_price": spec["origin"] * instance.gpus, "snapshot_gpu_alias_name": spec["card"],
              "chip_corp": "nvidia", "cpu_arch": "x86", "usage_info": usage(instance),
              "expand_system_disk_size": instance.disk_gb * GB, "system_init_disk_size": INITIAL_DISK,
              "jupyter_token": instance.jupyter, "jupyter_domain": "a1-sandbox.autodl.com:8443",
              "service_6006_domain": "u1-sandbox.autodl.com:8443", "service_6006_port_protocol": "http",
              "service_6008_domain": "uu1-sandbox.autodl.com:8443", "service_6008_port_protocol": "http",
              "jupyter_port": 0, "service_6006_port": 0, "service_6008_port": 0, "cg_application_info": {}}   # l.180
    return {**answer, **ssh_fields(instance, fault, ready)}


def item(company, instance, fault):
    """One of the list, l.188-195."""
    word = fault.word if fault and fault.name == "state" else instance.status
    return {"created_at": stamp(instance.created), "uuid": instance.uuid, "machine_id": "4d" + instance.uuid[-8:],
            "machine_alias": "", "region_sign": instance.region,
            "region_name": company.data["region_names"][instance.region], "status": word, "sub_status": "",
            "status_at": stamp(instance.status_at), "start_mode": instance.mode, "charge_type": instance.charge,
            "req_gpu_amount": instance.gpus, "expired_at": maybe_stamp(instance.expires),
            "started_at": maybe_stamp(instance.started), "stopped_at": maybe_stamp(instance.stopped),
            "name": instance.name, "timed_shutdown_at": maybe_stamp(instance.timed), "gpu_spec_uuid": instance.spec}


def list_all(company, found, fault):
    """l.186-197; the newest first is our choice."""
    mine = [i for i in company.instances.values() if i.family == "pro" and not (fault and fault.name == "hidden")]
    items = [item(company, i, fault) for i in sorted(mine, key=lambda i: -i.created)]
    return companies.page(items, found["page_index"], found["page_size"])


@verified
def power_on(company, found, fault):
    """l.199-210."""
    instance = company.find(found["instance_uuid"], "pro")
    if found["payload"] not in ("gpu", ""):                 # l.202-204: an empty one boots with a card
        refuse("bad_mode")
    company.check_start(instance, "gpu")
    return None, lambda: company.power_on(instance, "gpu", found.get("start_command"))      # l.206: null


@verified
def power_off(company, found, fault):
    """l.212-216."""
    instance = company.find(found["instance_uuid"], "pro")
    company.check_stop(instance)
    return None, lambda: company.power_off(instance)


@verified
def release(company, found, fault):
    """l.219-222."""
    instance = company.find(found["instance_uuid"], "pro")
    company.check_release(instance)
    return None, lambda: company.release(instance)


@verified
def image_save(company, found, fault):
    """l.224-228."""
    instance = company.find(found["instance_uuid"], "pro")
    if instance.status != "shutdown":
        refuse("image_not_off")
    image = {"image_uuid": "image-" + secrets.token_hex(5), "name": found["image_name"], "status": "saving",
             "image_size": 54000000, "create_at": stamp(time.time())}
    return {"image_uuid": image["image_uuid"]}, lambda: company.save_image(instance, image)


@verified
def image_list(company, found, fault):
    """l.230-233."""
    return companies.page(company.images, found["page_index"], found["page_size"])


def stock(company, found, fault):
    """§2.3, l.235-255: elastic deployment's figures, which say nothing about Pro (l.250-251)."""
    if found["region_sign"] not in PRO_REGIONS:
        return []                                           # l.248: as if sold out
    names = found.get("gpu_name_set")
    return [{s["stock_name"]: {"idle_gpu_num": s["advertised"][0], "total_gpu_num": s["advertised"][1],
                               "chip_corp": "nvidia", "cpu_arch": "x86"}}
            for s in company.specs.values() if not names or s["stock_name"] in names]


def wechat(company, found, fault):
    """§2.5, l.304-309; what too many are told is not recorded."""
    now = time.time()
    recent = [t for t, _ in company.messages if now - t < companies.DAY_S]
    if not company.account["wechat_bound"] or len(recent) >= 50 or len([t for t in recent if now - t < 60]) >= 5:
        refuse("no_permission")
    return None, lambda: company.messages.append((now, found))


def enterprise(company, found, fault):
    """§2.4, l.473: for enterprises only, whatever is asked."""
    refuse("no_permission")


ONE = {"instance_uuid": word}
RANGE = {name: number(0) for name in ("cuda_v", "cuda_v_from", "cuda_v_to", "cpu_num_from", "cpu_num_to",
                                      "memory_size_from", "memory_size_to", "price_from", "price_to")}
PRO = "/api/v1/dev/instance/pro/"
OPERATIONS = {
    ("POST", "/api/v1/dev/wallet/balance"): Operation("balance", balance, {}, no_body=True),
    ("POST", PRO + "create"): Operation("create", create, {
        "req_gpu_amount": number(1, 4), "expand_system_disk_by_gb": number(0, 500), "gpu_spec_uuid": word,
        "image_uuid": word, "cuda_v_from": number(90, 200)},
        {"data_center_list": words, "instance_name": text, "start_command": text}, changes=True),
    ("GET", PRO + "status"): Operation("status", status, ONE),
    ("GET", PRO + "snapshot"): Operation("snapshot", snapshot, ONE),
    ("POST", PRO + "list"): Operation("list", list_all, PAGES),
    ("POST", PRO + "power_on"): Operation("power_on", power_on, {**ONE, "payload": text}, {"start_command": text}, changes=True),
    ("POST", PRO + "power_off"): Operation("power_off", power_off, ONE, changes=True),
    ("POST", PRO + "release"): Operation("release", release, ONE, changes=True),
    ("POST", PRO + "image/save"): Operation("image_save", image_save, {**ONE, "image_name": word}, changes=True),
    ("POST", PRO + "image/private/list"): Operation("image_list", image_list, PAGES),
    ("POST", "/api/v1/dev/machine/region/gpu_stock"): Operation("stock", stock, {"region_sign": word},
                                                               {"gpu_name_set": words, **RANGE}),
    ("POST", "/api/v1/dev/deployment/list"): Operation("deployment", enterprise, PAGES, {"name": text, "status": text,
                                                                                        "deployment_uuid": text}),
    ("POST", "/api/v1/wechat/message/send"): Operation("wechat", wechat, {"title": word}, {"name": text, "content": text},
                                                       changes=True),
}
