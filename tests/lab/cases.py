"""Runs one file of lab tests and writes what became of each: the inside half of tests/run.

usage (inside an enclosure): cases.py FILE [NAME...]        NAME: Class, Class.test, or part of a test's name

One line per test goes to $LAB_RESULTS: "pass|fail|skip lab/test_x.Class.test SECONDS"; $LAB_GROUP: what stands there for lab.
What a failure says, with the seed where there is one, goes to $LAB_RESULTS.why. Exit 1 when one failed.
A file may say LIMIT_S = N: how long all of it may take (the runner's default is 120). Then SIGTERM comes: the test that runs has
failed, and it is told where it, and each of its threads, was.
"""
import faulthandler
import importlib.util
import os
import signal
import sys
import time
import traceback
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
import kept

TESTS = os.path.dirname(HERE)
PLACE, GROUP = os.environ.get("LAB_RESULTS"), os.environ.get("LAB_GROUP", "lab")
WHY_BYTES = 1500        # of one failure: a few fit on a screen


class TimeOver(KeyboardInterrupt):
    """Of this kind because no test and no subtest takes it for a failure of its own and goes on."""


class Results(unittest.TextTestResult):
    running, started = None, 0

    def startTest(self, test):
        super().startTest(test)
        self.started = time.monotonic()
        self.verdict, self.running = "pass", test

    def addError(self, test, err):
        super().addError(test, err)
        self.failed(test, err)
        if not hasattr(test, "_testMethodName"):        # setUpClass failed: none of its tests will be told of
            self.put("fail", test.id(), 0)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.failed(test, err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            self.failed(subtest, err)

    def failed(self, test, err):
        self.note(test, traceback.extract_tb(err[2]), "".join(traceback.format_exception_only(*err[:2])))

    def over(self, _, frame):
        """SIGTERM: who runs just now has failed."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        said = f"the time of all was over, {time.monotonic() - self.started:.0f} s after it began" if self.running else "the time was over"
        self.note(getattr(self.running, "_subtest", None) or self.running, traceback.extract_stack(frame), said)
        self.printErrors()
        faulthandler.dump_traceback()
        raise TimeOver

    def note(self, test, stack, said):
        self.verdict = "fail"
        if PLACE:
            where = " > ".join(f"{os.path.basename(f.filename)}:{f.lineno}" for f in stack
                               if f.filename.startswith(TESTS) and f.filename != __file__)
            with open(PLACE + ".why", "a") as f:
                f.write(f"{GROUP}/{test.id() if test else 'no test'}\n{where}\n{said.strip()[:WHY_BYTES]}\n")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.verdict = "skip"
        if not hasattr(test, "_testMethodName"):
            self.put("skip", test.id(), 0)

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.verdict = "fail"

    def stopTest(self, test):
        super().stopTest(test)
        self.running = None
        self.put(self.verdict, test.id(), time.monotonic() - self.started)

    def put(self, verdict, name, seconds):
        if PLACE:
            with open(PLACE, "a") as f:
                f.write(f"{verdict} {GROUP}/{name} {seconds:.1f}\n")


def named(suite, names):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from named(item, names)
        elif not names or any(n in item.id() for n in names):
            yield item


def main():
    path, names = sys.argv[1], sys.argv[2:]
    module_name = os.path.basename(path).removesuffix(".py")
    spec = importlib.util.spec_from_file_location(module_name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    wanted = unittest.TestSuite(named(unittest.defaultTestLoader.loadTestsFromModule(module), names))
    if wanted.countTestCases() == 0:
        print(f"{path}: no such test", file=sys.stderr)
        return 0 if names else 1

    def results(*more):
        made = Results(*more)
        signal.signal(signal.SIGTERM, made.over)
        return made

    try:
        with kept.Processes(module_name):
            result = unittest.TextTestRunner(resultclass=results, verbosity=2).run(wanted)
    except TimeOver:
        return 1
    return 0 if result.wasSuccessful() else 1


sys.exit(main())
