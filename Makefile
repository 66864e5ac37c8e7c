# Every target sets up its requirements first; see "Set-up" in README.md.

CARGO ?= cargo
PYTHON ?= python3

.PHONY: demo studio test golden bench figures gallery book doc semver systems setup wheel test-python

# Runs the trained small model and leaves its pictures.
demo: setup
	$(CARGO) run --release --example demo

# Runs all checks that must pass before a change is merged. They are one recipe, so that `make -j` keeps their order.
# The reference cases run on every path that this processor has: its best instruction set, libtorch alone, and the
# kernels in AVX2.
# Incremental builds are off, because their files would take gigabytes.
test: export CARGO_INCREMENTAL = 0
test: FEATURES = --workspace --features hub,impasto-cli/otel
test: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(FEATURES) --all-targets -- -D warnings
	OMP_NUM_THREADS=1 $(CARGO) test $(FEATURES) # tests run in parallel, on one core each
	IMPASTO_KERNELS=off ONEDNN_MAX_CPU_ISA=AVX2 OMP_NUM_THREADS=1 $(CARGO) test $(FEATURES) --test golden
	if grep -qs avx512vl /proc/cpuinfo; then \
		IMPASTO_KERNELS=avx2 OMP_NUM_THREADS=1 $(CARGO) test $(FEATURES) --test golden; \
	fi
	tests/downstream.sh

# Runs the conformance cases alone: comparisons with the numbers of diffusers, transformers and DAAM.
golden: setup
	$(CARGO) test --release --test golden

bench: setup
	$(CARGO) bench

# Measures the figures of docs/performance.md on this computer and writes the page's tables. PEERS is a Python with
# diffusers, made as benches/peers/step.py says.
PEERS ?= .peers/bin/python
figures: setup
	$(PYTHON) benches/figures.py measure --peers $(PEERS)
	$(PYTHON) benches/figures.py write

doc: setup
	$(CARGO) doc --no-deps

# Makes the pictures of docs/gallery.md, except the pictures of measurements.
GALLERY = color_forcing color_strokes colorize composition exact_color exact_strokes flow image_guidance large_pictures lora lora_parts \
	many_colors palette perturbed_attention prompt_blend prompt_colors prompts protect reference_color regions repaint saliency_overlay two_pass
gallery: setup
	mkdir -p target/gallery
	$(CARGO) build --release --examples
	cd target/gallery && set -e; for name in $(GALLERY); do ../release/examples/$$name; cp $$name.png ../../docs/images; done
	cd target/gallery && ../release/examples/demo && cp out/sheet.png ../../docs/images/gold_eyes.png
	cd target/gallery && ../release/examples/paint_with_words && cp paint.png ../../docs/images/painting.png
	cd target/gallery && $(CARGO) run --release -p impasto-report --example report && cp report.png ../../docs/images
	IMPASTO_SCREENSHOTS=$(CURDIR)/docs/images $(CARGO) test --release -p impasto-studio --test browser

# Compares the public interface with that of the last release, BASELINE, and names changes that need a new version.
BASELINE ?= $(shell git describe --tags --abbrev=0)
semver: setup
	@command -v cargo-semver-checks >/dev/null || { echo "cargo-semver-checks is missing: cargo install cargo-semver-checks"; exit 1; }
	$(CARGO) semver-checks --package impasto --features hub,clap,schemars --baseline-rev $(BASELINE)

# Checks that the library compiles for Windows and macOS on x86-64. Nothing is linked, so `true` stands for their C
# compilers, and their libtorch is not needed.
SYSTEMS = x86_64-pc-windows-gnu x86_64-apple-darwin
systems:
	rustup target add $(SYSTEMS)
	set -e; for system in $(SYSTEMS); do \
		name=$$(echo $$system | tr - _); export CC_$$name=true CXX_$$name=true AR_$$name=true; \
		$(CARGO) check --package impasto --package impasto-kernels --features impasto/doc-only,impasto/hub --target $$system; \
	done

# Serves the studio: a page in the browser for painting.
studio: setup
	$(CARGO) run --release -p impasto-cli -- studio

# Builds the Python package against the torch of a virtual environment, which `PYTHON` makes in target/python. The wheel
# fits this version of Python and every torch 2.11. `WHEEL_PROFILE=dev` optimizes less, for tests.
# RUSTFLAGS is empty, because .cargo/config.toml would write the path of another libtorch into the package.
WHEEL_PROFILE ?= release
WHEEL_VENV = $(CURDIR)/target/python/venv
WHEEL_NEEDS = "maturin>=1.7,<2" "torch==2.11.*" "numpy>=1.26" "pillow>=10" "pytest>=8"
WHEEL_CARGO = cd crates/impasto-python && env VIRTUAL_ENV=$(WHEEL_VENV) PATH=$(WHEEL_VENV)/bin:$$PATH LIBTORCH_USE_PYTORCH=1 \
	RUSTFLAGS= CARGO_TARGET_DIR=$(CURDIR)/target/python/build
wheel: $(WHEEL_VENV)/ready
	rm -f target/wheels/impasto-*.whl
	$(WHEEL_CARGO) maturin build --profile $(WHEEL_PROFILE) --locked --auditwheel skip --interpreter $(WHEEL_VENV)/bin/python \
		--out $(CURDIR)/target/wheels

$(WHEEL_VENV)/ready:
	$(PYTHON) -m venv $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/pip install $(WHEEL_NEEDS)
	touch $@

# Checks the crate of the Python package, and runs the package's tests with pytest.
test-python: WHEEL_PROFILE = dev
test-python: wheel
	cd crates/impasto-python && $(CARGO) fmt --check
	$(WHEEL_CARGO) $(CARGO) clippy --locked -- -D warnings
	$(WHEEL_VENV)/bin/pip install --no-deps --force-reinstall target/wheels/impasto-*.whl
	cd crates/impasto-python && OMP_NUM_THREADS=1 $(WHEEL_VENV)/bin/python -m pytest

# Builds the documents as a book, in target/book.
book:
	@command -v mdbook >/dev/null || { echo "mdbook is missing: cargo install mdbook"; exit 1; }
	mdbook build docs

# Puts a CPU libtorch into the user's cache folder, unless there is a libtorch already.
setup:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: sudo apt-get install python3 python3-pip"; exit 1; }
	@$(PYTHON) crates/impasto-libtorch/libtorch.py
