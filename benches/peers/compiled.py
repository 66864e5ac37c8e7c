"""A UNet of diffusers, compiled by torch.compile or, for the CPU, by OpenVINO."""
import torch

PEERS = ("torch.compile", "OpenVINO")


def compiled(peer, unet, inputs, kind, threads):
    """A function of latents, timestep and context, as fast as `peer` makes it: weights frozen, shapes fixed.

    `unet` is f32, `inputs` is an example of the three arguments, on the same device. `kind` is the precision to compute in.
    torch.compile changes `unet` to `kind`. OpenVINO keeps its inputs and outputs in f32 and `unet` as it is.
    """
    return (torch_compile if peer == "torch.compile" else openvino)(unet, inputs, kind, threads)


def torch_compile(unet, inputs, kind, threads):
    import torch._inductor.config as inductor

    inductor.freezing = True  # folds the weights into the program, in the layout that its kernels read
    unet = unet.to(kind)
    call = torch.compile(unet, dynamic=False)

    def run(x, t, context):
        with torch.no_grad():
            return call(x.to(kind), t, context.to(kind), return_dict=False)[0]

    run(*inputs)
    return run


def openvino(unet, inputs, kind, threads):
    import openvino as ov

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unet = unet

        def forward(self, x, t, context):
            return self.unet(x, t, context, return_dict=False)[0]

    with torch.no_grad():
        model = ov.convert_model(Plain(), example_input=inputs, input=[tuple(x.shape) for x in inputs])
    settings = {
        "INFERENCE_PRECISION_HINT": {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}[kind],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()

    def run(x, t, context):
        return torch.from_numpy(request.infer([x.float().numpy(), t.float().numpy(), context.float().numpy()])[0])

    run(*inputs)
    return run
