"""Checks the files of a window: each is complete or marked, its lines parse, and their number is that of the report."""

import csv
import gzip
import io
import json
import subprocess
from collections import Counter

PARTIAL = ".partial"


class Lines:
    """The records of one sink's files of one window, by probe."""

    def __init__(self):
        self.records = Counter()
        self.lost = Counter()
        self.numbers = {}

    def add(self, probe, number):
        self.records[probe] += 1
        self.numbers.setdefault(probe, []).append(number)


def text_of(path):
    """The content of a file; of a partial file, up to the end of its last complete line."""
    if path.endswith(".gz"):
        data = gzip.open(path).read()
    elif path.endswith(".zst"):
        data = subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True).stdout
    else:
        with open(path, "rb") as file:
            data = file.read()
    return data.decode("utf-8")


def number_of(record, directory):
    """The load's number in a record."""
    if record["probe"] == "execs":
        argv = record["argv"]
        argv = argv.split(" ") if isinstance(argv, str) else argv
        if len(argv) != 2 or argv[0] != "run":
            raise ValueError(f"no call of the load's: {record}")
        return int(argv[1])
    path = record["path"]
    if not path.startswith(directory + "/"):
        raise ValueError(f"no call of the load's: {record}")
    return int(path[len(directory) + 1:])


def read_jsonl(text, directory, into):
    """Adds whole lines; returns whether the text ends with one."""
    lines = text.split("\n")
    for line in lines[:-1]:
        record = json.loads(line)
        if "lost" in record:
            into.lost[record["probe"]] += record["lost"]
        else:
            into.add(record["probe"], number_of(record, directory))
    return lines[-1] == ""


def read_csv(text, directory, into):
    """Adds whole lines; returns whether the text ends with one."""
    whole, _, rest = text.rpartition("\n")
    rows = csv.reader(io.StringIO(whole + "\n" if whole else ""), strict=True)
    names = next(rows, None)
    for row in rows:
        if len(row) != len(names):
            raise ValueError(f"{len(row)} cells under {len(names)} names: {row}")
        record = dict(zip(names, row))
        into.add(record["probe"], number_of(record, directory))
    return rest == ""


def check_numbers(what, lines, lost, problems):
    """The load numbers its calls: a gap in the numbers is a missing record."""
    for probe, numbers in lines.numbers.items():
        distinct = len(set(numbers))
        if distinct != len(numbers):
            problems.append(f"{what}: {len(numbers) - distinct} records of {probe} are there twice")
        missing = max(numbers) - min(numbers) + 1 - distinct
        if lost is not None and missing > lost.get(probe, 0):
            problems.append(f"{what}: {missing} calls of {probe} are missing, and the report knows of {lost.get(probe, 0)}")


def check_report(report, code, problems):
    """The report agrees with itself and with the exit code."""
    if not report["reconciles"]:
        problems.append("the counts of the report do not reconcile")
    if report["exit_code"] != code:
        problems.append(f"the exit code is {code}, the report says {report['exit_code']}")
    for probe in report["probes"]:
        parts = sum(probe[key] for key in ("written", "warmup", "after_window", "discarded", "lost"))
        if code in (0, 3) and report["window"]["ended_by"] != "closed" and parts != probe["seen"]:
            problems.append(f"{probe['name']}: seen {probe['seen']}, and the parts are {parts}")
    lost = sum(probe.get(key) or 0 for probe in report["probes"] for key in ("lost", "recursion_misses", "unseen", "incomplete"))
    if code in (0, 3) and (code == 3) != (lost > 0):
        problems.append(f"the exit code is {code} with {lost} lost")


def check(window):
    """Checks the files of a window, and returns the counts, with `problems`. `window` is a dictionary of `code`, `directory` (that
    of the load), `sinks` (by name: `kind`, and `files` as pairs of a path and its former name) and `report` (a path or None)."""
    problems, found = [], {"whole": 0, "partial": 0, "records": 0, "lost": 0, "cut": 0, "unreported": 0}
    report = None
    if window["report"]:
        with open(window["report"], encoding="utf-8") as file:
            report = json.load(file)
        check_report(report, window["code"], problems)
        found["lost"] = sum(probe["lost"] for probe in report["probes"])
        found["ended_by"] = report["window"]["ended_by"]
    for sink, left in window["sinks"].items():
        lines, all_whole = Lines(), bool(left["files"])
        for path, name in sorted(left["files"], key=lambda file: file[1]):
            whole = PARTIAL not in name and not left.get("stream")
            read = read_csv if left["kind"] == "csv" else read_jsonl
            try:
                ends = read(text_of(path), window["directory"], lines)
            except (ValueError, KeyError, csv.Error, OSError, EOFError, subprocess.CalledProcessError) as error:
                problems.append(f"{name}: {type(error).__name__}: {error}")
                continue
            found["whole" if whole else "partial"] += not left.get("stream")
            found["cut"] += not ends
            all_whole &= whole
            if whole and not ends:
                problems.append(f"{name}: its last line is cut")
        found["records"] += sum(lines.records.values())
        if report is None:
            found["unreported"] += all_whole
            check_numbers(sink, lines, None, problems)
            continue
        by_name = {probe["name"]: probe for probe in report["probes"]}
        complete = window["code"] in (0, 3) and (all_whole or left.get("stream"))
        check_numbers(sink, lines, {n: p["lost"] + (p["recursion_misses"]) for n, p in by_name.items()} if complete else None, problems)
        for name, probe in by_name.items():
            there, written = lines.records[name], probe["written"]
            exact = complete and report["window"]["ended_by"] != "closed"
            if left.get("closed") or not left["files"]:
                continue
            # After a failure the file may have more records than the report, never fewer
            if there < written or (exact and there != written):
                problems.append(f"{sink}: {there} records of {name}, and the report says that {written} are written")
            if exact and left["kind"] == "jsonl" and lines.lost[name] != probe["lost"]:
                problems.append(f"{sink}: its lines tell of {lines.lost[name]} lost records of {name}, the report of {probe['lost']}")
        if window["code"] in (0, 3) and left["files"] and not all_whole and not left.get("stream"):
            problems.append(f"{sink}: exit code {window['code']}, and a file is not whole")
    return found, problems
