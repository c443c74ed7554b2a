#!/usr/bin/env bash
# Measures this project's worker and the Java worker in turn against one real PowerJob server, and prints the table of
# docs/benchmarks.md.
#
#   bench-worker.sh [--short] [--write] [--only NAME] [--except NAME] [--instances N] [--no-java]
#
#   --short    smaller numbers: about 10 minutes instead of more than an hour
#   --write    puts the table into docs/benchmarks.md, between its markers
#   --only     only the measurements with this text in their name: start, running, memory, empties, tasks, two-workers,
#              map-reduce, lines, million
#   --except   all but those (the million alone takes longer than all others)
#   --instances  so many in the measurement `empties`
#   --no-java  only ours
#
# It installs, builds, starts and stops everything that it needs; nothing else should run on the machine meanwhile.
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
# shellcheck source=scripts/lib/rust.sh
source "$RIG_ROOT/scripts/lib/rust.sh"

ARGS=() JAVA=yes WRITE=''
while (($#)); do
  case $1 in
    --short) ARGS+=(--short) ;;
    --write) WRITE=yes ;;
    --no-java) JAVA='' ;;
    --only)
      ARGS+=(--only "${2:?--only wants a name}")
      shift
      ;;
    --except)
      ARGS+=(--except "${2:?--except wants a name}")
      shift
      ;;
    --instances)
      ARGS+=(--instances "${2:?--instances wants a number}")
      shift
      ;;
    -h | --help)
      sed -n '2,/^# shellcheck/{/^# shellcheck/d; /^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *) die "unknown option '$1'; see --help" ;;
  esac
  shift
done

cd "$RIG_ROOT" || exit
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$RIG_CACHE/target}
need_rust rustfmt
need_cc
log 'building (release)'
quietly bench-build cargo build --locked --release -p powerjob-worker --examples
BIN=$CARGO_TARGET_DIR/release/examples

WORK=$(mktemp -d /tmp/rig-bench.XXXXXX)
finish() {
  local status=$?
  trap - EXIT
  bash scripts/parts/powerjob.sh stop "$WORK" || true
  if [[ $status == 0 ]]; then rm -rf "${WORK:?}"; else log "what was left: $WORK"; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

bash scripts/parts/powerjob.sh start "$WORK" >"$WORK/powerjob.env"
# shellcheck source=/dev/null
source "$WORK/powerjob.env"
if [[ -n $JAVA ]]; then
  bash scripts/parts/java-worker.sh install >"$WORK/java.env"
  # shellcheck source=/dev/null
  source "$WORK/java.env"
  # A heap as a host would give it, and no smaller than what it needs for the large jobs.
  export JAVA_WORKER_OPTS=-Xmx512m
  ARGS+=(--java "$JAVA_WORKER")
fi
[[ -z $WRITE ]] || ARGS+=(--write docs/benchmarks.md)

"$BIN/bench_worker" --server "${POWERJOB_URL#http://}" --ours "$BIN/worker" --many "$BIN/measure_many" \
  --work "$WORK/workers" --commit "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" "${ARGS[@]}"
