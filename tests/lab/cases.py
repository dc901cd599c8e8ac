"""Runs one file of lab tests and writes what became of each: the inside half of tests/run.

usage (inside an enclosure): cases.py FILE [NAME...]        NAME: Class, Class.test, or part of a test's name

One line per test goes to $LAB_RESULTS: "pass|fail|skip lab/test_x.Class.test SECONDS"; $LAB_GROUP: what stands there for lab.
Exit 1 when one failed.
A file may say LIMIT_S = N: how long all of it may take (the runner's default is 120).
"""
import importlib.util
import os
import sys
import time
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
import kept


class Results(unittest.TextTestResult):
    def startTest(self, test):
        super().startTest(test)
        self.started = time.monotonic()
        self.verdict = "pass"

    def addError(self, test, err):
        super().addError(test, err)
        self.verdict = "fail"
        if not hasattr(test, "_testMethodName"):        # setUpClass failed: none of its tests will be told of
            self.put("fail", test.id(), 0)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.verdict = "fail"

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            self.verdict = "fail"

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
        self.put(self.verdict, test.id(), time.monotonic() - self.started)

    def put(self, verdict, name, seconds):
        place = os.environ.get("LAB_RESULTS")
        if place:
            with open(place, "a") as f:
                f.write(f"{verdict} {os.environ.get('LAB_GROUP', 'lab')}/{name} {seconds:.1f}\n")


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
    with kept.Processes(module_name):
        result = unittest.TextTestRunner(resultclass=Results, verbosity=2).run(wanted)
    return 0 if result.wasSuccessful() else 1


sys.exit(main())
