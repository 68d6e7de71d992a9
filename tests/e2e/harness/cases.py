"""Runs the cases of one script and ends with `N passed, N failed` alone on a line."""
import sys
import time
import unittest


class _Result(unittest.TestResult):
    """One line for each case, at once; details of failures after it."""

    def __init__(self):
        super().__init__()
        self.passed = 0
        self.started = 0.0

    def startTest(self, test):
        super().startTest(test)
        self.started = time.monotonic()

    def _line(self, word, test, note=""):
        seconds = time.monotonic() - self.started if self.started else 0.0
        print(f"{word:<5} {_name(test)} ({seconds:.1f} s){note}", flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1
        self._line("ok", test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._line("FAIL", test, "\n" + self.failures[-1][1])

    def addError(self, test, err):
        super().addError(test, err)
        self._line("ERROR", test, "\n" + self.errors[-1][1])

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._line("skip", test, f": {reason}")

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is None:
            self.passed += 1
            self._line("ok", subtest)
        else:
            kept = self.failures if issubclass(err[0], test.failureException) else self.errors
            self._line("FAIL", subtest, "\n" + kept[-1][1])
        self.started = time.monotonic()

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self._line("FAIL", test, ": was expected to fail")


def _name(test):
    return test.id().removeprefix("__main__.")


def main():
    """Runs the cases of the script that calls it (or those named on its command line) and exits."""
    loader = unittest.TestLoader()
    module = sys.modules["__main__"]
    names = sys.argv[1:]
    suite = loader.loadTestsFromNames(names, module) if names else loader.loadTestsFromModule(module)
    result = _Result()
    suite.run(result)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    if result.passed + failed + len(result.skipped) == 0:
        print("no case ran", flush=True)
        failed = 1
    print(f"{result.passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)
