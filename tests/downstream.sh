#!/usr/bin/env bash
# Does the README hold for its reader? Makes a crate outside the repository out of the README's own lines, builds the
# quick start in it, and runs that without LD_LIBRARY_PATH.
set -euo pipefail

repo="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
stop() { echo "downstream: $*" >&2; exit 1; }

# The README's "Set-up": the line beside `impasto` in Cargo.toml, and the build script.
dependency="$(grep -m1 '^torch-sys = ' "$repo/README.md")" || stop "README.md has no line 'torch-sys = ...'"
build_script="$(sed -n '/^\/\/ build\.rs$/,/^```$/{/^```$/q;p;}' "$repo/README.md")"
[ -n "$build_script" ] || stop "README.md has no block that begins with '// build.rs'"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cargo init --quiet --vcs none "$work/quick-start"
cd "$work/quick-start"
printf 'impasto = { path = "%s" }\n%s\n' "$repo" "$dependency" >> Cargo.toml
printf '%s\n' "$build_script" > build.rs
cp "$repo/examples/quick_start.rs" src/main.rs
cp "$repo/Cargo.lock" . # the versions that the tests ran with

# The reader's LIBTORCH; here, where none is set, the one that the set-up found.
if [ -f "$repo/.cargo/config.toml" ]; then
    mkdir .cargo
    cp "$repo/.cargo/config.toml" .cargo/
fi
unset LD_LIBRARY_PATH DYLD_LIBRARY_PATH
export CARGO_TARGET_DIR="$repo/target/downstream" # kept, so that torch-sys is compiled once
cargo build --quiet
# Not by `cargo run`, which adds to LD_LIBRARY_PATH itself.
"$CARGO_TARGET_DIR/debug/quick-start"

picture="$(find . -name '*.png' -print -quit)"
[ -n "$picture" ] || stop "the quick start ran, but left no PNG"
echo "downstream: a crate outside the repository built the quick start and ran it ($picture)"
