#!/usr/bin/env bash
# Looks by coverage for bodies that break a reader (cargo-fuzz), seeded with crates/powerjob/tests/bodies.
#
#   fuzz.sh [SECONDS=300] [READER..]   READER: a name of crates/powerjob/tests/fuzz/targets.rs; without one, all of them in one target,
#                                      then each by itself
#   fuzz.sh --can                      exit code 0 if this machine can: nightly Rust and cargo-fuzz (`cargo install cargo-fuzz`)
#
# What it has found ground with stays in ${XDG_CACHE_HOME:-~/.cache}/testrig/fuzz, and the next run begins there. A body that breaks a
# reader is kept in fuzz/artifacts and its path printed: put it into crates/powerjob/tests/bodies, where every run of the tests reads it.
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

can() { cargo +nightly --version >/dev/null 2>&1 && have cargo-fuzz && have g++; }
if [[ ${1:-} == --can ]]; then
  can
  exit
fi
can || die "fuzzing needs a nightly Rust (rustup toolchain install nightly), cargo-fuzz (cargo install cargo-fuzz) and g++"

seconds=${1:-300}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "the time is '$seconds'; accepted: seconds, at least 1"
shift || true
cd "$RIG_ROOT" || exit
# The versions of everything else; what only the fuzzer needs is added by cargo.
[[ -f fuzz/Cargo.lock ]] || cp Cargo.lock fuzz/Cargo.lock
seeds=$RIG_ROOT/crates/powerjob/tests/bodies
corpus=${XDG_CACHE_HOME:-$HOME/.cache}/testrig/fuzz

# fuzz TARGET CORPUS: what grows with the square of the length shows as a time-out or as memory.
fuzz() {
  mkdir -p "$corpus/$2"
  cargo +nightly fuzz run "$1" "$corpus/$2" "$seeds" -- -max_total_time="$seconds" -max_len=32768 -timeout=20 \
    -rss_limit_mb=2048 -print_final_stats=1
}
readers() { sed -nE 's/^    \("([^"]+)",.*/\1/p' crates/powerjob/tests/fuzz/targets.rs; }

chosen=("$@")
if ((${#chosen[@]} == 0)); then
  log "all readers, $seconds s"
  fuzz bodies bodies
  mapfile -t chosen < <(readers)
fi
for reader in "${chosen[@]}"; do
  log "$reader, $seconds s"
  TESTRIG_FUZZ_TARGET=$reader fuzz one "${reader//[^a-zA-Z0-9]/_}"
done
