#!/usr/bin/env python3
"""Pictures of the embedded model beside programs that keep the processor busy, in turns.

    python3 benches/busy.py [--threads 2] [--rounds 9] [--busy 0 1 2]

The rows are impasto's kernels on several threads and on one, and libtorch's layers on several threads (`IMPASTO_KERNELS`
is `off`), as they are and with threads that sleep at once (`OMP_WAIT_POLICY=passive`). The columns are numbers of other
programs, which each keep one processor busy.
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROMPT = "1girl, gold eyes, red hair"
BENCH = ["cargo", "bench", "--quiet", "--bench", "peer"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], help="numbers of other programs")
    args = parser.parse_args()
    subprocess.run([*BENCH, "--no-run"], cwd=ROOT, check=True)
    rows = {
        f"kernels, {args.threads} threads": (args.threads, {}),
        "kernels, 1 thread": (1, {}),
        f"libtorch, {args.threads} threads": (args.threads, {"IMPASTO_KERNELS": "off"}),
        f"libtorch, {args.threads} threads, passive": (
            args.threads, {"IMPASTO_KERNELS": "off", "OMP_WAIT_POLICY": "passive"}),
    }
    painters = {row: start(*how) for row, how in rows.items()}
    for painter in painters.values():
        paint(painter)
    columns = {busy: beside(busy, painters, args.rounds) for busy in args.busy}
    print("| median seconds a picture | " + " | ".join(f"beside {busy}" for busy in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for row in rows:
        print(f"| {row} | " + " | ".join(f"{seconds[row]:.2f}" for seconds in columns.values()) + " |")
    for painter in painters.values():
        painter.stdin.close()


def start(threads, variables):
    command = [*BENCH, "--", "--threads", str(threads)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | variables, **pipes)


def paint(painter):
    """The wall time of a picture. The program's own figure is processor time if it has one thread."""
    begun = time.perf_counter()
    painter.stdin.write(PROMPT + "\n")
    painter.stdin.flush()
    painter.stdout.readline()
    return time.perf_counter() - begun


def beside(busy, painters, rounds):
    """The median seconds of each row beside a number of busy programs."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        seconds = {row: [] for row in painters}
        for _ in range(rounds):
            for row, painter in painters.items():
                seconds[row].append(paint(painter))
    finally:
        for other in others:
            other.kill()
    return {row: statistics.median(times) for row, times in seconds.items()}


if __name__ == "__main__":
    main()
