"""Runs: progress, Ctrl-C, and other threads meanwhile."""

import signal
import threading
import time

import pytest
from conftest import SMALL

import impasto


def test_progress_follows_every_step(pipeline, plain):
    seen = []
    painted = pipeline.paint("1girl, red hair", on_step=seen.append, **SMALL)
    assert painted.image.tobytes() == plain
    assert [(progress.done, progress.total) for progress in seen] == [(1, 3), (2, 3), (3, 3)]
    assert seen[-1].sigma == 0 and all(progress.seconds > 0 for progress in seen)
    assert (seen[0].stage, seen[0].pass_index, seen[0].passes) == (0, 0, 1)


def test_exception_in_on_step_ends_the_run(pipeline):
    seen = []

    def stop(progress):
        seen.append(progress)
        raise StopIteration("enough")

    with pytest.raises(StopIteration, match="enough"):
        pipeline.paint("1girl", on_step=stop, **SMALL)
    assert len(seen) == 1


def test_interrupt_ends_the_run_between_steps(pipeline, plain):
    begun = time.monotonic()
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        pipeline.paint("1girl", size="64x64", seed=7, steps=1000)
    timer.join()
    assert time.monotonic() - begun < 5
    assert pipeline.paint("1girl, red hair", **SMALL).image.tobytes() == plain, "the pipeline goes on"


def test_other_threads_run_meanwhile(pipeline):
    steps, ticks, done = [], [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(len(steps))
            time.sleep(0.001)

    other = threading.Thread(target=tick)
    other.start()
    try:
        pipeline.paint("1girl", on_step=steps.append, size="64x64", seed=7, steps=30)
    finally:
        done.set()
        other.join()
    assert len(set(ticks)) > 10, "the other thread runs between most steps"


def test_painting_pipeline_refuses_another_picture(pipeline):
    def again(_):
        pipeline.paint("1girl", **SMALL)

    with pytest.raises(impasto.ImpastoError, match="this pipeline is painting"):
        pipeline.paint("1girl", on_step=again, **SMALL)


def test_two_pipelines_paint_at_once(pipeline, plain):
    pictures, other = {}, impasto.Pipeline()

    def paint(name, own):
        pictures[name] = own.paint("1girl, red hair", **SMALL).image.tobytes()

    threads = [threading.Thread(target=paint, args=pair) for pair in [("own", pipeline), ("other", other)]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pictures == {"own": plain, "other": plain}
