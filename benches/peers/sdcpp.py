#!/usr/bin/env python3
"""Steps of a UNet in stable-diffusion.cpp, for step.py: for each line of input, the seconds of one call with both branches.

    python benches/peers/sdcpp.py FOLDER SIDE THREADS

FOLDER is a model with the layout of diffusers, and SIDE the side of the latents. The model computes in f32. A line makes
a picture of two steps, and the second one is timed, between the calls of the library's progress callback. Time is
processor time with one thread, and wall time with several.

    .peers/bin/pip install stable-diffusion-cpp-python

compiles the library for the processor, which takes a quarter of an hour. STABLE_DIFFUSION_CPP_LIB names a library that
was compiled in another way, for example with -DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON.
"""
import sys
import time

from stable_diffusion_cpp import StableDiffusion


def main():
    folder, side, threads = sys.argv[1], 8 * int(sys.argv[2]), int(sys.argv[3])
    clock = time.process_time if threads == 1 else time.perf_counter
    model = StableDiffusion(model_path=folder, wtype="f32", n_threads=threads, verbose=False)
    ended = {}

    def progress(step, steps, _):
        ended.setdefault(step, clock())

    for _ in sys.stdin:
        ended.clear()
        model.generate_image("a house", width=side, height=side, sample_steps=2, cfg_scale=7.0, progress_callback=progress)
        print(ended[2] - ended[1], flush=True)


if __name__ == "__main__":
    main()
