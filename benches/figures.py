#!/usr/bin/env python3
"""The figures of docs/performance.md: measures them, keeps them, and writes them into the page's tables.

    make figures                                 all benches, then the tables; about 100 minutes on two cores
    python3 benches/figures.py measure [PART ...] [--rounds N] [--peers PYTHON]
    python3 benches/figures.py write             the tables and the plot of growth, from the newest file of results
    python3 benches/figures.py check             fails if a table differs from the newest file of results

A run of `measure` writes one file, `benches/results/DATE-TIME-COMMIT.csv`: every figure with the bench, group, row,
unit, 95 % interval, rounds and threads, below a comment with the commit, machine and versions. PART is a name of
`PARTS`; without one, all are measured. With PARTs, the figures of the other parts are kept from the newest file, and a
comment for each run names the parts that it measured. `--peers` names a Python that has PyTorch and diffusers
(`benches/peers/step.py` says how to make one).
"""
import argparse
import csv
import datetime
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benches/results"
PAGE = ROOT / "docs/performance.md"
PLOT = ["cargo", "run", "--quiet", "--release", "-p", "impasto-yardstick", "--example", "growth", "--"]
PLOTTED = ROOT / "docs/images/scale.svg"
COLUMNS = ["bench", "group", "row", "measure", "value", "low", "high", "rounds", "threads"]
# The command of each part. ROUNDS is replaced by the number of rounds, PEERS by the Python with diffusers.
BENCH = ["cargo", "bench", "--quiet", "--bench"]
PARTS = {
    "tiny": [*BENCH, "overhead", "--", "tiny", "--rounds", "ROUNDS"],
    "sd15": [*BENCH, "overhead", "--", "sd15", "--rounds", "ROUNDS"],
    "colorizer": [*BENCH, "overhead", "--", "colorizer", "--rounds", "ROUNDS"],
    "precision": [*BENCH, "overhead", "--", "precision", "--rounds", "ROUNDS"],
    "flow": [*BENCH, "overhead", "--", "flow", "--rounds", "ROUNDS"],
    "joint": [*BENCH, "overhead", "--", "joint", "--rounds", "ROUNDS"],
    "lora": [*BENCH, "lora", "--", "--rounds", "ROUNDS"],
    "scale": [*BENCH, "scale", "--", "--rounds", "ROUNDS"],
    "start": [*BENCH, "load", "--", "tiny", "start", "--rounds", "ROUNDS"],
    "load": [*BENCH, "load", "--", "large", "--rounds", "ROUNDS"],
    "first": [*BENCH, "load", "--", "first", "--rounds", "ROUNDS"],
    "memory": [*BENCH, "memory"],
    "step f32": ["PEERS", "benches/peers/step.py", "--threads", "1", "--rounds", "ROUNDS"],
    "step bf16": ["PEERS", "benches/peers/step.py", "--kind", "bf16", "--threads", "1", "--rounds", "ROUNDS"],
    "compiled f32": ["PEERS", "benches/peers/step.py", "--compiled", "--threads", "2", "--rounds", "ROUNDS"],
    "compiled bf16": ["PEERS", "benches/peers/step.py", "--compiled", "--kind", "bf16", "--threads", "2", "--rounds", "ROUNDS"],
    **{f"transformer {network} {kind}": [
        "PEERS", "benches/peers/transformer.py", "--network", network, "--kind", kind, "--rounds", "ROUNDS"]
       for network in ("anima", "sd35") for kind in ("f32", "bf16")},
    "others": ["PEERS", "benches/peers/step.py", "--candle", "--sdcpp", "--threads", "2", "--rounds", "3"],
    "decode": ["PEERS", "benches/peers/decode.py", "--rounds", "ROUNDS"],
    "taesd": ["PEERS", "benches/peers/decode.py", "--taesd", "--rounds", "ROUNDS"],
    "picture": ["PEERS", "benches/peers/picture.py", "--compiled", "--threads", "1", "--rounds", "30"],
    "picture on two threads": ["PEERS", "benches/peers/picture.py", "--compiled", "--threads", "2", "--rounds", "30"],
    "full sd15": ["PEERS", "benches/peers/full_size.py", "--rounds", "3"],
    **{f"full {model} {kind}": ["PEERS", "benches/peers/full_size.py", "--model", model, "--kind", kind, "--rounds", "1"]
       for model in ("sd35", "anima") for kind in ("f32", "bf16")},
    "full sdxl": ["PEERS", "benches/peers/full_size.py", "--model", "sdxl", "--side", "1024", "--kind", "bf16", "--rounds", "2"],
}
# On a processor with AVX-512, these parts are measured a second time with all libraries held to AVX2. Their rows have
# this mark after the group.
AVX2 = " in AVX2"
HELD = ["env", "IMPASTO_KERNELS=avx2", "ONEDNN_MAX_CPU_ISA=AVX2", "ATEN_CPU_CAPABILITY=avx2"]
PARTS |= {part + AVX2: [*HELD, *PARTS[part]] for part in (
    "tiny", "sd15", "compiled f32", "others", "decode", "taesd", "picture", "picture on two threads", "full sd15", "first")}
# The labels of the page for the rows of the benches.
GUIDANCE = {
    "none": "none",
    "again": "none, a second time (the noise of the measurement)",
    "daam": "`Daam` of one phrase",
    "force": "`ColorForce`",
    "daam + force": "`Daam` and `ColorForce`",
    "3 forces": "three `ColorForce`",
    "refine": "`ColorForce` with `Refine::Contrast`",
    "paint": "`PaintWithWords`, largest score",
    "paint (std)": "`PaintWithWords`, deviation of the scores",
    "paint (flat)": "`PaintWithWords`, flat",
    "paint (idle)": "`PaintWithWords`, outside its window",
    "all": "two forces, painting, `Daam` of all words",
    "differential": "`Differential` (a third branch)",
    "perturbed attention": "`PerturbedAttention` (a third branch)",
    "smoothed energy": "`SmoothedEnergy` (a third branch)",
    "free u": "`FreeU`",
    "palette": "`Palette` of two colors",
    "reference color": "`ReferenceColor` (a branch for the reference)",
    "word maps": "`Daam` of all words",
    "spread": "`Spread` of an area",
    "image guidance": "`ImageGuidance` by text",
    "prompt blend": "`PromptBlend` of two prompts",
    "region prompts": "`RegionPrompts` of one region (a branch)",
}
COLORIZER = {
    "freely": "without a reference",
    "freely again": "without a reference, a second time",
    "reference": "with a reference",
    "reference + force": "with a reference and a `ColorForce`",
    "figure and background": "with figure and background apart",
    "injection": "with attention injection",
}
LORAS = {
    "merged": "merged",
    "beside": "beside the weights",
    "in a place": "beside the weights, in half of the picture",
    "convolutions": "beside the weights, also of convolutions",
    "whole": "beside the weights, as whole matrices",
}
FULL_SIZE = (
    ("sd15 512 f32", "SD 1.5, 512×512, f32"), ("sdxl 1024 bf16", "SDXL, 1024×1024, bf16"),
    ("sd35 512 f32", "SD 3.5 medium, 512×512, f32"), ("sd35 512 bf16", "SD 3.5 medium, 512×512, bf16"),
    ("anima 512 f32", "Anima, 512×512, f32"), ("anima 512 bf16", "Anima, 512×512, bf16"),
)
AXES = {
    "size": "size, 128 to 192, 256, 384, 512 pixels",
    "batch": "images, 1 to 2, 4, 6, 8",
    "forces": "color forces, 0 to 1, 2, 4, 8, 16",
    "hooks": "hooks that read, 0 to 1, 2, 4, 8",
    "chunks": "prompt, 1 to 2, 3, 4 chunks of 75 tokens",
}


def machine():
    """The processor and the number of its cores."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    name = re.search(r"model name\s*:\s*(.*)", text)
    flags = re.search(r"flags\s*:\s*(.*)", text)
    have = set(flags.group(1).split()) if flags else set()
    has = [label for flag, label in (("avx512f", "AVX-512"), ("amx_bf16", "AMX")) if flag in have]
    return f"{os.cpu_count()} cores of {name.group(1).strip() if name else 'a processor'}" + "".join(f", {one}" for one in has)


def versions(peers):
    """The versions of libtorch and of the libraries in the Python `peers`."""
    names = ("diffusers", "transformers", "openvino") if peers else ()
    ask = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    run = [peers or sys.executable, "-c", ask, *names]
    found = subprocess.run(run, check=True, capture_output=True, text=True).stdout.split()
    return "".join(f"; {name} {number}" for name, number in zip(("libtorch", *names), ("2.11.0", *found)))


def measure(args):
    """Runs the benches and keeps their figures as a new file of results."""
    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        sys.exit(f"PART is {unknown[0]!r}; expected one of {', '.join(PARTS)}")
    parts = args.parts or list(PARTS)
    if args.peers is None and any("PEERS" in PARTS[part] for part in parts):
        sys.exit("--peers is missing; expected a Python that has diffusers; give it, or name only the parts without diffusers")
    git = lambda *words: subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    commit = git("rev-parse", "--short=8", "HEAD")
    time = datetime.datetime.now().strftime("%Y-%m-%dT%H%M")
    run = f"{time[:10]}; commit {commit}; {machine()}{versions(args.peers)}"  # before hours of measuring, as it can fail
    kept = Figures() if args.parts else None
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "figures.csv"
        for part in parts:
            names = {"ROUNDS": str(args.rounds), "PEERS": args.peers}
            command = [names.get(word, word) for word in PARTS[part]]
            print("+", " ".join(command), flush=True)
            subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "IMPASTO_FIGURES": str(file)})
            for row in csv.DictReader(file.read_text().splitlines(), COLUMNS):
                measured.append(row | {"group": row["group"] + (AVX2 if part.endswith(AVX2) else "")})
            file.unlink()
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{time}-{commit}.csv"
    runs = {run: parts}
    rows = measured
    if kept:
        part = lambda row: (row["bench"], row["group"], row["threads"])
        again = {part(row) for row in measured}
        rows = [row for row in kept.rows if part(row) not in again] + measured
        left = {other: [part for part in old if part in PARTS and part not in parts] for other, old in kept.runs.items()}
        runs.update({other: runs.get(other, []) + old for other, old in left.items() if old})
    unfinished = target.with_suffix(".part")
    with open(unfinished, "w", newline="") as out:
        out.writelines(f"# {', '.join(parts)}: {run}\n" for run, parts in runs.items())
        table = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    unfinished.replace(target)
    print(target.relative_to(ROOT))


def newest():
    """The path of the newest file of results."""
    files = sorted(RESULTS.glob("????-??-??*.csv"))
    if not files:
        sys.exit(f"no results are in {RESULTS}; make them with `make figures`")
    return files[-1]


class Figures:
    """The newest file of results."""

    def __init__(self):
        self.file = newest()
        lines = self.file.read_text().splitlines()
        self.runs = {}  # the parts of each run
        for parts, run in (line.removeprefix("# ").split(": ", 1) for line in lines if line.startswith("#")):
            self.runs[run] = parts.split(", ")
        self.rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))

    def find(self, bench, group, row, measure, threads=None):
        for found in self.rows:
            same = [found["bench"], found["group"], found["row"], found["measure"]] == [bench, group, row, measure]
            if same and threads in (None, int(found["threads"])):
                return found
        return None

    def number(self, *key, form=".3f", interval=True, **options):
        """A figure as text, with its interval; a dash if it was not measured."""
        found = self.find(*key, **options)
        if found is None:
            return "–"
        text = format(float(found["value"]), form)
        text = text.lstrip("-") if float(text) == 0 else text
        if interval and found["low"]:
            text += f" [{float(found['low']):{form}}, {float(found['high']):{form}}]"
        return text


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def tables(f):
    """Every table of the page by its name."""
    step = lambda group: f.number("overhead", group, "none", "ms", form=".0f", interval=False)

    def costs(*networks):
        """Ratios to the bare step, for networks with their labels and groups."""
        networks = [(label, group) for label, group in networks if f.find("overhead", group, "none", "ms")]
        rows = [[label, *(f.number("overhead", group, row, "ratio") for _, group in networks)] for row, label in GUIDANCE.items()
                if any(f.find("overhead", group, row, "ratio") for _, group in networks)]
        return table(["guidance method", *(f"{label} ({step(group)} ms a step)" for label, group in networks)], rows)

    def cost(of_set):
        return costs(("embedded model", "tiny" + of_set), ("SD-1.5-sized", "sd15" + of_set))

    color = [[label, f.number("overhead", "colorizer", row, "ratio")] for row, label in COLORIZER.items()]
    loras = [[label, *(f.number("lora", group, row, "ratio") for group in ("tiny", "sd15"))] for row, label in LORAS.items()]
    kinds = [[kind, f.number("overhead", "precision", kind, "ms", form=".0f", interval=False), f.number("overhead", "precision", kind, "ratio")]
             for kind in ("f32", "bf16")]
    peers = []
    for kind in ("f32", "bf16"):
        for row, label in (("none", "bare"), ("daam", "reading attention"), ("paint", "painting")):
            of = lambda row, measure, **options: f.number("step", kind, row, measure, threads=1, **options)
            ms = [of(f"{who} {row}", "ms", form=".0f", interval=False) for who in ("impasto", "diffusers")]
            peers.append([kind, label, *ms, of(f"impasto {row}", "ratio to diffusers")])

    transformers = []
    for network, label in (("anima", "Anima"), ("sd35", "SD 3.5 medium")):
        for kind in ("f32", "bf16"):
            of = lambda row, measure, **options: f.number("transformer", f"{network} {kind}", row, measure, threads=1, **options)
            ms = [of(who, "ms", form=".0f", interval=False) for who in ("impasto", "diffusers", "OpenVINO")]
            transformers.append([label, kind, *ms, *(of("impasto", f"ratio to {who}") for who in ("diffusers", "OpenVINO"))])

    def compiled(of_set):
        rows = []
        for kind in ("f32", "bf16"):
            if f.find("step", kind + of_set, "OpenVINO none", "ms", threads=2) is None:
                continue  # the compiled libraries need minutes for each precision, so a run may leave one out
            of = lambda row, measure, **options: f.number("step", kind + of_set, row, measure, threads=2, **options)
            rows.append([kind, "impasto", of("impasto none", "ms", form=".0f"), "1"])
            for who in ("OpenVINO", "torch.compile", "diffusers"):
                rows.append([kind, who, of(f"{who} none", "ms", form=".0f"), of("impasto none", f"ratio to {who}")])
            others = lambda row, measure, **options: f.number("step", f"{kind} beside others" + of_set, row, measure, threads=2, **options)
            for who in ("stable-diffusion.cpp", "candle") if kind == "f32" else ():
                rows.append([kind, who, others(f"{who} none", "ms", form=".0f"), others("impasto none", f"ratio to {who}")])
            for row, label in (("daam", "reading attention"), ("paint", "painting")):
                rows.append([kind, f"impasto, {label}", of(f"impasto {row}", "ms", form=".0f"), "1"])
                rows.append([kind, f"diffusers, {label}", of(f"diffusers {row}", "ms", form=".0f"), of(f"impasto {row}", "ratio to diffusers")])
        return table(["precision", "library", "ms", "impasto's time as a share"], rows)

    def pictures(of_set):
        rows = []
        for threads in (1, 2):
            if f.find("picture", "embedded" + of_set, "impasto", "s", threads=threads) is None:
                continue
            of = lambda row, measure, **options: f.number("picture", "embedded" + of_set, row, measure, threads=threads, **options)
            rows.append([str(threads), "impasto", of("impasto", "s", form=".3f"), "1", ""])
            for who in ("OpenVINO", "torch.compile", "diffusers"):
                ratio, apart = of("impasto", f"ratio to {who}"), of(who, "largest difference", form=".0f")
                rows.append([str(threads), who, of(who, "s", form=".3f"), ratio, apart])
        return table(["threads", "library", "s", "impasto's time as a share", "largest difference of the pictures"], rows)

    def decode(of_set):
        rows = []
        for group, label in (("vae 512", "VAE"), ("taesd 512", "TAESD")):
            for who in ("impasto", "OpenVINO", "torch.compile", "diffusers"):
                if f.find("decode", group + of_set, who, "s"):
                    of = lambda measure, form: f.number("decode", group + of_set, who, measure, form=form)
                    rows.append([label, who, of("s", ".2f"), "1" if who == "impasto" else of("ratio", ".3f")])
        return table(["decoder", "library", "s", "impasto's time as a share"], rows)

    def full(of_set):
        rows = []
        for group, label in FULL_SIZE:
            if f.find("full_size", group + of_set, "impasto", "load s") is None:
                continue
            for row, name in (("diffusers", "diffusers"), ("impasto", "impasto"), ("offload", "impasto, offloaded")):
                of = lambda measure, form: f.number("full_size", group + of_set, row, measure, form=form)
                seconds = [f"{of(measure, '.1f')} s ({of(measure + ' ratio', '.2f')})" for measure in ("load s", "step s", "decode s")]
                rows.append([label, name, *seconds, *(of(measure, ".1f") + " GB" for measure in ("peak GB", "own GB"))])
        return table(["model", "library", "load", "step", "decode", "peak", "without mapped files"], rows)

    growth = []
    for axis, label in AXES.items():
        points = [row for row in f.rows if row["bench"] == "scale" and row["group"] == axis][1:]
        growth.append([label, ", ".join(f"{float(point['value']):.2f}" for point in points) or "–"])
    start = [[label, f.number("load", "tiny", row, "ms", form=".0f") + " ms"] for row, label in (
        ("embedded", "load the embedded model"), ("folder", "load the same model from a folder"),
        ("to a first picture of one step", "build a pipeline and make a picture of one step"))]
    process = [[label, *(f.number("load", "start", row, measure, form=form) + f" {measure}" for measure, form in (("ms", ".0f"), ("MiB", ".1f")))]
               for row, label in (("main", "start of the process, until `main`"), ("build", "`Pipeline::builder().build()`"),
                                  ("first picture", "first picture, of one step"), ("later picture", "second picture, of one step"),
                                  ("copy", "a copy of the model (`Model::share`)"), ("another model", "another embedded model"))]
    load = []
    for kind in ("f32", "bf16"):
        seconds = [f.number("load", "large", kind, measure, form=".2f") + " s" for measure in ("floor s", "s")]
        shares = [f.number("load", "large", kind, measure) for measure in ("ratio", "peak", "peak of process")]
        load.append([kind, *seconds, *shares])
    def first(of_set):
        kinds = [kind for kind in ("f32", "bf16") if f.find("load", "first" + of_set, f"loaded {kind}", "ratio")]
        rows = [[label, *(f.number("load", "first" + of_set, f"{row} {kind}", "ratio") for kind in kinds)]
                for row, label in (("loaded", "the loaded model"), ("copy", "its copy (`Model::share`)"))]
        return table(["first step of", *kinds], rows)

    run = [[label, *(f.number("memory", "run", row, measure, form=".0f") + " MiB" for measure in ("MiB", "MiB above the model"))]
           for row, label in (("none", "bare"), ("all", "two forces, painting, `Daam` of all words"))]
    vae = []
    for group, label in (("decode", "decoding"), ("encode", "encoding")):
        for side, tiling, how in (("512", "whole", "whole"), ("1024", "whole", "whole"), ("1024", "tiles", "in tiles")):
            row = [f"{label} {side}×{side}, {how}"]
            for measure, form, unit in (("MiB above the model", ".0f", " MiB"), ("s", ".1f", " s")):
                row += [f.number("memory", group, f"{side} {tiling} {kind}", measure, form=form) + unit for kind in ("f32", "bf16")]
            vae.append(row)
    many = [[label, *(f.number("memory", "many", row, measure, form=".1f") + " MiB" for measure in ("MiB after a tenth", "MiB after all"))]
            for row, label in (("as it is", "glibc's defaults"), ("MALLOC_ARENA_MAX", "`MALLOC_ARENA_MAX=1`"))]
    return {
        "machine": "\n".join(f"* Measured {run}: {', '.join(parts)}." for run, parts in f.runs.items()),
        **{name + mark: made(of_set) for mark, of_set in (("", ""), ("_avx2", AVX2)) for name, made in (
            ("cost", cost), ("compiled", compiled), ("picture", pictures), ("decode", decode), ("full", full), ("first", first))},
        "transformers": costs(("embedded transformer", "flow"), ("joint attention, SD 3.5 medium's", "joint")),
        "colorizer": table(["run of the embedded colorizer", "ratio"], color),
        "lora": table(["LoRA of rank 16", "embedded model", "SD-1.5-sized"], loras),
        "precision": table(["precision", "ms a step", "ratio"], kinds),
        "step": table(["precision", "work", "impasto, ms", "diffusers, ms", "ratio"], peers),
        "transformer": table(["network", "precision", "impasto, ms", "diffusers, ms", "OpenVINO, ms", "ratio to diffusers",
                              "ratio to OpenVINO"], transformers),
        "scale": table(["grows", "measured"], growth),
        "start": table(["work", "time"], start),
        "process": table(["part", "time", "memory"], process),
        "load": table(["to", "floor", "load", "ratio", "peak, of the model's bytes", "peak of the process"], load),
        "run": table(["run of an SD-1.5-sized network, 512×512", "peak of the process", "above the model"], run),
        "vae": table(["work of a VAE of SD 1.5's size", "f32, memory", "bf16, memory", "f32, time", "bf16, time"], vae),
        "many": table(["memory allocator", "after 20 runs", "after 200 runs"], many),
    }


def written():
    """The page with its tables made from the newest results."""
    page = PAGE.read_text()
    made = tables(Figures())
    for name in re.findall(r"<!-- figures: (\w+) -->", page):
        if name not in made:
            sys.exit(f"{PAGE.name} asks for the table {name!r}; expected one of {', '.join(made)}")
        block = rf"(<!-- figures: {name} -->\n).*?(<!-- end -->)"
        page = re.sub(block, lambda found: found[1] + made[name] + "\n" + found[2], page, flags=re.S)
    return page


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["measure", "write", "check"])
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peers", metavar="PYTHON")
    args = parser.parse_args()
    if args.action == "measure":
        measure(args)
    elif args.action == "write":
        page = written()
        unfinished = PAGE.with_suffix(".part")
        unfinished.write_text(page)
        unfinished.replace(PAGE)
        subprocess.run([*PLOT, str(newest()), str(PLOTTED)], cwd=ROOT, check=True)
    elif written() != PAGE.read_text():
        sys.exit(f"tables of {PAGE.name} differ from the newest results; write them with `python3 benches/figures.py write`")


if __name__ == "__main__":
    main()
