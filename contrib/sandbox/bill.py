"""The bill: rows of machine time, rentals paid in advance and disks, in 1/1000 yuan. Lines are those of reference/autodl.md."""
import dataclasses

MINIMUM = 10                    # l.490, l.680: at least ¥0.01
NO_GPU_RATE = 100               # l.503: ¥0.1 an hour without a card
DISK_PER_GB_DAY = 0.0066        # l.526, yuan; above 50 GB


@dataclasses.dataclass
class Row:
    instance: str
    name: str
    kind: str                   # compute, prepaid, disk
    mode: str                   # gpu, non_gpu
    start: int                  # whole seconds since 1970: the bill counts them, and lists show them (l.489)
    end: int | None             # None: still running
    rate: int                   # 1/1000 yuan an hour, all cards together
    lump: int | None = None

    def amount(self, now):
        if self.lump is not None:
            return self.lump
        seconds = (self.end if self.end is not None else int(now)) - self.start
        total = (self.rate * seconds + 1800) // 3600            # to the nearest thousandth
        return max(total, MINIMUM) if self.end is not None and self.rate else total


class Bill:
    def __init__(self):
        self.rows = []

    def open(self, instance, name, mode, start, rate):
        if self.open_row(instance):
            raise AssertionError(f"{instance} is billed twice")
        self.rows.append(Row(instance, name, "compute", mode, start, None, rate))

    def open_row(self, instance):
        return next((r for r in self.rows if r.instance == instance and r.kind == "compute" and r.end is None), None)

    def close(self, instance, end):
        row = self.open_row(instance)
        if row:
            row.end = end

    def lump(self, instance, name, kind, start, end, amount):
        self.rows.append(Row(instance, name, kind, "gpu", start, end, 0, amount))

    def total(self, now):
        return sum(r.amount(now) for r in self.rows)

    def list(self, now):
        return [dict(dataclasses.asdict(r), seconds=(int(now) if r.end is None else r.end) - r.start, amount=r.amount(now))
                for r in self.rows]
