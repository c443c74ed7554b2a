#!/usr/bin/env bash
# Measures what a run adds to the start of its container, beside the engine's bare API, on an engine of its own.
#
#   bench-containers.sh [COUNT]      starts of each kind, 60 without it
#
# Prints the table of docs/benchmarks.md and the machine's load while it was measured. Nothing else should run meanwhile.
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
# shellcheck source=scripts/lib/rust.sh
source "$RIG_ROOT/scripts/lib/rust.sh"

COUNT=${1:-60}
case $COUNT in -h | --help) sed -n '2,/^# shellcheck/{/^# shellcheck/d; /^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;; esac

cd "$RIG_ROOT" || exit
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$RIG_CACHE/target}
need_rust cargo
need_cc
cargo build --locked --workspace --bins --examples >&2
WORK=$(mktemp -d /tmp/rig.XXXXXX)
trap 'bash scripts/parts/docker.sh stop "$WORK" >&2; rm -rf "${WORK:?}"' EXIT
bash scripts/parts/docker.sh install >&2
bash scripts/parts/docker.sh start "$WORK" >"$WORK/env"
# shellcheck source=/dev/null
source "$WORK/env"
bash scripts/parts/images.sh build busybox >>"$WORK/env"
# shellcheck source=/dev/null
source "$WORK/env"
echo "load average before: $(cut -d' ' -f1-3 /proc/loadavg); $(nproc) cores; commit $(git rev-parse --short HEAD)"
"$CARGO_TARGET_DIR/debug/examples/measure_start" "$COUNT"
echo "load average after: $(cut -d' ' -f1-3 /proc/loadavg)"
