# What each target needs is set up first; see "Set-up" in README.md.

CARGO ?= cargo
PYTHON ?= python3

.PHONY: demo test golden bench doc setup

# Runs the trained small model and leaves its pictures.
demo: setup
	$(CARGO) run --release --example demo

# Everything that must pass before a change goes in. One recipe, so that -j leaves its order alone. What incremental
# builds keep for the next build would take gigabytes here.
test: export CARGO_INCREMENTAL = 0
test: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --features hub -- -D warnings
	OMP_NUM_THREADS=1 $(CARGO) test --workspace --features hub # they run side by side, a core each
	tests/downstream.sh

# The reference's numbers alone.
golden: setup
	$(CARGO) test --release --test golden

bench: setup
	$(CARGO) bench

doc: setup
	$(CARGO) doc --no-deps

# A CPU libtorch in the user's cache folder, unless there is one already.
setup:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: sudo apt-get install python3 python3-pip"; exit 1; }
	@$(PYTHON) crates/impasto-libtorch/libtorch.py
