"""One window of a soak: a config and a fault by random numbers, the run, and its files."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

# The faults and their frequency.
FAULTS = {"none": 6, "kill": 6, "term": 4, "full disk": 4, "slow sink": 4, "closed pipe": 2, "locked": 2}
DRAIN = 2
# Time that a run may take after its end; this machine may be busy.
PATIENCE = 180
LOOK = 0.25
# The file that fills the small disk.
FILLER = "filler"
NAME = re.compile(
    r"(?P<family>fixed|dated-\d{8}T\d{6})(\.\d{4,})?\.(?P<kind>jsonl|csv)(?P<compressed>\.gz|\.zst)?(?P<partial>\.partial(-.*)?)?"
)


class Places:
    """The directories of a soak."""

    def __init__(self, root):
        self.root = root
        self.out, self.small, self.calls = (os.path.join(root, name) for name in ("out", "small", "calls"))
        self.reports, self.done, self.temporary = (os.path.join(root, name) for name in ("reports", "done", "tmp"))
        for directory in (self.out, self.small, self.calls, self.reports, self.done, self.temporary):
            os.mkdir(directory, 0o700)
        self.lock = os.path.join(root, "lock")


def descriptors(pid):
    """A process's file descriptors, and the kernel's BPF objects behind them as (kind, id)."""
    ids, count = set(), 0
    directory = f"/proc/{pid}/fdinfo"
    for name in os.listdir(directory):
        try:
            with open(f"{directory}/{name}", encoding="ascii") as file:
                text = file.read()
        except OSError:
            continue
        count += 1
        ids.update((kind, int(number)) for kind, number in re.findall(r"^(prog|map|link)_id:\s*(\d+)$", text, re.M))
    return count, ids


def memory(pid, key):
    """`VmHWM` or `VmRSS` of a process, bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(rf"^{key}:\s*(\d+) kB$", file.read(), re.M)[1]) << 10


class Watch:
    """The resources of a run, measured while it runs."""

    def __init__(self, pid):
        self.pid, self.peak, self.most, self.ids = pid, 0, 0, set()

    def look(self):
        try:
            count, ids = descriptors(self.pid)
            self.most, self.ids = max(self.most, count), self.ids | ids
            self.peak = max(self.peak, memory(self.pid, "VmHWM"))
        except (OSError, TypeError):  # it has ended
            pass


class SlowReader(threading.Thread):
    """Reads a pipe into a file, some bytes a second, to its end or for a limited time."""

    def __init__(self, pipe, to, speed, until):
        super().__init__(daemon=True)
        self.pipe, self.to, self.speed, self.until = pipe, to, speed, until
        self.start()

    def run(self):
        end = None if self.until is None else time.monotonic() + self.until
        with open(self.pipe, "rb", buffering=0) as pipe, open(self.to, "wb") as to:
            while end is None or time.monotonic() < end:
                chunk = pipe.read(16384)
                if not chunk:
                    return
                to.write(chunk)
                time.sleep(len(chunk) / self.speed)


class Window:
    """A window, before, while and after it runs."""

    def __init__(self, number, random, places, names, duration):
        self.number, self.random, self.places, self.names, self.duration = number, random, places, names, duration
        self.fault = random.choices(list(FAULTS), FAULTS.values())[0]
        self.problems, self.told = [], 0
        self.report = os.path.join(places.reports, f"{number}.json")
        self.moment = random.uniform(0, duration + 0.7)
        self.draw()

    def draw(self):
        """The config."""
        random, fixed = self.random, self.random.random() < 0.5
        stem = "fixed" if fixed else "dated-{{ start | date('%Y%m%dT%H%M%S') }}"
        self.family = "fixed" if fixed else "dated"
        buffer = {
            "type": random.choice(["ringbuf", "ringbuf", "perfbuf"]),
            "size": random.choice(["64KiB", "256KiB", "1MiB", "4MiB"]),
            "wakeup": random.choice(["auto", {"events": 64}, {"interval": "20ms"}]),
        }
        extra = {}
        if (rotate := random.choice([None, None, {"size": "1MiB"}, {"every": "1s"}])) is not None:
            extra["rotate"] = rotate
        if (compress := random.choice([None, None, *self.compressors()])) is not None:
            extra["compress"] = compress
        sinks = {kind: {"type": kind, "path": f"{self.places.out}/{stem}.{kind}", **extra} for kind in ("jsonl", "csv")}
        sinks["csv"]["columns"] = ["time", "ts", "probe", "pid", "path", "argv"]
        small = random.choice(["jsonl", "csv"])
        if self.fault == "full disk":
            sinks[small]["path"] = f"{self.places.small}/{stem}.{small}"
        if self.fault in ("slow sink", "closed pipe"):
            self.pipe = f"{self.places.root}/pipe.{self.number}"
            sinks["jsonl"] = {"type": "jsonl", "path": self.pipe}
        probe = {"buffer": buffer, "order": random.choice(["arrival", "arrival", "time"])}
        self.config = {
            "version": 1,
            "name": "soak",
            "window": {
                "duration": f"{self.duration}s",
                "drain": f"{DRAIN if self.fault == 'slow sink' else 30}s",
                "warmup": random.choice(["0s", "0s", "500ms"]),
                "lock": self.places.lock,
            },
            "probes": [
                {"program": "opensnoop", "name": "opens", "filters": {"comm": self.names["opens"]}, **probe},
                {"program": "execsnoop", "name": "execs", "filters": {"comm": self.names["execs"]}, **probe},
            ],
            "sinks": sinks,
        }

    @staticmethod
    def compressors():
        """The sinks whose files are checked."""
        return ["gzip", "zstd"] if shutil.which("zstd") else ["gzip"]

    def command(self, binary):
        path = os.path.join(self.places.root, f"{self.number}.yaml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.config, file)
        return [binary, path, "--report", self.report]

    def there(self):
        """The files of sinks, by their number: a file that is renamed keeps it."""
        return {
            entry.inode(): entry.path
            for directory in (self.places.out, self.places.small)
            for entry in os.scandir(directory)
            if entry.name != FILLER
        }

    def finds(self, path):
        """Whether a partial file is of an earlier run of the same sinks, so that this run must report it."""
        known = NAME.fullmatch(os.path.basename(path))
        sink = self.config["sinks"].get(known["kind"]) if known else None
        return bool(sink) and known["family"][:5] == self.family and os.path.dirname(path) == os.path.dirname(sink["path"])

    def run(self, binary):
        """Runs it to its end."""
        before = self.there()
        if self.fault == "full disk":
            self.fill()
        reader = None
        if hasattr(self, "pipe"):
            os.mkfifo(self.pipe)
            slow = self.fault == "slow sink"
            speed = self.random.choice([30e3, 300e3, 1e6]) if slow else 1e9
            reader = SlowReader(self.pipe, self.pipe + ".read", speed, None if slow else self.moment)
        environment = {**os.environ, "TMPDIR": self.places.temporary}
        with open(os.path.join(self.places.root, f"{self.number}.err"), "w+", encoding="utf-8", errors="replace") as stderr:
            began = time.monotonic()
            child = subprocess.Popen(self.command(binary), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, env=environment)
            self.watch = Watch(child.pid)
            self.until_the_end(child, began)
            stderr.seek(0)
            self.stderr = stderr.read()
        self.code = child.returncode
        self.seconds = time.monotonic() - began
        if reader:
            self.end_reader(reader)
        self.judge()
        return self.collect(before)

    def until_the_end(self, child, began):
        late = self.duration + DRAIN + PATIENCE
        sent = self.fault not in ("kill", "term")
        while child.poll() is None:
            now = time.monotonic() - began
            if not sent and now >= self.moment:
                child.send_signal(signal.SIGKILL if self.fault == "kill" else signal.SIGTERM)
                sent = True
            if self.fault == "locked" and now > self.duration / 2 and not hasattr(self, "second"):
                self.second = subprocess.run([*self.command(child.args[0]), "--quiet"], capture_output=True, text=True, check=False)
            if now > late:
                self.problems.append(f"it has not ended after {late} s")
                child.kill()
            self.watch.look()
            time.sleep(LOOK if sent else min(LOOK, max(0.0, self.moment - now)))

    def end_reader(self, reader):
        if reader.is_alive():  # it waits for a writer that never came, or has much to read yet
            reader.speed = 1e12
            try:
                os.close(os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:
                pass
        reader.join(10)

    def fill(self):
        """Fills the small disk, sometimes with enough space left."""
        with open(os.path.join(self.places.small, FILLER), "wb") as file:
            room = os.fstatvfs(file.fileno())
            leave = int(2 ** self.random.uniform(14, 22))
            os.posix_fallocate(file.fileno(), 0, max(1, room.f_bavail * room.f_frsize - leave))

    def judge(self):
        """The exit code and the message."""
        allowed = {"kill": {-9, 0, 3}, "full disk": {0, 1, 3}, "slow sink": {0, 1, 3}}.get(self.fault, {0, 3})
        if self.fault == "term" and not self.attached:
            allowed = {0, 3, -15}  # before it listens
        if self.code not in allowed:
            self.problems.append(f"exit code {self.code}")
        words = {"full disk": self.places.small, "slow sink": "`drain`"}.get(self.fault, "")
        if self.code == 1 and words not in self.stderr:
            self.problems.append(f"the message does not have {words}")
        for word in ("panicked", "do not reconcile", "bug"):
            if word in self.stderr:
                self.problems.append(f"stderr says `{word}`")
        second = getattr(self, "second", None)
        if second and self.code in (0, 3) and (second.returncode, second.stdout, second.stderr) != (6, "", ""):
            self.problems.append(f"the second run: exit code {second.returncode}: {second.stderr}")

    @property
    def attached(self):
        return "attached " in self.stderr

    def collect(self, before):
        """Moves what it has left out of the way of the next window, to be checked. What a killed run leaves is copied, and
        stays for the next run to find."""
        to = os.path.join(self.places.done, str(self.number))
        os.mkdir(to)
        sinks = {kind: {"kind": kind, "files": []} for kind in self.config["sinks"]}
        for inode, path in self.there().items():
            directory, name = os.path.split(path)
            known = NAME.fullmatch(name)
            if not known:
                self.problems.append(f"{path} is no file of a sink's")
            elif inode in before:
                self.collect_old(before[inode], path)
            else:
                copy = os.path.join(to, name)
                half = known["partial"] and known["compressed"]  # its text is beside it
                if directory == self.places.out and known["partial"]:
                    shutil.copy(path, copy)
                    if self.code in (0, 3):
                        self.problems.append(f"{path} is there after exit code {self.code}")
                else:
                    shutil.move(path, copy)
                if not half:
                    sinks[known["kind"]]["files"].append((copy, name))
        if self.fault == "full disk":
            os.unlink(os.path.join(self.places.small, FILLER))
        if hasattr(self, "pipe"):
            read = self.pipe + ".read"
            files = [(read, "pipe")] if os.path.exists(read) else []
            sinks["jsonl"] = {"kind": "jsonl", "files": files, "stream": True, "closed": self.fault == "closed pipe"}
            os.unlink(self.pipe)
        return {"code": self.code, "directory": self.places.calls, "sinks": sinks, "report": self.collect_report()}

    def collect_old(self, old, path):
        """A file of an earlier window: set aside and told of, if this one had to find it; else as it was."""
        if path == old:
            if self.attached and self.finds(old):
                self.problems.append(f"{old} was left by a killed run, and is not set aside")
        elif not path.startswith(old + "-") or f"{old} was left by a run that was killed" not in self.stderr:
            self.problems.append(f"{old} became {path}, and is not told of")
        else:
            self.told += 1
            os.unlink(path)

    def collect_report(self):
        if os.path.exists(self.report + ".partial"):
            if self.code != -9:
                self.problems.append("the report is not whole")
            os.unlink(self.report + ".partial")
        if os.path.exists(self.report):
            return self.report
        if self.attached and self.code >= 0:
            self.problems.append("there is no report")
        return None
