"""Record of the figures of a comparison, in the format of benches/support/figures.rs."""
import os
import random
import statistics


def record(bench, group, row, measure, value, interval, rounds, threads):
    """Appends a figure to the file that IMPASTO_FIGURES names; does nothing without that variable."""
    file = os.environ.get("IMPASTO_FIGURES")
    if file:
        low, high = interval or ("", "")
        with open(file, "a") as out:
            out.write(f"{bench},{group},{row},{measure},{value},{low},{high},{rounds},{threads}\n")


def interval(values):
    """The 95 % interval of the median under resampling."""
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(2000))
    return medians[50], medians[1949]
