"""Hooks in Python: their phases, tensors without a copy, and exceptions."""

import gc

import pytest
import torch
from conftest import SMALL

import impasto

PROMPT = "1girl, red hair"


def paint(pipeline, *hooks, **fields):
    return pipeline.paint(PROMPT, hooks=hooks, **{**SMALL, **fields}).image.tobytes()


class InPlace:
    """Sharpens the attention in the memory of the library."""

    def scores(self, at, scores):
        scores.mul_(2.0)


class Returned:
    """Sharpens the attention by a tensor of its own."""

    def scores(self, at, scores):
        return scores * 2.0


def test_change_in_place_changes_the_picture(pipeline, plain):
    in_place, returned = paint(pipeline, InPlace()), paint(pipeline, Returned())
    assert in_place != plain
    assert in_place == returned


def test_output_in_place_changes_the_picture(pipeline, plain):
    class Silent:
        def output(self, at, output):
            output.zero_()

    assert paint(pipeline, Silent()) != plain


def test_context_in_place_changes_the_picture(pipeline, plain):
    class Deaf:
        def context(self, at, context):
            assert at.values is None
            context.zero_()

    assert paint(pipeline, Deaf()) != plain


def test_bias_changes_the_picture(pipeline, plain):
    (span,) = pipeline.find(PROMPT, "red hair")

    class Toward:
        def bias(self, at, scores):
            bias = torch.zeros(scores.shape[-1])
            bias[span] = 3.0
            return bias

    class Nothing:
        def bias(self, at, scores):
            return None

    assert paint(pipeline, Toward()) != plain
    assert paint(pipeline, Nothing()) == plain


def test_reader_changes_no_bit(pipeline, plain):
    class Reader:
        def __init__(self):
            self.calls, self.kept = [], []

        def probs(self, at, probs):
            self.calls.append((at, probs.shape))
            self.kept.append(probs)

    reader = Reader()
    assert paint(pipeline, reader) == plain
    sites = [site for site in pipeline.sites if site.is_cross]
    assert len(reader.calls) == len(sites) * SMALL["steps"]
    at, shape = reader.calls[0]
    rows, columns = at.grid
    assert shape[:3] == (1, at.site.heads, rows * columns) and at.query.shape[:3] == shape[:3]
    assert (at.branch, at.images, at.step.index, at.step.count) == ("cond", (0, 1), 0, 3)
    assert at.step.sd_timestep == at.step.timestep, "the model is no flow"
    assert at.step.sigma > at.step.next_sigma and reader.calls[-1][0].step.next_sigma == 0
    # Tensors outlive the run that lent them.
    gc.collect()
    for probs in reader.kept:
        torch.testing.assert_close(probs.sum(-1), torch.ones(probs.shape[:-1]))


def test_sd_timestep_of_a_flow_has_equal_noise():
    steps = []

    class Watch:
        def probs(self, at, probs):
            steps.append(at.step)

    paint(impasto.Pipeline("embedded-flow"), Watch())
    last = steps[-1]
    assert (last.index, last.sigma) == (2, pytest.approx(1.5))
    assert last.timestep == pytest.approx(600)
    assert last.sd_timestep == pytest.approx(477.2, abs=1)


def test_hooks_share_one_memory(pipeline):
    places = {"first": [], "second": []}

    class Watcher:
        def __init__(self, name):
            self.places = places[name]

        def scores(self, at, scores):
            self.places.append((at.query.data_ptr(), at.values.data_ptr(), scores.data_ptr()))

    paint(pipeline, Watcher("first"), Watcher("second"))
    assert places["first"] and places["first"] == places["second"]


def test_interest_chooses_sites_and_branches(pipeline, plain):
    asked, called = [], []

    class Chosen:
        def interest(self, site, branch):
            asked.append((site.index, branch))
            return {"output"} if site.index == 1 and branch == "uncond" else None

        def active(self, step):
            return step.index == 1

        def output(self, at, output):
            called.append((at.site.index, at.branch, at.step.index))

        def scores(self, at, scores):
            raise AssertionError("not interested")

    assert paint(pipeline, Chosen()) == plain
    assert set(asked) == {(site.index, branch) for site in pipeline.sites for branch in ["cond", "uncond"]}
    assert len(asked) == len(set(asked))
    assert called == [(1, "uncond", 1)]


@pytest.mark.parametrize("method", ["context", "bias", "scores", "probs", "output"])
def test_exception_is_the_runs_error(pipeline, method):
    error = LookupError("mine")

    def fail(at, tensor):
        raise error

    hook = type("Failing", (), {})()
    setattr(hook, method, fail)
    with pytest.raises(LookupError) as raised:
        paint(pipeline, hook)
    assert raised.value is error
    assert "fail" in [entry.name for entry in raised.traceback]


@pytest.mark.parametrize("method", ["interest", "active", "controls"])
def test_exception_in_a_question_ends_the_run(pipeline, method):
    error, steps = LookupError("mine"), []

    def fail(*_):
        raise error

    hook = InPlace()
    setattr(hook, method, fail)
    with pytest.raises(LookupError) as raised:
        pipeline.paint(PROMPT, hooks=[hook], on_step=steps.append, **SMALL)
    assert raised.value is error and len(steps) <= 1


def test_wrong_answers_are_refused(pipeline):
    class Misshapen:
        def scores(self, at, scores):
            return scores[..., :1]

    class Text:
        def scores(self, at, scores):
            return "more"

    class Unknown:
        def interest(self, site, branch):
            return ["score"]

        def scores(self, at, scores):
            pass

    class Empty:
        pass

    with pytest.raises(impasto.ImpastoError, match="scores has shape"):
        paint(pipeline, Misshapen())
    with pytest.raises(TypeError, match="expected a torch.Tensor"):
        paint(pipeline, Text())
    with pytest.raises(ValueError, match='interest is "score"; expected phases of context, bias'):
        paint(pipeline, Unknown())
    with pytest.raises(TypeError, match="the hook Empty has no method of a phase"):
        paint(pipeline, Empty())


def test_phrase_is_found_in_a_prompt(pipeline):
    (hair,), (girl,) = pipeline.find(PROMPT, "hair"), pipeline.find(PROMPT, "1girl")
    assert hair.start > girl.stop and girl.start >= 1
    with pytest.raises(impasto.ImpastoError, match='"hat" is not in the prompt'):
        pipeline.find(PROMPT, "hat")
