#!/usr/bin/env bash
# Builds testrig and shows a whole test run on this machine: no Docker, Java, GPU or server needed.
#
#   demo.sh [ARGUMENTS OF testrig demo]      for example: demo.sh --json, demo.sh --keep
#
# Standard output belongs to the demo alone, so that --json stays one JSON object.
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
# shellcheck source=scripts/lib/rust.sh
source "$RIG_ROOT/scripts/lib/rust.sh"

prepare() {
  need_rust cargo
  need_cc
  log "building the release binary (the first time takes some minutes)"
  cargo build --release --locked -p testrig --manifest-path "$RIG_ROOT/Cargo.toml"
}
prepare >&2
exec "${CARGO_TARGET_DIR:-$RIG_ROOT/target}/release/testrig" demo "$@"
