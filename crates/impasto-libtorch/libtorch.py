#!/usr/bin/env python3
"""Puts a CPU build of libtorch where cargo finds it: `python3 libtorch.py FOLDER`.

FOLDER is the folder of the crate that uses impasto. Without FOLDER, the script sets up the clone of impasto that this
file is in.

The script looks for libtorch in the same order as torch-sys, and takes the first of these:

1. The torch of the active Python, if `LIBTORCH_USE_PYTORCH` is set. Only the version of torch is checked.
2. The folder in `LIBTORCH`, which is an environment variable or a line of `.cargo/config.toml`. The script checks that
   the folder's parts exist, and the version if the folder names one.
3. The system's `/usr/lib/libtorch.so`.
4. The folder `${XDG_CACHE_HOME:-~/.cache}/impasto/libtorch-2.11.0`. If it is missing or damaged, the script fetches
   libtorch into it.

The script writes the fetched folder into FOLDER's `.cargo/config.toml`. Plain `cargo build`, `cargo test` and
`cargo bench` then find libtorch, and so do the programs that they make. With FOLDER, the script also writes there what
the environment sets (1 and 2).

The script fetches the wheels that `pip install torch` would fetch. On Linux these are CUDA builds with 4 GB of run-time
libraries. A CPU program needs only `libtorch_cpu.so` and a few libraries beside it, so the script keeps only these.

The script can be interrupted, run again, and run twice at once. It needs Python 3.8 with pip, and nothing outside the
standard library.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, for which there is no build below
    fcntl = None

VERSION = "2.11.0"
ROOT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent.parent).resolve()
CONFIG = ROOT / ".cargo" / "config.toml"
HEADER = "# Written by libtorch.py of impasto-libtorch; LIBTORCH in the environment wins over the line below.\n"
MB = 1_000_000


class Build:
    """The wheels for one platform, and the libraries to take out of them."""

    def __init__(self, download, tags, wheels, libs):
        self.download = download  # bytes
        self.tags = tags  # pip's names of the platform
        self.wheels = wheels  # requirement: sha256 of its wheel
        self.libs = libs  # path in its wheel: bytes


# Only Linux on x86-64 was run. For the other two platforms, the lists come from the dependencies that `libtorch_cpu`
# names in their wheels.
BUILDS = {
    ("Linux", "x86_64"): Build(
        543_563_777,
        ["manylinux_2_28_x86_64", "manylinux_2_25_x86_64", "manylinux2014_x86_64"],
        {
            "torch==2.11.0": "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
            "nvidia-cuda-runtime==13.0.96": "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
            "nvidia-cuda-cupti==13.0.85": "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        },
        {
            "torch/lib/libtorch_cpu.so": 451_209_129,
            "torch/lib/libc10.so": 1_498_969,
            "torch/lib/libgomp.so.1": 254_009,
            "nvidia/cu13/lib/libcudart.so.13": 704_288,
            "nvidia/cu13/lib/libcupti.so.13": 4_152_208,
        },
    ),
    ("Linux", "aarch64"): Build(  # not run
        432_290_065,
        ["manylinux_2_28_aarch64", "manylinux_2_25_aarch64", "manylinux2014_aarch64"],
        {
            "torch==2.11.0": "d91aac77f24082809d2c5a93f52a5f085032740a1ebc9252a7b052ef5a4fddc6",
            "nvidia-cuda-runtime==13.0.96": "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55",
            "nvidia-cuda-cupti==13.0.85": "796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151",
        },
        {
            "torch/lib/libtorch_cpu.so": 259_986_081,
            "torch/lib/libc10.so": 1_790_129,
            "torch/lib/libgomp.so.1": 344_073,
            "torch/lib/libarm_compute.so": 17_850_537,
            "torch/lib/libarm_compute_graph.so": 1_310_433,
            "torch/lib/libnvpl_blas_core.so.0": 2_562_097,
            "torch/lib/libnvpl_blas_lp64_gomp.so.0": 469_313,
            "torch/lib/libnvpl_lapack_core.so.0": 1_710_681,
            "torch/lib/libnvpl_lapack_lp64_gomp.so.0": 5_936_761,
            "nvidia/cu13/lib/libcudart.so.13": 707_752,
            "nvidia/cu13/lib/libcupti.so.13": 3_850_656,
        },
    ),
    ("Darwin", "arm64"): Build(  # not run
        80_529_712,
        ["macosx_11_0_arm64"],
        {"torch==2.11.0": "7b6a60d48062809f58595509c524b88e6ddec3ebe25833d6462eeab81e5f2ce4"},
        {
            "torch/lib/libtorch_cpu.dylib": 216_509_200,
            "torch/lib/libtorch.dylib": 16_736,
            "torch/lib/libc10.dylib": 1_086_384,
            "torch/lib/libomp.dylib": 860_992,
        },
    ),
}


def main():
    if len(sys.argv) > 2 or not (ROOT / "Cargo.toml").is_file():
        stop(f"{ROOT} has no Cargo.toml: name the folder of the crate that is to find libtorch")
    need_tools("cargo", "c++")
    config = CONFIG.read_text(encoding="utf-8") if CONFIG.exists() else None
    if "LIBTORCH_USE_PYTORCH" in os.environ:
        lib = check_pytorch() / "lib"
        return write_config(config_text("LIBTORCH_USE_PYTORCH", "1", lib), config) if len(sys.argv) > 1 else None
    if "LIBTORCH" in os.environ:
        folder = os.environ["LIBTORCH"]
        lib = check_libtorch(folder, "LIBTORCH")
        return write_config(config_text("LIBTORCH", folder, lib), config) if len(sys.argv) > 1 else None

    target = cache_folder() / f"libtorch-{VERSION}"
    configured = libtorch_line(config)
    if configured and configured != str(target) and not is_ours(config):
        return check_libtorch(configured, f"LIBTORCH in {CONFIG.relative_to(ROOT)}")
    if not configured and platform.system() == "Linux" and Path("/usr/lib/libtorch.so").exists():
        return say("using the system's libtorch, /usr/lib/libtorch.so")

    build = BUILDS.get((platform.system(), platform.machine()))
    if build is None:
        stop(
            f"this script has no libtorch {VERSION} for {platform.system()} on {platform.machine()}: set LIBTORCH to "
            "the folder of a libtorch that you already have"
        )
    if damage(target, build):
        fetch(target, build)
    else:
        say(f"using libtorch {VERSION} in {target}")
    write_config(config_text("LIBTORCH", target, target / "lib"), config)


# --- What the user chose -----------------------------------------------------------------------------------------


def check_pytorch():
    """Asks Python for its torch, as torch-sys will do. Returns torch's folder."""
    python = "python" if "VIRTUAL_ENV" in os.environ else "python3"
    ask = "import torch; from torch.utils import cpp_extension; print(torch.__version__, torch.__file__)"
    answer = subprocess.run([python, "-c", ask], capture_output=True, text=True)
    if answer.returncode:
        reason = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        stop(
            f"LIBTORCH_USE_PYTORCH is set, but {python} cannot load torch ({reason}): install it with "
            f"`{python} -m pip install torch=={VERSION}`, or unset LIBTORCH_USE_PYTORCH"
        )
    version, file = answer.stdout.strip().splitlines()[-1].split(" ", 1)
    check_version(version, f"the torch of {python}", f"run `{python} -m pip install torch=={VERSION}`")
    say(f"LIBTORCH_USE_PYTORCH is set: using torch {version} in {Path(file).parent}")
    return Path(file).parent


def check_libtorch(folder, name):
    """Checks a libtorch folder and returns its library folder.

    torch-sys does not check the path, so a wrong path would otherwise fail only in the compiler.
    """
    lib = Path(os.environ.get("LIBTORCH_LIB", folder)) / "lib"
    include = Path(os.environ.get("LIBTORCH_INCLUDE", folder)) / "include"
    missing = [str(part) for part in (lib, include) if not part.is_dir()]
    if missing:
        stop(f"{name} is {folder}, but there is no {' and no '.join(missing)}: name a libtorch folder, or unset LIBTORCH")
    build_version = Path(folder) / "build-version"
    if build_version.exists():
        check_version(build_version.read_text().strip(), f"{name} ({folder})", "name another folder")
    say(f"{name} is set: using {folder}")
    return lib


def check_version(version, what, remedy):
    """Ends with a message unless the version is `VERSION`, the only one that torch-sys accepts."""
    if version.split("+")[0] != VERSION and "LIBTORCH_BYPASS_VERSION_CHECK" not in os.environ:
        stop(f"{what} is libtorch {version}, and tch needs {VERSION}: {remedy}")


# --- The cache folder --------------------------------------------------------------------------------------------


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "impasto"


def damage(folder, build):
    """Returns a sentence about what is wrong with `folder`, or None. Only sizes are checked: pip checked the contents."""
    for path, size in build.libs.items():
        lib = folder / "lib" / Path(path).name
        if not lib.is_file():
            return f"{lib.name} is missing"
        if lib.stat().st_size != size:
            return f"{lib.name} has {lib.stat().st_size} bytes instead of {size}"
    for part in ("build-version", "include/torch/csrc/api/include/torch/torch.h"):
        if not (folder / part).is_file():
            return f"{part} is missing"
    torch = folder / "lib" / "libtorch.so"
    if platform.system() == "Linux" and not torch.is_file():
        return "libtorch.so is missing"
    return None


def fetch(target, build):
    """Downloads and extracts libtorch beside `target`, then renames it, so that `target` is never half a libtorch."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        need_tools("pip")
    target.parent.mkdir(parents=True, exist_ok=True)
    with only_one(target.parent) as lock:
        reason = damage(target, build)
        if reason is None:
            return say(f"using libtorch {VERSION} in {target}, fetched by another run")
        if target.exists():
            say(f"{target} is damaged ({reason}): fetching it anew")
        start = time.monotonic()
        kept = sum(build.libs.values()) + 40 * MB  # the headers
        if shutil.disk_usage(target.parent).free < build.download + kept:
            need = f"{(build.download + kept) // MB} MB are needed while libtorch is extracted"
            stop(f"{target.parent} has too little free space; {need}: free some, or set XDG_CACHE_HOME")
        sizes = f"{round(build.download / MB)} MB to download, {round(kept / MB)} MB to keep"
        say(f"fetching libtorch {VERSION} with pip: {sizes}")
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as work:
            work = Path(work)
            download(work, build, lock)
            extract(work, build)
            put(work / "libtorch", target, build)
        say(f"libtorch {VERSION} is in {target} ({time.monotonic() - start:.0f} s)")


@contextmanager
def only_one(folder):
    """Lets one run at a time work in `folder`, and removes the files that killed runs left there.

    The operating system drops the lock when the last process that holds it ends. pip holds the lock too, so the next
    run waits for a pip that is still running.
    """
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another run is fetching libtorch: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: the rename in `put` decides
            yield lock
            return
        for left in folder.glob(f".libtorch-{VERSION}-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield lock


def download(work, build, lock):
    """Lets pip download the wheels into `work/wheels`, from the package index that the user has set for pip."""
    wanted = work / "requirements.txt"
    wanted.write_text("".join(f"{name} --hash=sha256:{sha256}\n" for name, sha256 in build.wheels.items()))
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--no-cache-dir"]
    command += ["--no-deps", "--only-binary=:all:", "--python-version=3.11", "--implementation=cp"]
    command += ["--abi=cp311", "--abi=none"] + [f"--platform={tag}" for tag in build.tags]
    command += ["--require-hashes", f"--requirement={wanted}", f"--dest={work / 'wheels'}"]
    if not sys.stdout.isatty():
        command.append("--quiet")  # no progress bar
    # pip puts its temporary files into `work` too: /tmp can be small, and the next run removes `work` after a kill.
    if subprocess.run(command, env={**os.environ, "TMPDIR": str(work)}, pass_fds=[lock.fileno()]).returncode:
        stop("pip could not fetch libtorch (its reason is above); README.md, \"Set-up\", has two other ways")


def extract(work, build):
    """Makes `work/libtorch` from the wheels in `work/wheels`. zipfile checks the CRC of each file that it reads."""
    folder = work / "libtorch"
    (folder / "lib").mkdir(parents=True)
    for wheel in sorted((work / "wheels").glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name in build.libs:
                    to = folder / "lib" / Path(name).name
                    with archive.open(name) as source, open(to, "wb") as sink:
                        shutil.copyfileobj(source, sink, 1 << 20)
                    to.chmod(0o755)
                elif name.startswith("torch/include/"):
                    archive.extract(name, work)
        wheel.unlink()
    (work / "torch" / "include").rename(folder / "include")
    if platform.system() == "Linux":
        # The wheel's own libtorch.so needs libtorch_cuda.so. This is a linker script, through which -ltorch finds the
        # CPU parts.
        (folder / "lib" / "libtorch.so").write_text("INPUT(-ltorch_cpu -lc10)\n")
    (folder / "build-version").write_text(f"{VERSION}\n")


def put(made, target, build):
    """Renames `made` to `target`. If another run was first, the folder of that run stays, and `made` is dropped."""
    reason = damage(made, build)
    if reason:
        stop(f"the downloaded wheels are not complete: {reason}; run this script again")
    if target.exists() and damage(target, build):
        target.rename(made.parent / "damaged")
    try:
        made.rename(target)
    except OSError:
        if damage(target, build):
            raise


# --- .cargo/config.toml ------------------------------------------------------------------------------------------


def config_text(name, value, lib):
    """Returns a cargo configuration that says where libtorch is, for builds and for the programs that are built."""
    quoted = [json.dumps(text, ensure_ascii=False) for text in (str(value), f"link-arg=-Wl,-rpath,{lib}")]
    return f"{HEADER}[env]\n{name} = {quoted[0]}\n\n[build]\nrustflags = [\"-C\", {quoted[1]}]\n"


def is_ours(config):
    """Returns true if this script wrote the configuration, and nothing was added later."""
    lines = (config or "").splitlines()
    return lines[:1] == [HEADER.strip()] and len(lines) == len(config_text("", "", "").splitlines())


def libtorch_line(config):
    """Returns the value of LIBTORCH in the text of a cargo configuration, or None."""
    line = r"""^\s*(?:env\.)?LIBTORCH\s*=\s*(?:\{.*?value\s*=\s*)?("(?:\\.|[^"\\])*"|'[^']*')"""
    found = re.search(line, config or "", re.MULTILINE)
    if found is None:
        return None
    return found[1][1:-1] if found[1].startswith("'") else json.loads(found[1])


def write_config(text, config):
    """Writes the configuration, but does not change a configuration that this script did not write."""
    if config == text:
        return
    if config is not None and not is_ours(config):
        if all(line in config for line in text.splitlines()[1:]):
            return
        lines = text.replace(HEADER, "")
        stop(f"{CONFIG} is not from this script; add these lines to it, then run the script again:\n\n{lines}")
    CONFIG.parent.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=CONFIG.parent, delete=False) as file:
        file.write(text)
    os.chmod(file.name, 0o644)
    os.replace(file.name, CONFIG)
    say(f"wrote {CONFIG.relative_to(ROOT)}")


# --- Prerequisites and messages ----------------------------------------------------------------------------------

INSTALL = {
    "cargo": {None: "curl --proto '=https' -sSf https://sh.rustup.rs | sh"},
    "c++": {
        "apt-get": "sudo apt-get install g++",
        "dnf": "sudo dnf install gcc-c++",
        "zypper": "sudo zypper install gcc-c++",
        "pacman": "sudo pacman -S gcc",
        None: "xcode-select --install" if platform.system() == "Darwin" else "install g++ or clang++",
    },
    "pip": {
        "apt-get": "sudo apt-get install python3-pip",
        "dnf": "sudo dnf install python3-pip",
        "zypper": "sudo zypper install python3-pip",
        "pacman": "sudo pacman -S python-pip",
        None: f"{sys.executable} -m ensurepip --upgrade",
    },
}


def need_tools(*tools):
    """Ends with a message if tools are missing. The message has the command that installs each tool."""
    missing = []
    for tool in tools:
        command = os.environ.get("CXX", "c++").split()[0] if tool == "c++" else tool
        if tool == "pip" or shutil.which(command) is None:
            ways = INSTALL[tool]
            way = next((ways[manager] for manager in ways if manager and shutil.which(manager)), ways[None])
            missing.append(f"{'a C++ compiler' if tool == 'c++' else tool} is missing: {way}")
    if missing:
        stop("\n".join(missing))


def say(text):
    print(text, flush=True)


def stop(text):
    sys.exit(f"libtorch.py: {text}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        stop("interrupted; nothing was changed")
