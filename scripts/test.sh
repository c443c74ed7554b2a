#!/usr/bin/env bash
# Runs every test: format, lints, unit and integration tests, and the end-to-end tests on a real PowerJob server, a real
# S3 server, a real Docker engine and a real LLM service, all of which it installs, starts and stops by itself.
#
#   test.sh [--fast] [--long] [--strict] [FILTER]
#
#   --fast    no server, no engine, nothing to install but Rust: of the end-to-end tests only those that need no more
#   --long    runs the whole sizes of what is otherwise short: 100,000 seeds of the worker's simulation instead of 10,000, a death
#             at each write of the worker instead of at every fourth, a million tasks of one instance instead of 20,000,
#             100 MAP_REDUCE runs a mix of ours and Java instead of 10, 2,000 empty jobs on the real server instead of 200, ten
#             kills in every stage of a run instead of one (200 together), a thousand stops of processes that do everything to
#             survive instead of 50, a million changed bodies instead of 20,000; and what has no short
#             version: a million instances through the stand-in server (memory, cost, none lost, none twice) and five minutes
#             of fuzzing by coverage a reader, where nightly Rust and cargo-fuzz are installed
#   --strict  a test that fails has failed; else up to three are run a second time, each by itself, and one that then passes
#             is listed as unstable: something to be mended, but no reason to stop the work of all others
#   FILTER    only tests and checks with this text in their name
#
# What is downloaded and built from others is kept below ${XDG_CACHE_HOME:-~/.cache}/testrig, and so is the target
# folder unless CARGO_TARGET_DIR says otherwise. With CI=true a skip that tests/skips.toml does not list is a failure.
# The last line is always `N passed, N failed, N skipped`, with the number of unstable ones if there are any; the exit
# code is 0 only if nothing failed.
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
# shellcheck source=scripts/lib/rust.sh
source "$RIG_ROOT/scripts/lib/rust.sh"

FAST='' FILTER='' SECOND_CHANCES=3
while (($#)); do
  case $1 in
    --fast) FAST=yes ;;
    --long) export TESTRIG_LONG=1 TESTRIG_SIM_SEEDS="${TESTRIG_SIM_SEEDS:-100000}" ;;
    --strict) SECOND_CHANCES=0 ;;
    -h | --help)
      sed -n '2,/^# shellcheck/{/^# shellcheck/d; /^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    -*) die "unknown option '$1'; see --help" ;;
    *)
      [[ -z $FILTER ]] || die "one filter at most, got '$FILTER' and '$1'"
      FILTER=$1
      ;;
  esac
  shift
done

cd "$RIG_ROOT" || exit
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$RIG_CACHE/target} CARGO_TERM_COLOR=never
[[ -n $FAST ]] || export TESTRIG_SIM_SEEDS="${TESTRIG_SIM_SEEDS:-10000}"
# Short: unix sockets below it have a limit of 107 bytes.
WORK=$(mktemp -d /tmp/rig.XXXXXX)
LOGS=$WORK/logs
mkdir -p "$LOGS"
RIG_STEPS=$WORK/steps
RESULTS=$WORK/results
export TESTRIG_SKIPS_FILE=$WORK/skips.jsonl
touch "$RIG_STEPS" "$RESULTS" "$TESTRIG_SKIPS_FILE"
PASSED=0 FAILED=0 SKIPPED=0 UNSTABLE=0
CHILD=''
# Set while tests run whose parts were left out on demand: such skips need no entry in tests/skips.toml.
LEFT_OUT=''

# --- counting --------------------------------------------------------------------------------------------------------

passed() { PASSED=$((PASSED + $1)); }
failed() {
  FAILED=$((FAILED + 1))
  printf 'failed\t%s\t%s\n' "$1" "${2:-}" >>"$RESULTS"
}
unstable() {
  PASSED=$((PASSED + 1)) UNSTABLE=$((UNSTABLE + 1))
  printf 'unstable\t%s\t%s\n' "$1" "$2" >>"$RESULTS"
}
skipped() {
  SKIPPED=$((SKIPPED + 1))
  printf 'skipped\t%s\t%s\n' "$1" "$2" >>"$RESULTS"
  if [[ ${CI:-} == true && -z $LEFT_OUT ]] && ! grep -qxF "name = \"$1\"" tests/skips.toml; then
    failed "$1" "skipped, but tests/skips.toml does not list it"
  fi
}

# --- running ---------------------------------------------------------------------------------------------------------

# run NAME COMMAND..: shows and keeps the output (in $LOG), notes the time, returns the exit code. In the background,
# because bash handles signals only between commands, and in a session of its own, so that it can be ended as a whole.
run() {
  local name=$1 begin status=0
  shift
  LOG=$LOGS/${name//[^a-zA-Z0-9]/-}.log
  begin=$(now_ms)
  log "begin: $name"
  : >"$LOG"
  setsid "$@" </dev/null >"$LOG" 2>&1 &
  CHILD=$!
  tail -n +1 -s 0.2 --pid="$CHILD" -f "$LOG" 2>/dev/null &
  wait "$CHILD" || status=$?
  CHILD=''
  wait || true
  step_note "$name" $(($(now_ms) - begin)) "$status"
  return "$status"
}

# check NAME COMMAND..: a test of its own that is passed if the command succeeds.
check() {
  local name="check: $1"
  [[ $name == *"$FILTER"* ]] || return 0
  shift
  if run "$name" "$@"; then passed 1; else failed "$name" "see $LOG"; fi
}

# cargo_tests NAME MINUTES ARGUMENTS..: counts by the `test result:` lines, because a test's own output can tear the line with
# its name; the names are for the reader.
cargo_tests() {
  local name=$1 minutes=$2 status=0 ok bad ignored skip reason broken
  shift 2
  run "$name" timeout --kill-after=30 "$((minutes * (${TESTRIG_LONG:-0} * 9 + 1)))m" \
    cargo test --locked --no-fail-fast "$@" || status=$?
  read -r ok bad ignored < <(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed; \([0-9]*\) ignored.*/\1 \2 \3/p' "$LOG" |
    awk '{ ok += $1; bad += $2; ignored += $3 } END { print ok + 0, bad + 0, ignored + 0 }')
  passed "$ok"
  mapfile -t broken < <(sed -nE 's/^test (.*[^ ]) +\.\.\. FAILED$/\1/p' "$LOG")
  local all=$LOG
  for skip in "${broken[@]}"; do
    if ((bad <= SECOND_CHANCES)) && passes_alone "$skip" "$@"; then
      unstable "$skip" "failed in $name, see $all; passed when run again by itself"
    else
      failed "$skip" "in $name, see $all"
    fi
  done
  LOG=$all
  bad=$((bad - ${#broken[@]}))
  for (( ; bad > 0; bad--)); do failed "a test of $name" "its name could not be read, see $LOG"; done
  if [[ $status != 0 ]] && ! grep -q '^test result: FAILED' "$LOG"; then
    failed "$name" "$([[ $status == 124 ]] && echo 'still running at the time limit' ||
      echo "cargo ended with exit code $status"), see $LOG"
  fi
  local -A said=()
  while IFS=$'\t' read -r skip reason; do said[$skip]=$reason; done < <(python3 -c '
import json, sys
for line in sys.stdin:
    skip = json.loads(line)
    print(skip["name"], skip["reason"].replace("\n", " "), sep="\t")' <"$TESTRIG_SKIPS_FILE")
  : >"$TESTRIG_SKIPS_FILE"
  while IFS=$'\t' read -r skip reason; do
    skipped "$skip" "${reason:-${said[$skip]:-no reason given}}"
    unset "said[$skip]"
    ignored=$((ignored - 1))
  done < <(sed -nE 's/^test (.*[^ ]) +\.\.\. ignored(, (.*))?$/\1\t\3/p' "$LOG")
  for (( ; ignored > 0; ignored--)); do skipped "a test of $name" "its name could not be read, see $LOG"; done
  # A test that finds out while it runs that it cannot run says so in the file, and is "ok" for its harness.
  for skip in "${!said[@]}"; do
    ! outcome "$skip" ok || PASSED=$((PASSED - 1))
    skipped "$skip" "${said[$skip]}"
  done
}
# passes_alone TEST ARGUMENTS..: whether exactly that test, run once more, is there and passes. The filter behind `--` is left out.
passes_alone() {
  local test=$1 arguments=()
  shift
  while (($#)) && [[ $1 != -- ]]; do
    arguments+=("$1")
    shift
  done
  run "again: $test" timeout --kill-after=30 10m cargo test --locked "${arguments[@]}" -- --exact "$test" &&
    grep -qE '^test result: ok\. 1 passed; 0 failed; 0 ignored' "$LOG"
}
# outcome TEST WORD: whether the harness said that of the test. Names are padded with blanks.
outcome() { grep -qE "^test ${1//[^a-zA-Z0-9_ -]/.} +\.\.\. $2\$" "$LOG"; }

# --- stopping --------------------------------------------------------------------------------------------------------

# Agents and stand-ins that a test lost. They carry this run's folder in their environment, so nobody else's are hit.
stop_leftovers() {
  local proc pid
  for proc in /proc/[0-9]*; do
    pid=${proc#/proc/}
    [[ $pid != "$$" ]] || continue
    grep -qzxF "TESTRIG_E2E_WORK=$WORK/e2e" "$proc/environ" 2>/dev/null || continue
    log "still running after the tests: $pid $(tr '\0' ' ' 2>/dev/null <"$proc/cmdline" | cut -c1-120)"
    kill -KILL "$pid" 2>/dev/null || true
  done
}
stop_parts() {
  local part
  for part in minio mariadb postgres pushgateway registry powerjob powerjob5 docker; do
    [[ ! -d $WORK/$part ]] || bash "scripts/parts/$part.sh" stop "$WORK" || log "$part could not be stopped"
  done
}
finish() {
  local status=$? kind name reason
  trap - EXIT INT TERM
  set +e
  if [[ -n $CHILD ]]; then
    kill -TERM -- "-$CHILD" 2>/dev/null
    wait_until 5 eval "! kill -0 -- -$CHILD 2>/dev/null" || kill -KILL -- "-$CHILD" 2>/dev/null
    failed "the run" "cut short"
  elif [[ $status != 0 ]]; then
    failed "the run" "test.sh itself ended with exit code $status"
  fi
  local begin
  begin=$(now_ms)
  stop_leftovers
  stop_parts >&2
  step_note 'stop the parts' $(($(now_ms) - begin)) 0
  echo
  step_table
  for kind in skipped unstable failed; do
    grep -q "^$kind" "$RESULTS" || continue
    printf '\n%s:\n' "$kind"
    grep "^$kind" "$RESULTS" | while IFS=$'\t' read -r _ name reason; do printf '  %s: %s\n' "$name" "$reason"; done
  done
  if ((FAILED + UNSTABLE == 0)); then
    rm -rf "${WORK:?}"
  else
    rm -rf "${WORK:?}/bin" "$WORK/docker/data" "$WORK/minio/data" "$WORK/registry/store"
    log "logs and what the tests left: $WORK"
  fi
  printf '\n%d passed, %d failed, %d skipped%s\n' "$PASSED" "$FAILED" "$SKIPPED" \
    "$( ((UNSTABLE == 0)) || echo ", $UNSTABLE of the passed ones unstable")"
  ((FAILED == 0)) || exit 1
  exit 0
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- the checks ------------------------------------------------------------------------------------------------------

shell_scripts() { find scripts .ci tests -type f \( -name '*.sh' -o -path '.ci/run' \) -not -path '*/node_modules/*'; }

# The unit names the program where packages put it; here the one that was just built stands in for it. A misspelt key is
# printed but does not change the exit code, hence no output at all is wanted.
check_unit() {
  local unit out
  mkdir -p "$WORK/units"
  for unit in systemd/*.service; do
    sed -E "s#^(Exec[A-Za-z]+=[-@:+!]*)/[^ ]*/testrig#\1$TESTRIG_BIN#" "$unit" >"$WORK/units/${unit##*/}"
    out=$(systemd-analyze verify "$WORK/units/${unit##*/}" 2>&1) || out+=" (exit code $?)"
    [[ -z $out ]] || {
      echo "$unit: $out"
      return 1
    }
  done
}
export -f check_unit
export WORK

can_install() { have apt-get && [[ $(id -u) == 0 ]]; }
# tool_check NAME PROGRAM PACKAGE COMMAND..: skipped where the tool is not there and cannot be installed.
tool_check() {
  local name=$1 program=$2 package=$3
  shift 3
  [[ "check: $name" == *"$FILTER"* ]] || return 0
  if ! have "$program" && can_install; then (apt_install "$package") || true; fi
  if have "$program"; then check "$name" "$@"; else skipped "check: $name" "$program is not installed"; fi
}

test_targets() {
  cargo metadata --no-deps --format-version 1 --locked --offline 2>/dev/null || cargo metadata --no-deps --format-version 1 --locked
}

# --- the run ---------------------------------------------------------------------------------------------------------

need_rust rustfmt clippy
need_cc
have python3 || apt_install python3

mapfile -t TARGETS < <(test_targets | python3 -c '
import json, sys
for package in json.load(sys.stdin)["packages"]:
    for target in package["targets"]:
        if "test" in target["kind"]:
            print(target["name"])')
INTEGRATION=() E2E=''
for target in "${TARGETS[@]}"; do
  if [[ $target == e2e ]]; then E2E=yes; else INTEGRATION+=(--test "$target"); fi
done

check format cargo fmt --all --check
mapfile -t SCRIPTS < <(shell_scripts)
tool_check 'shell scripts' shellcheck shellcheck shellcheck -x "${SCRIPTS[@]}"
check lints cargo clippy --locked --workspace --all-targets -- -D warnings

# Always the same package selection: another one would unify features differently and compile the dependencies twice.
ALL=(--workspace)
if run 'build of the test binaries' cargo build --locked "${ALL[@]}" --bins --examples &&
  run 'build of the tests' cargo test --locked "${ALL[@]}" --no-run; then
  # A copy, because another run may share the target folder.
  mkdir -p "$WORK/bin/examples"
  cp "$CARGO_TARGET_DIR/debug/testrig" "$WORK/bin/"
  cp "$CARGO_TARGET_DIR/debug/examples/worker" "$WORK/bin/examples/"
  export TESTRIG_BIN=$WORK/bin/testrig
else
  failed 'the build' "see $LOG"
  E2E=broken
fi

PART_VARIABLES=(POWERJOB_URL POWERJOB_CTL POWERJOB5_URL POWERJOB5_CTL JAVA_WORKER S3_ENDPOINT S3_ACCESS_KEY S3_SECRET_KEY
  MYSQL_URL POSTGRES_URL PUSHGATEWAY_URL REGISTRY_ADDRESS REGISTRY_USER REGISTRY_PASSWORD REGISTRY_CTL
  DOCKER_HOST DOCKER_CTL DOCKER_BRIDGE LLAMA_SERVER TINY_GGUF TEST_IMAGE_LLAMA TEST_IMAGE_BUSYBOX TEST_IMAGE_STUB)
mkdir -p "$WORK/e2e"
export TESTRIG_E2E_WORK=$WORK/e2e

# A part that does not come up is a failure, and the tests that need it are skipped; the others are run all the same.
# part_step NAME ENVFILE ARGUMENTS..: a script of scripts/parts, and what it prints into our environment.
part_step() {
  local name=$1 file=$WORK/$2.env
  shift 2
  # shellcheck disable=SC2016
  if run "$name" bash -c 'out=$1; shift; exec bash "$@" >"$out"' -- "$file" "$@"; then
    # shellcheck source=/dev/null
    source "$file"
  else
    failed "$name" "see $LOG"
  fi
}
bring_up_parts() {
  local part
  # The servers take longest: they start side by side, while the rest is installed.
  for part in powerjob powerjob5; do
    run "install $part" bash "scripts/parts/$part.sh" install || true
    run "begin $part" bash "scripts/parts/$part.sh" begin "$WORK" || true
  done
  part_step 'install the Java worker' java-worker scripts/parts/java-worker.sh install
  for part in docker registry minio mariadb postgres pushgateway powerjob powerjob5; do
    [[ $part == powerjob* ]] || run "install $part" bash "scripts/parts/$part.sh" install || true
    part_step "start $part" "$part" "scripts/parts/$part.sh" start "$WORK"
  done
  part_step 'install llama' llama scripts/parts/llama.sh install
  [[ -z ${DOCKER_HOST:-} ]] ||
    part_step 'build the images' images scripts/parts/images.sh build busybox llama stub "$TESTRIG_BIN"
}

# The whole sizes that no test target has. Released, because a million of anything would take the tests' builds hours.
whole_sizes() {
  if [[ 'check: a million instances' == *"$FILTER"* ]]; then
    if run 'build of measure_many' cargo build --locked --release -p powerjob-worker --example measure_many; then
      check 'a million instances' "$CARGO_TARGET_DIR/release/examples/measure_many" "${TESTRIG_INSTANCES:-1000000}"
    else
      failed 'check: a million instances' "see $LOG"
    fi
  fi
  if bash scripts/fuzz.sh --can; then
    check 'fuzzing by coverage' bash scripts/fuzz.sh "${TESTRIG_FUZZ_SECONDS:-300}"
  elif [[ 'check: fuzzing by coverage' == *"$FILTER"* ]]; then
    skipped 'check: fuzzing by coverage' 'nightly Rust, cargo-fuzz or g++ is not installed'
  fi
}

# Integration tests use the parts as well (the conformance suite, the container tests, the object store): they come up first.
# Tests must not land on an engine or a server that the caller happens to have.
unset "${PART_VARIABLES[@]}"
if [[ $E2E != broken ]]; then
  if [[ -n $FAST ]]; then LEFT_OUT=yes; else bring_up_parts; fi
  cargo_tests 'unit and integration tests' 25 "${ALL[@]}" --lib --bins "${INTEGRATION[@]}" -- ${FILTER:+"$FILTER"}
  cargo_tests 'documentation tests' 10 "${ALL[@]}" --doc -- ${FILTER:+"$FILTER"}
  tool_check 'systemd unit' systemd-analyze systemd bash -c 'set -eu; check_unit'
  if [[ -z $E2E ]]; then
    failed 'end-to-end tests' 'there is no test target named e2e'
  else
    cargo_tests 'end-to-end tests' 40 "${ALL[@]}" --test e2e -- ${FILTER:+"$FILTER"}
  fi
  [[ -z ${TESTRIG_LONG:-} ]] || whole_sizes
fi
