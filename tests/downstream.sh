#!/usr/bin/env bash
# Checks the README's instructions: makes a crate outside the repository from the README's own lines, builds the quick
# start in it, and runs the program without LD_LIBRARY_PATH. Then builds without libtorch; the error has to say so.
set -euo pipefail

repo="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
stop() { echo "downstream: $*" >&2; exit 1; }

# The README's "In your own crate": the line in Cargo.toml, and the script.
grep -qx 'impasto = "0.1"' "$repo/README.md" || stop "README.md has no line 'impasto = \"0.1\"'; add it"
grep -q 'impasto-libtorch-0.1.0/libtorch.py \.$' "$repo/README.md" || stop \
    "README.md has no line that ends in 'impasto-libtorch-0.1.0/libtorch.py .'; add it"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cargo init --quiet --vcs none "$work/quick-start"
cd "$work/quick-start"
printf 'impasto = { path = "%s" }\n' "$repo" >> Cargo.toml
cp "$repo/examples/quick_start.rs" src/main.rs
# The versions and profiles that the tests ran with, so that what they compiled is not compiled again.
cp "$repo/Cargo.lock" .
sed -n '/^\[profile/,$p' "$repo/Cargo.toml" >> Cargo.toml

export CARGO_TARGET_DIR="$repo/target" CARGO_INCREMENTAL=0
python3 "$repo/crates/impasto-libtorch/libtorch.py" .
unset LD_LIBRARY_PATH DYLD_LIBRARY_PATH
cargo build --quiet
# The program is started directly, because `cargo run` adds to LD_LIBRARY_PATH.
"$CARGO_TARGET_DIR/debug/quick-start"

picture="$(find . -name '*.png' -print -quit)"
[ -n "$picture" ] || stop "the quick start ran, but left no PNG"
echo "downstream: a crate outside the repository built the quick start and ran it ($picture)"

# Without libtorch, the build of impasto-libtorch has to fail with a message that says where to get it.
rm -r .cargo
if [ ! -e /usr/lib/libtorch.so ]; then
    # The crate is built by its own manifest: cargo does not select a crate that is only a dependency of build scripts.
    look="$repo/crates/impasto-libtorch/Cargo.toml"
    said="$(env -u LIBTORCH -u LIBTORCH_USE_PYTORCH cargo build --manifest-path "$look" 2>&1)" &&
        stop "impasto-libtorch built without libtorch; expected an error"
    for words in "libtorch 2.11.0, which impasto computes with, was not found" "libtorch.py ." LIBTORCH_USE_PYTORCH=1; do
        grep -qF -- "$words" <<< "$said" || stop "the error without libtorch does not say '$words': $said"
    done
    echo "downstream: without libtorch the build says where to get it"
fi
