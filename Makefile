# What each target needs is set up first; see "Set-up" in README.md.

CARGO ?= cargo
PYTHON ?= python3

.PHONY: demo studio test golden bench figures gallery book doc setup

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

# Measures the figures of docs/performance.md on this machine and writes its tables. PEERS is a Python with diffusers, made as
# benches/peers/step.py says.
PEERS ?= .peers/bin/python
figures: setup
	$(PYTHON) benches/figures.py measure --peers $(PEERS)
	$(PYTHON) benches/figures.py write

doc: setup
	$(CARGO) doc --no-deps

# The pictures of docs/gallery.md, except those of measurements.
GALLERY = color_strokes colorize composition exact_color exact_strokes image_guidance many_colors prompt_colors protect \
	reference_color regions repaint saliency_overlay two_pass
gallery: setup
	mkdir -p target/gallery
	$(CARGO) build --release --examples
	cd target/gallery && set -e; for name in $(GALLERY); do ../release/examples/$$name; cp $$name.png ../../docs/images; done
	cd target/gallery && ../release/examples/demo && cp out/sheet.png ../../docs/images/gold_eyes.png
	cd target/gallery && ../release/examples/paint_with_words && cp paint.png ../../docs/images/painting.png
	cd target/gallery && $(CARGO) run --release -p impasto-report --example report && cp report.png ../../docs/images
	IMPASTO_SCREENSHOTS=$(CURDIR)/docs/images $(CARGO) test --release -p impasto-studio --test browser

# The page in the browser on which one paints.
studio: setup
	$(CARGO) run --release -p impasto-cli -- studio

# The documents as a book, in target/book.
book:
	@command -v mdbook >/dev/null || { echo "mdbook is missing: cargo install mdbook"; exit 1; }
	mdbook build docs

# A CPU libtorch in the user's cache folder, unless there is one already.
setup:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: sudo apt-get install python3 python3-pip"; exit 1; }
	@$(PYTHON) crates/impasto-libtorch/libtorch.py
