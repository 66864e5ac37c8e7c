"""Paints through the studio with the clients of other programs' APIs: the packages openai, webuiapi and mcp.

    python clients.py openai|webuiapi|frontends|comfyui HOST PORT TOKEN
    python clients.py mcp PROGRAM VARIABLE

Called by tests/clients.rs, which starts the studio. PROGRAM serves the client of mcp if the environment has VARIABLE.
Prints nothing and ends with status 0 if all went well.
"""

import base64
import io
import json
import os
import sys
import urllib.request


def test_openai(host, port, token):
    import openai
    from PIL import Image

    client = openai.OpenAI(base_url=f"http://{host}:{port}/v1", api_key=token, max_retries=0)
    model = client.models.list().data[0].id
    assert client.models.retrieve(model).id == model

    def opened(encoded):
        return Image.open(io.BytesIO(base64.b64decode(encoded)))

    own = {"seed": 7, "impasto": {"steps": 2}}
    answer = client.images.generate(model=model, prompt="1girl, hair", n=2, size="64x64", extra_body=own)
    assert [opened(image.b64_json).size for image in answer.data] == [(64, 64)] * 2
    assert "Seed: 8" in opened(answer.data[1].b64_json).text["parameters"]
    assert answer.impasto["notes"] == [] or "model" not in str(answer.impasto["notes"])

    jpeg = client.images.generate(prompt="1girl", size="64x64", output_format="jpeg", extra_body=own)
    assert opened(jpeg.data[0].b64_json).format == "JPEG"
    linked = client.images.generate(prompt="1girl", size="64x64", response_format="url", extra_body=own)
    request = urllib.request.Request(linked.data[0].url, headers={"Authorization": f"Bearer {token}"})
    assert Image.open(io.BytesIO(urllib.request.urlopen(request).read())).size == (64, 64)

    slow = {"impasto": {"steps": 60}}
    stream = client.images.generate(
        prompt="1girl, hair", size="64x64", stream=True, partial_images=2, extra_body=slow
    )
    events = list(stream)
    assert [event.type for event in events[-1:]] == ["image_generation.completed"], events
    assert [event.partial_image_index for event in events[:-1]] == list(range(len(events) - 1)) and len(events) > 1
    assert opened(events[-1].b64_json).size == (64, 64) and events[-1].usage.total_tokens == 0

    red = Image.new("RGBA", (64, 64), (255, 0, 0, 255))
    mask = red.copy()
    mask.paste((0, 0, 0, 0), (0, 0, 32, 64))
    files = [io.BytesIO(), io.BytesIO()]
    for picture, file in zip([red, mask], files):
        picture.save(file, "PNG")
        file.seek(0)
        file.name = "a.png"
    edited = client.images.edit(
        image=files[0], mask=files[1], prompt="a boat", extra_body={"impasto": json.dumps({"steps": 4})}
    )
    picture = opened(edited.data[0].b64_json)
    assert picture.getpixel((40, 9)) == (255, 0, 0) and picture.getpixel((9, 9)) != (255, 0, 0)

    try:
        client.images.generate(prompt="a", size="wide")
        raise AssertionError("a wrong size is accepted")
    except openai.BadRequestError as error:
        assert error.param == "size" and "WIDTHxHEIGHT" in error.message, error
    try:
        list(client.images.generate(prompt="a", stream=True, extra_body={"impasto": {"forces": ["hat=red"]}}))
        raise AssertionError("a job that fails has no error")
    except openai.APIError as error:
        assert "is not in the prompt" in error.message, error
    try:
        openai.OpenAI(base_url=f"http://{host}:{port}/v1", api_key="wrong").models.list()
        raise AssertionError("a wrong token is accepted")
    except openai.AuthenticationError as error:
        assert error.code == "invalid_api_key", error


def test_webuiapi(host, port, token):
    import webuiapi
    from PIL import Image

    api = webuiapi.WebUIApi(host=host, port=int(port), sampler="Euler a", steps=2, username="user", password=token)
    assert api.util_get_model_names() == [api.util_get_current_model()]
    assert "Euler a" in api.util_get_sampler_names() and "karras" in api.util_get_scheduler_names()
    api.util_set_model(api.util_get_current_model())
    api.util_wait_for_ready(0.1)
    for name in ["hypernetworks", "face_restorers", "realesrgan_models", "prompt_styles", "loras", "sd_vae"]:
        assert getattr(api, f"get_{name}")() == [], name
    for name in ["cmd_flags", "embeddings", "memory", "scripts", "upscalers", "latent_upscale_modes", "progress"]:
        assert getattr(api, f"get_{name}")() is not None, name

    result = api.txt2img(prompt="1girl, hair", seed=7, width=64, height=64, batch_size=2, cfg_scale=5)
    assert [image.size for image in result.images] == [(64, 64)] * 2
    assert result.info["all_seeds"] == [7, 8] and result.info["sampler_name"] == "Euler a"
    assert result.parameters["cfg_scale"] == 5 and result.json["impasto"]["notes"] is not None
    assert api.png_info(result.images[1]).info == result.info["infotexts"][1]
    large = api.txt2img(
        prompt="1girl", width=64, height=64, enable_hr=True, hr_scale=1.5, hr_upscaler=webuiapi.HiResUpscaler.Lanczos
    )
    assert large.image.size == (96, 96)

    red = Image.new("RGB", (64, 64), (255, 0, 0))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    for part in [True, False]:
        changed = api.img2img(
            images=[red], mask_image=mask, prompt="a boat", width=64, height=64, inpaint_full_res=part,
            inpainting_fill=1, steps=4,
        )
        assert changed.image.getpixel((40, 9)) == (255, 0, 0) and changed.image.getpixel((9, 9)) != (255, 0, 0)
    assert "lines" in api.controlnet_model_list() and "none" in api.controlnet_module_list()
    unit = webuiapi.ControlNetUnit(image=mask, module="none", model="lines", weight=0.7)
    plain, followed = (
        api.txt2img(prompt="1girl, hair", seed=7, width=64, height=64, controlnet_units=units).image
        for units in ([], [unit])
    )
    assert plain.tobytes() != followed.tobytes()
    assert api.interrupt() == {}
    enlarged = api.extra_single_image(image=red, upscaler_1=webuiapi.Upscaler.Lanczos, upscaling_resize=1.5)
    assert enlarged.image.size == (96, 96) and enlarged.info == ""
    both = api.extra_batch_images(images=[red, mask], upscaler_1=webuiapi.Upscaler.Lanczos, upscaling_resize=2)
    assert [image.size for image in both.images] == [(128, 128)] * 2
    try:
        api.txt2img(prompt="a", sampler_name="Eulr")
        raise AssertionError("an unknown sampler is accepted")
    except RuntimeError as error:
        assert error.args[0] == 400 and "did you mean" in error.args[1], error


def test_frontends(host, port, token):
    """Sends what the servers of SillyTavern and Open WebUI send."""
    basic = {"Authorization": "Basic " + base64.b64encode(f"user:{token}".encode()).decode()}

    def ask(path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = basic | ({"Content-Type": "application/json"} if data else {})
        request = urllib.request.Request(f"http://{host}:{port}{path}", data=data, headers=headers)
        return json.load(urllib.request.urlopen(request))

    model = ask("/sdapi/v1/options")["sd_model_checkpoint"]
    names = [entry["name"] for entry in ask("/sdapi/v1/upscalers") + ask("/sdapi/v1/latent-upscale-modes")]
    assert names[0] == "None" and "forge_preset" not in ask("/sdapi/v1/options")
    assert [entry["model_name"] for entry in ask("/sdapi/v1/sd-vae") + ask("/sdapi/v1/sd-modules")] == []
    samplers = [entry["name"] for entry in ask("/sdapi/v1/samplers")]
    schedulers = [entry["name"] for entry in ask("/sdapi/v1/schedulers")]
    assert [entry["title"] for entry in ask("/sdapi/v1/sd-models")] == [model]
    ask("/sdapi/v1/options", {"sd_model_checkpoint": model})
    state = ask("/sdapi/v1/progress")
    assert state["progress"] == 0.0 and state["state"]["job_count"] == 0
    body = {
        "url": f"http://{host}:{port}", "auth": f"user:{token}", "prompt": "1girl, hair", "negative_prompt": "blurry",
        "sampler_name": samplers[0], "scheduler": schedulers[-1], "steps": 2, "cfg_scale": 7, "width": 64, "height": 64,
        "restore_faces": False, "enable_hr": False, "hr_upscaler": "Latent", "hr_scale": 1, "denoising_strength": 0.7,
        "hr_additional_modules": [], "hr_second_pass_steps": 0, "seed": 7, "clip_skip": 1, "save_images": True,
        "send_images": True, "do_not_save_grid": False, "do_not_save_samples": False,
        "override_settings": {"CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic"},
        "override_settings_restore_afterwards": True,
    }
    answer = ask("/sdapi/v1/txt2img", body)
    assert base64.b64decode(answer["images"][0]).startswith(b"\x89PNG"), answer
    assert token not in json.dumps(answer["parameters"]), answer["parameters"]
    body = {"prompt": "1girl", "batch_size": 1, "width": 64, "height": 64, "steps": 2, "negative_prompt": "blurry"}
    answer = ask("/sdapi/v1/txt2img", body | {"cfg_scale": 7.0, "sampler_name": "Euler", "scheduler": "Karras"})
    assert len(answer["images"]) == 1 and json.loads(answer["info"])["steps"] == 2
    body = {"model": "dall-e-2", "prompt": "1girl", "n": 1, "size": "64x64", "response_format": "b64_json"}
    request = urllib.request.Request(
        f"http://{host}:{port}/v1/images/generations",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    answer = json.load(urllib.request.urlopen(request))
    assert base64.b64decode(answer["data"][0]["b64_json"]).startswith(b"\x89PNG")


def test_mcp(program, variable):
    import asyncio

    import jsonschema
    import mcp

    server = mcp.StdioServerParameters(command=program, env={**os.environ, variable: "1"})
    steps = []

    async def progress(share, total, message):
        steps.append((share, total, message))

    async def paint():
        async with mcp.stdio_client(server) as (read, write), mcp.ClientSession(read, write) as session:
            await session.initialize()
            tools = {tool["name"]: tool for tool in (await session.list_tools()).model_dump(by_alias=True)["tools"]}
            assert list(tools) == ["paint", "paint_exact", "repaint", "look"], list(tools)
            for tool in tools.values():
                jsonschema.Draft202012Validator.check_schema(tool["inputSchema"])

            async def call(name, arguments, **options):
                jsonschema.validate(arguments, tools[name]["inputSchema"])
                return (await session.call_tool(name, arguments, **options)).model_dump(by_alias=True)

            small = {"prompt": "1girl, hair", "size": "64x64", "seed": 7, "steps": 8}
            exact = await call("paint_exact", small | {"forces": {"hair": "#008080"}}, progress_callback=progress)
            picture, report = exact["content"]
            assert picture["mimeType"] == "image/png", picture
            assert base64.b64decode(picture["data"]).startswith(b"\x89PNG")
            color = exact["structuredContent"]["colors"][0]
            assert color["asked"] == "#008080" and isinstance(color["converged"], bool), color
            assert f"ΔE {color['delta_e']:.1f}" in report["text"], report
            assert steps and steps[-1][1] == 1 and steps == sorted(steps), steps

            name = exact["structuredContent"]["pictures"][0]["name"]
            again = await call("repaint", {"start": name, "mask_where": "hair", "prompt": "1girl, red hair", "steps": 4})
            assert not again["isError"], again
            shown = await call("look", {"picture": name, "words": ["hair"]})
            assert [part["type"] for part in shown["content"]] == ["image", "text"], shown
            assert shown["structuredContent"]["recipe"]["seed"] == 7, shown["structuredContent"]
            plain = await call("paint", small | {"forces": ["hair=teal"], "spacing": "Karras", "start": None})
            assert not plain["isError"], plain
            missed = await call("paint", {"prompt": "a boat", "sampler": "Eulr"})
            assert missed["isError"] and "did you mean" in missed["content"][0]["text"], missed

    asyncio.run(paint())


def test_comfyui(host, port, token):
    """Loads the node as ComfyUI's loader does, with a stub of ComfyUI's modules, and runs it."""
    import importlib.util
    import pathlib
    import types

    import torch

    class Interrupted(Exception):
        pass

    shown, interrupted = [], []

    def throw():
        if interrupted:
            raise Interrupted

    class ProgressBar:
        def __init__(self, total):
            assert total == 100

        def update_absolute(self, value, total=None, preview=None):
            shown.append(value)

    comfy, utils, management = (types.ModuleType(name) for name in ["comfy", "comfy.utils", "comfy.model_management"])
    utils.ProgressBar, management.throw_exception_if_processing_interrupted = ProgressBar, throw
    sys.modules |= {"comfy": comfy, "comfy.utils": utils, "comfy.model_management": management}
    os.environ["IMPASTO_TOKEN"] = token

    file = pathlib.Path(__file__).parents[3] / "integrations/comfyui/impasto_nodes.py"
    spec = importlib.util.spec_from_file_location("impasto_nodes", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert set(module.NODE_CLASS_MAPPINGS) == set(module.NODE_DISPLAY_NAME_MAPPINGS)
    node = module.NODE_CLASS_MAPPINGS["ImpastoPaint"]
    inputs = node.INPUT_TYPES()
    fixed = {name: kind[1].get("default") for name, kind in inputs["required"].items()}
    fixed["address"] = f"http://{host}:{port}/"

    def run(**given):
        image, report, delta_e = getattr(node(), node.FUNCTION)(**{**fixed, **given})
        assert image.dtype == torch.float32 and image.dim() == 4 and image.shape[-1] == 3, image.shape
        assert 0 <= float(image.min()) and float(image.max()) <= 1
        return image, report, delta_e

    small = {"prompt": "1girl, hair, eyes", "seed": 7, "steps": 8, "width": 64, "height": 64}
    image, report, delta_e = run(**small, exact_colors="hair = #008080; eyes=gold", images=2)
    assert image.shape == (2, 64, 64, 3) and shown[-1] == 100, shown
    assert "hair: asked #008080" in report and "eyes: asked #ffd700" in report and delta_e > 0, report
    mask = torch.zeros(1, 64, 64)
    mask[:, :, :32] = 1
    repainted, _, _ = run(prompt="a boat", seed=1, steps=4, start=image, mask=mask, strength=0.8)
    assert torch.equal(repainted[0, :, 32:], image[0, :, 32:]) and not torch.equal(repainted[0], image[0])

    def fails(words, **given):
        try:
            run(**given)
        except module.StudioError as error:
            assert words in str(error), error
        else:
            raise AssertionError(words)

    fails("is no exact color", exact_colors="hair")
    fails("mask is given without start", mask=mask)
    fails("expected both", width=64)
    fails("more is no JSON object", more="[")
    fails("did you mean", more='{"sed": 7}')
    fails("no studio at", address="http://127.0.0.1:1")
    interrupted.append(True)
    try:
        run(prompt="a long one", steps=150)
    except Interrupted:
        pass
    else:
        raise AssertionError("the run goes on")
    last = json.loads(module.Studio(fixed["address"]).ask("/api/jobs"))[-1]
    assert last["prompt"] == "a long one" and last["state"] != "finished", last


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    globals()[f"test_{name}"](*arguments)
