#!/usr/bin/env python3
"""Steps of SA-Solver, RES multistep, ER-SDE and Restart, and their orders of convergence, as solvers.json.

    pip install torch==2.11.0 diffusers==0.42.1
    python tests/golden/specs/gen_solvers.py > tests/golden/specs/solvers.json

SA-Solver is run by diffusers' SASolverScheduler, in f64. The other solvers are written out here from the formulas of
their papers. Latents are x = x0 + sigma*noise, and the draw after step i is wave(i + 1). The forced runs pull the mean
of every step, as gen_sampling.py does; a solver that starts again from an earlier latent keeps these pulls.
"""
import json
import math

import torch
from diffusers import SASolverScheduler
from diffusers.schedulers import scheduling_sasolver

torch.set_num_threads(1)
F64 = torch.float64


def cells(*values):
    return torch.tensor(values, dtype=F64)


def wave(i):
    return math.sqrt(2) * torch.sin(1.7 * (4 * i + torch.arange(4, dtype=F64)) + 0.3)


MU = cells(0.5, -0.25, 0.0, 1.0)
PICTURES = {
    "linear": lambda x, s, t: MU + 0.6 / (0.6 + s * s) * (x - MU),
    "wave": lambda x, s, t: x - s * torch.sin(0.7 * x / math.hypot(s, 1.0) + t / 1000),
    "tanh": lambda x, s, t: torch.tanh(x / (1 + s)),
}


class Res:
    """The mean is the integral of e^(u - h) x0(u) over u in 0..h with the line through the last two x0, where h is the
    length of the step in -ln(sigma) down to the noise level that is left before fresh noise."""

    def __init__(self, eta=0.0):
        self.eta, self.past = eta, None

    def down(self, s, t):
        up = min(t, self.eta * math.sqrt(t * t * (s * s - t * t)) / s)
        return math.sqrt(max(t * t - up * up, 0.0)), up

    def step(self, x, s, t, timestep, x0):
        down, up = self.down(s, t)
        if down == 0:
            mean = x0
        else:
            h = math.log(s / down)
            mean = math.exp(-h) * x + (1 - math.exp(-h)) * x0
            if self.past:
                earlier, length = self.past
                mean = mean + (h - 1 + math.exp(-h)) / length * (x0 - earlier)
        self.past = (x0, math.log(s / down)) if down > 0 else None
        return mean, up


def simpson(f, a, b, n=2000):
    h = (b - a) / n
    return h / 3 * sum((1 if i in (0, n) else 4 if i % 2 else 2) * f(a + i * h) for i in range(n + 1))


SCALES = {
    "exponential": lambda s: s * (math.exp(s**0.3) + 10),
    "logarithmic": lambda s: s**0.9 * math.log10(1 + 100 * s**1.5),
    "linear": lambda s: s,
    "square": lambda s: s * s,
}


class ErSde:
    """Equations 22 to 24 of the paper in sigma space. With `points`, the integrals are sums as in ComfyUI."""

    def __init__(self, scale="exponential", order=3, points=None):
        self.phi, self.order, self.points, self.past = SCALES[scale], order, points, []

    def integral(self, f, t, s):
        if self.points:
            width = (s - t) / self.points
            return width * sum(f(t + i * width) for i in range(self.points))
        return simpson(lambda u: f(math.exp(u)) * math.exp(u), math.log(t), math.log(s))

    def step(self, x, s, t, timestep, x0):
        if t == 0:
            return x0, 0.0
        phi, r = self.phi, self.phi(t) / self.phi(s)
        mean, order = r * x + (1 - r) * x0, min(self.order, len(self.past) + 1)
        slope = None
        if self.past:
            s1, x1, slope1 = self.past[0]
            slope = (x0 - x1) / (s - s1)
        if order > 1:
            mean = mean + (t - s + phi(t) * self.integral(lambda u: 1 / phi(u), t, s)) * slope
        if order > 2:
            bend = (slope - slope1) / ((s - self.past[1][0]) / 2)
            mean = mean + ((t - s) ** 2 / 2 + phi(t) * self.integral(lambda u: (u - s) / phi(u), t, s)) * bend
        self.past = ([(s, x0, slope)] + self.past)[:2]
        return mean, math.sqrt(max(t * t - (s * r) ** 2, 0.0))


class Sa(SASolverScheduler):
    """diffusers' scheduler over given levels. The draw is split off, so that a step has a mean and a deviation."""

    def __init__(self, levels, timesteps, predictor=2, corrector=2, tau=lambda t: 1 if 200 <= t <= 800 else 0, lower=True):
        super().__init__(predictor_order=predictor, corrector_order=corrector, tau_func=tau, lower_order_final=lower,
                         prediction_type="sample")
        self.set_timesteps(len(levels) - 1)
        self.sigmas, self.timesteps = torch.tensor(levels, dtype=F64), torch.tensor(timesteps)
        self.set_begin_index(0)
        self.edit = None

    def stochastic_adams_moulton_update(self, *args, **kwargs):
        corrected = super().stochastic_adams_moulton_update(*args, **kwargs)
        return corrected if self.edit is None else corrected + self.edit

    def stochastic_adams_bashforth_update(self, *args, noise, tau, **kwargs):
        end = super().stochastic_adams_bashforth_update(*args, noise=noise, tau=torch.tensor(float(tau), dtype=F64), **kwargs)
        s, t = self.sigmas[self.step_index], self.sigmas[self.step_index + 1]
        self.std = (t * torch.sqrt(1 - (t / s) ** (2 * tau**2))).item()
        return end

    def one(self, x, s, t, timestep, x0, noise):
        scheduling_sasolver.randn_tensor = lambda *a, **k: noise
        end = self.step(x0, timestep, x / math.hypot(1, s)).prev_sample * math.hypot(1, t)
        return end - self.std * noise, self.std


class Restart:
    """Heun's method; after the step that ends at or below `low`, noise raises the latent to `high`, and steps over Karras
    levels go down again. The k-th draw is wave(k)."""

    def __init__(self, low, high, steps, times):
        self.low, self.high, self.steps, self.times, self.draws, self.begun = low, high, steps, times, 0, None

    def heun(self, x, s, t, f, x0=None):
        slope = (x - (f(x, s) if x0 is None else x0)) / s
        if t == 0:
            return x - s * slope
        y = x + (t - s) * slope
        return x + (t - s) / 2 * (slope + (y - f(y, t)) / t)

    def between(self, x, s, t, x0, f):
        self.begun = self.begun or s
        x, top = self.heun(x, s, t, f, x0), min(self.high, self.begun)
        if s > self.low >= t > 0:
            ends = [v ** (1 / 7) for v in (top, t)]
            levels = [(ends[0] + i / self.steps * (ends[1] - ends[0])) ** 7 for i in range(self.steps + 1)]
            for _ in range(self.times):
                self.draws += 1
                x = x + math.sqrt(top * top - t * t) * wave(self.draws)
                for a, b in zip(levels, levels[1:]):
                    x = self.heun(x, a, b, f)
        return x, 0.0


def run(solver, levels, timesteps, picture, x, noise, forced=False):
    rows = []
    for i, (s, t) in enumerate(zip(levels, levels[1:])):
        x0 = picture(x, s, timesteps[i])
        if isinstance(solver, Sa):
            mean, std = solver.one(x, s, t, timesteps[i], x0, noise(i + 1))
        elif isinstance(solver, Restart):
            mean, std = solver.between(x, s, t, x0, lambda x, s: picture(x, s, timestep_of(s)))
        else:
            mean, std = solver.step(x, s, t, timesteps[i], x0)
        moved = mean
        if forced:
            weight = cells(1.0, 1.0, 0.0, 0.5) * (s * s / 25)
            moved = (mean + weight * cells(0.5, -0.5, 1.0, 0.0)) / (1 + weight)
            if isinstance(solver, Sa):
                solver.edit = (moved - mean) / math.hypot(1, t)
        x = moved + std * noise(i + 1)
        rows.append((mean, std, x))
    return rows


def timestep_of(sigma):
    """Timestep of a level of Stable Diffusion, linear in ln(sigma) between the training levels."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    bars = torch.cumprod(1 - betas, 0)
    logs = torch.log(((1 - bars) / bars) ** 0.5).double()
    u = math.log(sigma)
    low = int(min(max(torch.searchsorted(logs, u).item(), 1), 999)) - 1
    share = (u - logs[low].item()) / (logs[low + 1] - logs[low]).item()
    return low + min(max(share, 0.0), 1.0)


def main():
    tables = json.load(open(__file__.replace("gen_solvers.py", "sampling.json")))
    levels, timesteps = tables["karras6"]["sigma"], tables["karras6"]["t"]
    to_zero, to_low = levels, levels[:-1] + [0.02]
    cases = {
        "sa": (to_low, lambda: Sa(to_low, timesteps)),
        "sa_3_4": (to_low, lambda: Sa(to_low, timesteps, 3, 4)),
        "sa_4_1_tau0.5": (to_low, lambda: Sa(to_low, timesteps, 4, 1, lambda t: 0.5)),
        "sa_ode": (to_low, lambda: Sa(to_low, timesteps, 2, 2, lambda t: 0)),
        "sa_full_orders": (to_low, lambda: Sa(to_low, timesteps, 3, 3, lambda t: 1, lower=False)),
        "res": (to_zero, Res),
        "res_a": (to_zero, lambda: Res(1.0)),
        "res_a_eta0.5": (to_zero, lambda: Res(0.5)),
        "er_sde": (to_zero, ErSde),
        "er_sde_comfy": (to_zero, lambda: ErSde(points=200)),
        "er_sde_2": (to_zero, lambda: ErSde(order=2)),
        "er_sde_1_square": (to_zero, lambda: ErSde("square", 1)),
        "er_sde_logarithmic": (to_zero, lambda: ErSde("logarithmic")),
        "er_sde_linear": (to_zero, lambda: ErSde("linear")),
        "restart": (to_zero, lambda: Restart(0.5, 3.0, 3, 2)),
        "restart_below": (to_zero, lambda: Restart(0.5, 40.0, 4, 1)),
    }
    found = {"levels": levels, "low": to_low[-1], "cases": {}}
    for name, (levels, make) in cases.items():
        found["cases"][name] = {}
        for picture, f in PICTURES.items():
            free = run(make(), levels, timesteps, f, levels[0] * wave(0), wave)
            forced = run(make(), levels, timesteps, f, levels[0] * wave(0), wave, True)
            found["cases"][name][picture] = {
                "mean": [mean.tolist() for mean, _, _ in free],
                "std": [std for _, std, _ in free],
                "x": [x.tolist() for _, _, x in free],
                "forced_x": [x.tolist() for _, _, x in forced],
            }
    found["convergence"] = convergence()
    print(json.dumps(found, default=float, separators=(",", ":")))


def exact(drift, high, low, x, n=40000):
    """Runge and Kutta's fourth order of dx/du = drift(x, e^-u) in u = -ln(sigma)."""
    a, h = -math.log(high), (math.log(high) - math.log(low)) / n
    f = lambda x, u: drift(x, math.exp(-u))
    for i in range(n):
        u = a + i * h
        k1 = f(x, u)
        k2 = f(x + h / 2 * k1, u + h / 2)
        k3 = f(x + h / 2 * k2, u + h / 2)
        x += h / 6 * (k1 + 2 * k2 + 2 * k3 + f(x + h * k3, u + h))
    return x


def convergence():
    """Errors of the mean without draws from sigma = 10 to 0.05, from a latent of 8, with the picture tanh."""
    high, low, start = 10.0, 0.05, 8.0
    clean = lambda x, s: math.tanh(x / (1 + s))
    sde = lambda rate: lambda x, s: rate * (clean(x, s) - x)

    def er(scale):
        phi, e = SCALES[scale], 1e-5
        grow = lambda s: (math.log(phi(s * math.exp(e))) - math.log(phi(s * math.exp(-e)))) / (2 * e)
        return lambda x, s: grow(s) * (clean(x, s) - x)

    cases = {
        "sa_2_0": (lambda s, t: Sa(s, t, 2, 1, lambda _: 0, False), sde(1), 2, 0),
        "sa_2_2": (lambda s, t: Sa(s, t, 2, 2, lambda _: 0, False), sde(1), 2, None),
        "sa_2_3": (lambda s, t: Sa(s, t, 2, 3, lambda _: 0, False), sde(1), 3, None),
        "sa_3_3 tau 1": (lambda s, t: Sa(s, t, 3, 3, lambda _: 1, False), sde(2), 3, None),
        "res": (lambda s, t: Res(), sde(1), 2, None),
        "res_a": (lambda s, t: Res(1.0), sde(2), 2, None),
        "er_sde": (lambda s, t: ErSde(), er("exponential"), 2, None),
        "er_sde_2": (lambda s, t: ErSde(order=2), er("exponential"), 2, None),
        "er_sde_1": (lambda s, t: ErSde(order=1), er("exponential"), 1, None),
        "er_sde_square": (lambda s, t: ErSde("square"), sde(2), 2, None),
        "er_sde_linear": (lambda s, t: ErSde("linear"), sde(1), 2, None),
    }
    out = {}
    for name, (make, drift, expected, corrector) in cases.items():
        end, errors = exact(drift, high, low, start), {}
        for n in (20, 160, 320):
            levels = [math.exp(math.log(high) + i / n * math.log(low / high)) for i in range(n + 1)]
            solver = make(levels, [500.0] * n)
            if corrector == 0:
                # Without a corrector, the latent of the last step is kept.
                Plain = type("Plain", (Sa,), {"stochastic_adams_moulton_update": lambda self, *a, this_sample, **k: this_sample})
                solver.__class__ = Plain
            if isinstance(solver, ErSde):
                # The steps are short, so few points are exact.
                solver.integral = lambda f, t, s: simpson(lambda u: f(math.exp(u)) * math.exp(u), math.log(t), math.log(s), 20)
            rows = run(solver, levels, [500.0] * n, lambda x, s, t: torch.tanh(x / (1 + s)), torch.tensor(start, dtype=F64),
                       lambda i: torch.tensor(0.0, dtype=F64))
            errors[str(n)] = abs(rows[-1][2].item() - end)
        order = math.log2(errors["160"] / errors["320"])
        out[name] = {"exact": end, "error": errors, "order": order, "expected": expected}
    return out


if __name__ == "__main__":
    main()
