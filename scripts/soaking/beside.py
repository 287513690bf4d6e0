"""Runs beside the windows: a capture that lasts as long as the soak, and the list of the kernel's BPF objects."""

import gzip
import json
import os
import signal
import subprocess
import time

from books import Lines, check_numbers, check_report, read_jsonl
from window import Watch, descriptors, memory

KINDS = ("prog", "map", "link")
# The kernel frees BPF objects some time after the last use.
GRACE = 10
KEEP = 3
GROWTH = 4 << 20


class Objects:
    """BPF objects that runs had open. Their IDs are not reused."""

    def __init__(self):
        self.all = set()

    def seen(self, ids):
        self.all |= ids

    def left(self):
        """Objects that exist although every run has ended."""
        until = time.monotonic() + GRACE
        while True:
            there = set()
            for kind in KINDS:
                listed = subprocess.run(["bpftool", "-j", kind, "show"], capture_output=True, text=True, check=True)
                there |= {(kind, entry["id"]) for entry in json.loads(listed.stdout)}
            if not (left := self.all & there) or time.monotonic() > until:
                return [f"{kind} {number} still exists" for kind, number in sorted(left)]
            time.sleep(0.5)


class Beside:
    """One capture of the executions that runs all the time, with many files of which few stay: whatever it takes with each
    of them shows in the end."""

    def __init__(self, binary, places, names):
        self.directory = os.path.join(places.root, "beside")
        self.calls, self.lock = places.calls, os.path.join(places.root, "beside.lock")
        self.report = os.path.join(places.root, "beside.json")
        os.mkdir(self.directory, 0o700)
        config = os.path.join(places.root, "beside.yaml")
        sink = {"path": f"{self.directory}/x.jsonl", "rotate": {"every": "2s"}, "compress": "gzip", "keep": {"files": KEEP}}
        with open(config, "w", encoding="utf-8") as file:
            json.dump(
                {
                    "version": 1,
                    "window": {"lock": self.lock},
                    "probes": [{"program": "execsnoop", "name": "execs", "filters": {"comm": names["beside"]}}],
                    "sinks": {"file": {"type": "jsonl", **sink}},
                },
                file,
            )
        self.stderr = os.path.join(places.root, "beside.err")
        with open(self.stderr, "wb") as stderr:
            command = [binary, config, "--report", self.report, "--quiet"]
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
        self.watch = Watch(self.child.pid)
        self.resident, self.descriptors = [], []

    def look(self, problems):
        if self.child.poll() is not None:
            problems.append(f"the capture beside ended: exit code {self.child.returncode}")
            return
        self.watch.look()
        self.resident.append(memory(self.child.pid, "VmRSS"))
        self.descriptors.append(descriptors(self.child.pid)[0])

    def end(self, problems, seconds):
        self.child.send_signal(signal.SIGTERM)
        try:
            code = self.child.wait(60)
        except subprocess.TimeoutExpired:
            self.child.kill()
            problems.append("the capture beside does not end")
            return
        with open(self.stderr, encoding="utf-8", errors="replace") as stderr:
            words = stderr.read()
        if code not in (0, 3):
            problems.append(f"the capture beside: exit code {code}: {words}")
            return
        with open(self.report, encoding="utf-8") as file:
            report = json.load(file)
        check_report(report, code, problems)
        probe = report["probes"][0]
        self.written, self.lost = probe["written"], probe["lost"]
        files = sorted(os.listdir(self.directory))
        lines = Lines()
        for name in files:
            with gzip.open(os.path.join(self.directory, name), "rt", encoding="utf-8") as file:
                read_jsonl(file.read(), self.calls, lines)
        check_numbers("the capture beside", lines, {"execs": probe["lost"] + (probe["recursion_misses"])}, problems)
        if len(files) != KEEP and seconds > 30:
            problems.append(f"the capture beside keeps {files}")
        self.files = sum(file["complete"] for file in report["files"])

    def summary(self, problems):
        if len(self.resident) < 4 or not hasattr(self, "files"):
            return "too short to tell"
        quarter = len(self.resident) // 4
        early, late = max(self.resident[: 2 * quarter]), max(self.resident[-quarter:])
        few, many = max(self.descriptors[: 2 * quarter]), max(self.descriptors[-quarter:])
        if late > early + GROWTH:
            problems.append(f"the capture beside grows from {early >> 10} KiB to {late >> 10} KiB")
        if many > few + 2:
            problems.append(f"the capture beside has {many} file descriptors in the end, {few} before")
        return (
            f"{self.files} files, {self.written} records, {self.lost} lost; {early / 2**20:.1f} MiB resident in its first half, "
            f"{late / 2**20:.1f} MiB in its last quarter; {few} file descriptors, then {many}"
        )
