"""A network of diffusers, compiled by torch.compile or, for the CPU, by OpenVINO."""
import torch

PEERS = ("torch.compile", "OpenVINO")


class First(torch.nn.Module):
    """A function of tensors: the first result of a method of a network of diffusers."""

    def __init__(self, network, method="forward"):
        super().__init__()
        self.network, self.method = network, method

    def forward(self, *inputs):
        return getattr(self.network, self.method)(*inputs, return_dict=False)[0]


def compiled(peer, network, inputs, kind, threads):
    """A function of tensors, as fast as `peer` makes it: weights frozen, shapes fixed.

    `network` is a module in f32, such as `First`; `inputs` is an example of its arguments, on the same device. `kind` is
    the precision to compute in. torch.compile changes `network` to `kind`. OpenVINO keeps its inputs and outputs in f32
    and `network` as it is.
    """
    return (torch_compile if peer == "torch.compile" else openvino)(network, inputs, kind, threads)


def torch_compile(network, inputs, kind, threads):
    import torch._inductor.config as inductor

    inductor.freezing = True  # folds the weights into the program, in the layout that its kernels read
    call = torch.compile(network.to(kind), dynamic=False)

    def run(*inputs):
        with torch.no_grad():
            return call(*(x.to(kind) if x.dim() else x for x in inputs))  # a timestep stays as it is

    run(*inputs)
    return run


def openvino(network, inputs, kind, threads):
    import openvino as ov

    with torch.no_grad():
        model = ov.convert_model(network, example_input=inputs, input=[tuple(x.shape) for x in inputs])
    settings = {
        "INFERENCE_PRECISION_HINT": {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}[kind],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()

    def run(*inputs):
        return torch.from_numpy(request.infer([x.float().numpy() for x in inputs])[0])

    run(*inputs)
    return run
