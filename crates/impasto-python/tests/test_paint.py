"""Pictures, reports, recipes, and errors in the words of Python."""

import json

import pytest
import torch
from conftest import SMALL
from PIL import Image

import impasto


def test_exact_color_is_painted_and_reported(pipeline):
    painted = pipeline.paint("1girl, #ffd700 eyes", seed=7)
    assert isinstance(painted.image, Image.Image) and painted.image.size == (256, 256)
    assert painted.image.mode == "RGB"
    (color,) = painted.report["colors"]
    assert (color["label"], color["asked"]) == ("eyes", "#ffd700")
    assert color["delta_e"] < 3, color
    assert painted.report["seed"] == 7 and painted.report["seconds"] > 0
    masks = [map for map in painted.maps if "eyes" in map.report]
    assert masks and masks[0].image.size[0] > 0


def test_seed_repeats_a_picture(pipeline, plain):
    assert pipeline.paint("1girl, red hair", **SMALL).image.tobytes() == plain
    assert pipeline.paint("1girl, red hair", **{**SMALL, "seed": 8}).image.tobytes() != plain


def test_batch_has_a_picture_for_each_seed(pipeline):
    painted = pipeline.paint("1girl, red hair", images=2, **SMALL)
    assert len(painted.images) == 2 and painted.image is painted.images[0]
    assert painted.images[0].tobytes() != painted.images[1].tobytes()
    assert painted.latents.shape == (2, 4, 8, 8) and painted.latents.dtype == torch.float32


def test_saved_picture_holds_its_recipe(pipeline, plain, tmp_path):
    painted = pipeline.paint("1girl, red hair", **SMALL)
    painted.save(tmp_path / "hair.png")
    with Image.open(tmp_path / "hair.png") as opened:
        assert opened.tobytes() == plain
        assert json.loads(opened.text["impasto"]) == painted.recipe
        assert "Seed: 7" in opened.text["parameters"]
    assert painted.recipe["prompt"] == "1girl, red hair"
    with pytest.raises(impasto.ImpastoError, match="index below 1"):
        painted.save(tmp_path / "hair.png", index=1)
    with pytest.raises(impasto.ImpastoError, match=r"\.png"):
        painted.save(tmp_path / "hair.gif")


@pytest.mark.parametrize("as_path", [False, True])
def test_repainting_keeps_the_rest(pipeline, tmp_path, as_path):
    picture = Image.new("RGB", (64, 64), (255, 0, 0))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    if as_path:
        for name, image in [("picture.png", picture), ("mask.png", mask)]:
            image.save(tmp_path / name)
        picture, mask = tmp_path / "picture.png", str(tmp_path / "mask.png")
    painted = pipeline.repaint(picture, "a boat", mask=mask, strength=1, seed=7, steps=3).image
    assert painted.getpixel((40, 9)) == (255, 0, 0) and painted.getpixel((9, 9)) != (255, 0, 0)


def test_early_end_has_latents_and_no_picture(pipeline):
    painted = pipeline.paint("1girl", until=0.5, **SMALL)
    assert painted.images == [] and painted._repr_png_() is None
    assert painted.latents.shape == (1, 4, 8, 8)
    with pytest.raises(impasto.ImpastoError, match="latents"):
        painted.image


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"sed": 7}, "unknown field `sed`; did you mean `seed`?"),
        ({"steps": "many"}, "steps: "),
        ({"steps": 0}, "steps is 0"),
        ({"areas": [{"phrase": 7}]}, r"areas\[0\].phrase: "),
        ({"forces": ["hat=gold"]}, 'phrase "hat" is not in the prompt'),
        ({"sampler": "Eulr"}, 'sampler "Eulr" is not known; did you mean'),
        ({"start": "no.png"}, "no.png"),
        ({"strength": 0.5}, "strength is given without start"),
        ({"ip_adapter_pictures": ["a.png"]}, r"give IP-Adapters with Pipeline\(ip_adapter="),
        ({"best_of": 2}, r'give an exact color, such as forces=\["eyes=gold"\]'),
    ],
)
def test_errors_name_the_field(pipeline, fields, message):
    with pytest.raises(impasto.ImpastoError, match=message) as raised:
        pipeline.paint("1girl, red hair", **fields)
    assert "at line" not in str(raised.value) and "::" not in str(raised.value)


def test_value_of_a_strange_type_is_refused(pipeline):
    with pytest.raises(TypeError, match="type object; expected a text"):
        pipeline.paint("1girl", seed=object())


def test_loading_errors_name_the_argument():
    for arguments, message in [
        ({"model": "no-such-model"}, "model is no-such-model"),
        ({"vae": "no-such-vae"}, "vae is no-such-vae"),
        ({"text_encoder": "no-such-encoder"}, "text_encoder is no-such-encoder"),
        ({"text_encoder_3": "no-such-encoder"}, "text_encoder_3 is no-such-encoder"),
        ({"ip_adapter": "a.bin"}, "ip_adapter and image_encoder belong together"),
        ({"ip_adapter": "a.bin", "image_encoder": "no-such-encoder"}, "image_encoder is no-such-encoder"),
        ({"ip_adapter": __file__, "image_encoder": "embedded"}, "test_paint.py"),
        ({"device": "gpu"}, 'device is "gpu"; expected cpu, cuda'),
        ({"precision": "f8"}, 'precision is "f8"; expected reproducible'),
        ({"precision": torch.float16}, "precision is f16 on cpu"),
        ({"shift": 1.0}, "shift is 1; expected none for this model"),
        ({"model": "embedded-flow", "shift": 0}, "shift is 0; expected 0.01 to 100"),
        ({"lora_folders": ["no-such-folder"]}, None),
    ]:
        if message is None:
            with pytest.raises(impasto.ImpastoError, match="no-such-folder"):
                impasto.Pipeline(**arguments).paint("1girl <lora:ink:1>", **SMALL)
        else:
            with pytest.raises(impasto.ImpastoError, match=message):
                impasto.Pipeline(**arguments)


def test_other_models_load():
    fast = impasto.Pipeline("embedded-fast", precision=torch.float32, device=torch.device("cpu"))
    assert len(fast.paint("1girl, red hair", size="64x64", seed=7).report["timing"]["steps"]) == 4


def test_shift_moves_the_noise_levels_of_a_flow():
    def paint(**arguments):
        seen = []
        painted = impasto.Pipeline("embedded-flow", **arguments).paint("1girl", on_step=seen.append, **SMALL)
        return painted.image.tobytes(), seen[0].sigma

    own, sigma = paint()
    assert sigma == pytest.approx(6)
    assert paint(shift=3) == (own, sigma), "3 is the model's own shift"
    shifted, sigma = paint(shift=1.0)
    assert shifted != own and sigma == pytest.approx(2)


def test_shift_of_a_wrong_type_is_refused():
    with pytest.raises(TypeError, match="shift"):
        impasto.Pipeline("embedded-flow", shift="3")
