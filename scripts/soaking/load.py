"""The load of a soak: opens and executions that no other process makes, each with a number in it.

    load.py opens COMM FOLDER RATE     opens of FOLDER/N that fail, RATE a second, in bursts
    load.py execs COMM FOLDER RATE     executions of FOLDER/COMM with the argument N, of which nine in ten fail

N counts from 0 up, one more each: what a file of the runner lacks shows as a gap, whatever the runner itself says.
"""

import os
import sys
import time

# Length of a burst, seconds: calls at full speed, so that a buffer gets more than the average rate.
BEAT = 0.1


def opens(directory, _):
    number = 0
    while True:
        try:
            os.open(f"{directory}/{number}", os.O_RDONLY)
        except OSError:
            pass
        number += 1
        yield


def execs(directory, comm):
    number = 0
    while True:
        if number % 10 == 0:
            os.waitpid(os.posix_spawn(f"{directory}/{comm}", ["run", str(number)], {}), 0)
        else:
            try:
                os.execve(f"{directory}/none", ["run", str(number)], {})
            except OSError:
                pass
        number += 1
        yield


def main():
    kind, comm, directory, rate = sys.argv[1:]
    with open("/proc/self/comm", "w", encoding="ascii") as name:
        name.write(comm)
    parent = os.getppid()
    calls = {"opens": opens, "execs": execs}[kind](directory, comm)
    share = max(1, int(float(rate) * BEAT))
    due = time.monotonic()
    while os.getppid() == parent:  # who is orphaned ends
        for _ in range(share):
            next(calls)
        due = max(due + BEAT, time.monotonic() - BEAT)  # what is late by more is not caught up with
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main()
