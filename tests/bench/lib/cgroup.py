"""CPU time and memory of a whole process tree, children that have ended included, by a control group of its own."""
import os
import re
import threading
import time

V1 = "/sys/fs/cgroup/cpuacct"
V2 = "/sys/fs/cgroup/unified" if os.path.isdir("/sys/fs/cgroup/unified") else "/sys/fs/cgroup"
SAMPLE_SECONDS = 0.5


class Cgroup:
    """A control group (version 1 or 2) that a command is started into."""

    def __init__(self, name):
        self.v1 = os.path.exists(f"{V1}/cpuacct.usage")
        self.path = f"{V1 if self.v1 else V2}/waxwing-bench-{os.getpid()}-{name}"
        os.makedirs(self.path, exist_ok=True)
        self.pss_peak = 0.0
        self._sampling = None

    def wrap(self):
        """Words before a command that put it, and all that it starts, into the group."""
        return ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', self.path]

    def cpu_seconds(self):
        """User and system time of everything that ever ran in it."""
        if self.v1:
            with open(f"{self.path}/cpuacct.usage") as file:
                return int(file.read()) / 1e9
        with open(f"{self.path}/cpu.stat") as file:
            return int(re.search(r"usage_usec (\d+)", file.read())[1]) / 1e6

    def processes(self):
        """Process ids in it."""
        with open(f"{self.path}/cgroup.procs") as file:
            return [int(line) for line in file]

    def pss_megabytes(self):
        """Memory in use, shared pages counted once."""
        total = 0
        for pid in self.processes():
            try:
                with open(f"/proc/{pid}/smaps_rollup") as file:
                    found = re.search(r"Pss:\s+(\d+)", file.read())
            except (FileNotFoundError, ProcessLookupError):
                continue
            total += int(found[1]) if found else 0
        return total / 1024

    def __enter__(self):
        """Begins to sample the peak of memory."""
        self._sampling = threading.Event()
        threading.Thread(target=self._sample, args=(self._sampling,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.pss_peak = max(self.pss_peak, self.pss_megabytes())
        self._sampling.set()

    def _sample(self, done):
        while not done.wait(SAMPLE_SECONDS):
            self.pss_peak = max(self.pss_peak, self.pss_megabytes())

    def remove(self):
        """Removes the group once its processes are gone."""
        for _ in range(100):
            try:
                os.rmdir(self.path)
                return
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.05)
