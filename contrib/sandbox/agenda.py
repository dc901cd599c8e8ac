"""What happens later: one thread that calls functions at their time, under the company's lock."""
import heapq
import itertools
import threading
import time
import traceback


class Agenda(threading.Thread):
    def __init__(self, lock):
        super().__init__(daemon=True)
        self.condition, self.entries, self.numbers, self.over = threading.Condition(lock), [], itertools.count(), False
        self.start()

    def later(self, seconds, what, *arguments):
        """Call with the lock held."""
        heapq.heappush(self.entries, (time.monotonic() + seconds, next(self.numbers), what, arguments))
        self.condition.notify_all()

    def every(self, seconds, what):
        def again():
            self.later(seconds, again)
            what()
        self.later(seconds, again)

    def end(self):
        with self.condition:
            self.over = True
            self.condition.notify_all()

    def run(self):
        with self.condition:
            while not self.over:
                wait = self.entries[0][0] - time.monotonic() if self.entries else None
                if wait is None or wait > 0:
                    self.condition.wait(wait)
                    continue
                _, _, what, arguments = heapq.heappop(self.entries)
                try:
                    what(*arguments)
                except Exception:               # one entry's trouble is not everybody's end
                    traceback.print_exc()
