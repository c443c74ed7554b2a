# shellcheck shell=bash
# Shared by every script here: cache, log, locks, ports, pid files, packages, timings. Source it, do not run it.

set -euo pipefail
# Without it a failure inside $(...) goes unnoticed.
shopt -s inherit_errexit
# A script that ends by errexit must say where.
set -E
trap 'log "exit code $? at ${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND"' ERR

RIG_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
RIG_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/testrig
RIG_NAME=${RIG_NAME:-$(basename "$0" .sh)}
mkdir -p "$RIG_CACHE/parts" "$RIG_CACHE/locks" "$RIG_CACHE/tmp"

log() { printf '%(%H:%M:%S)T [%s] %s\n' -1 "$RIG_NAME" "$*" >&2; }
die() {
  log "error: $*"
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# Milliseconds of a clock that is good enough for tables.
now_ms() {
  local t=${EPOCHREALTIME/[.,]/}
  echo $((t / 1000))
}
seconds() { printf '%d.%01d' $(($1 / 1000)) $(($1 % 1000 / 100)); }

# --- timings ---------------------------------------------------------------------------------------------------------

# Parts run in processes of their own, so the notes go to a file.
step_note() {
  log "done: $1 in $(seconds "$2") s$([[ $3 == 0 ]] || echo ", exit code $3")"
  [[ -z ${RIG_STEPS:-} ]] || printf '%s\t%s\t%s\n' "$2" "$3" "$1" >>"$RIG_STEPS"
}
step_table() {
  [[ -s ${RIG_STEPS:-} ]] || return 0
  local ms status name total=0
  printf '%8s  %s\n' seconds step
  while IFS=$'\t' read -r ms status name; do
    printf '%8s  %s%s\n' "$(seconds "$ms")" "$name" "$([[ $status == 0 ]] || echo "  (exit code $status)")"
    total=$((total + ms))
  done <"$RIG_STEPS"
  printf '%8s  %s\n' "$(seconds "$total")" 'all steps'
}

# --- locks and the cache ---------------------------------------------------------------------------------------------

# with_lock NAME COMMAND..: one holder at a time on this machine. Whoever starts a daemon must do it outside of this, or
# the daemon inherits the lock and keeps it.
with_lock() {
  local name=$1
  shift
  (
    if ! flock -n 9; then
      log "waiting for another run that holds the lock '$name'"
      flock 9
    fi
    "$@"
  ) 9>"$RIG_CACHE/locks/$name"
}

# cached KEY BUILDER [ARG..]: prints the folder of KEY, after `BUILDER FOLDER ARG..` has filled it if it was not there.
# The builder works in a temporary folder that gets its name only when it is complete, so a cut build leaves nothing
# that looks finished.
cached() {
  local key=$1
  [[ -d $RIG_CACHE/parts/$key ]] || with_lock "$key" cached_build "$@" >&2
  echo "$RIG_CACHE/parts/$key"
}
cached_build() {
  local key=$1 builder=$2 tmp begin
  shift 2
  [[ -d $RIG_CACHE/parts/$key ]] && return 0
  # What a killed build left: only the holder of the lock may know that nobody uses it.
  rm -rf "$RIG_CACHE/tmp/$key."*
  tmp=$(mktemp -d "$RIG_CACHE/tmp/$key.XXXXXX")
  # In the background: a build leaves ten thousands of files, and nobody waits for their end.
  # shellcheck disable=SC2064
  trap "rm -rf '$tmp' >/dev/null 2>&1 9>&- &" EXIT
  begin=$(now_ms)
  log "building $key"
  mkdir "$tmp/out" "$tmp/work"
  (
    cd "$tmp/work"
    "$builder" "$tmp/out" "$@"
  )
  mv "$tmp/out" "$RIG_CACHE/parts/$key"
  log "built $key in $(seconds $(($(now_ms) - begin))) s"
}

# quietly NAME COMMAND..: keeps the output of a long command in a file and shows its end only if it fails.
quietly() {
  local file=$RIG_CACHE/tmp/$1.log status=0
  shift
  "$@" >"$file" 2>&1 || status=$?
  if [[ $status != 0 ]]; then
    tail -n 40 "$file" >&2
    log "failed with exit code $status: $* (all of its output: $file)"
  fi
  return "$status"
}

# --- packages --------------------------------------------------------------------------------------------------------

# apt_install PACKAGE..: from the distribution, with nothing started by the packages themselves.
apt_install() {
  have apt-get || die "missing packages: $*; install them by hand, this machine has no apt-get"
  [[ $(id -u) == 0 ]] || die "missing packages: $*; install them as root: apt-get install --no-install-recommends $*"
  with_lock apt apt_install_locked "$@"
}
apt_install_locked() {
  local policy=/usr/sbin/policy-rc.d ours=
  log "installing packages: $*"
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    ours=yes
  fi
  apt_install_run "$@" || {
    # Indexes older than the mirror name files that are gone.
    quietly apt-update apt-get update -qq && apt_install_run "$@"
  } || {
    [[ -z $ours ]] || rm -f "$policy"
    die "apt-get could not install: $*"
  }
  [[ -z $ours ]] || rm -f "$policy"
}
apt_install_run() {
  DEBIAN_FRONTEND=noninteractive quietly apt-install apt-get install -y -qq --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "$@"
}

# --- ports and processes ---------------------------------------------------------------------------------------------

# Prints N free TCP ports of the loopback. They lie below the range that the kernel gives to outgoing connections, so a
# server that is killed finds its port free again.
free_ports() {
  local n=$1 port hex found=()
  while ((${#found[@]} < n)); do
    port=$((20000 + RANDOM % 12000))
    printf -v hex '%04X' "$port"
    [[ " ${found[*]-} " != *" $port "* ]] || continue
    grep -qsE "^ *[0-9]+: [0-9A-F]+:$hex " /proc/net/tcp /proc/net/tcp6 && continue
    found+=("$port")
  done
  echo "${found[@]}"
}

# A pid alone may have gone to somebody else since it was written, so the start time stands beside it.
proc_start() { sed -n 's/^.*) //p' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
pid_write() { echo "$2 $(proc_start "$2")" >"$1"; }
# pid_read FILE: prints the pid if that very process lives (a zombie does not).
pid_read() {
  local pid start
  [[ -s $1 ]] && read -r pid start <"$1" || return 1
  [[ -n $start && $(proc_start "$pid") == "$start" ]] || return 1
  [[ $(sed -n 's/^.*) \(.\).*/\1/p' "/proc/$pid/stat" 2>/dev/null) != Z ]] || return 1
  echo "$pid"
}
# pid_stop FILE [SECONDS]: TERM, and KILL if it is still there after that.
pid_stop() {
  local file=$1 grace=${2:-10} pid
  if pid=$(pid_read "$file"); then
    kill -TERM "$pid" 2>/dev/null || true
    wait_until "$grace" pid_gone "$file" || kill -KILL "$pid" 2>/dev/null || true
    wait_until 5 pid_gone "$file" || die "process $pid ($file) does not go away"
  fi
  rm -f "$file"
}
pid_kill() {
  local pid
  if pid=$(pid_read "$1"); then
    kill -KILL "$pid" 2>/dev/null || true
    wait_until 5 pid_gone "$1" || die "process $pid ($1) does not go away"
  fi
  rm -f "$1"
}
pid_gone() { ! pid_read "$1" >/dev/null; }

# wait_until SECONDS COMMAND..: asks every 50 ms.
wait_until() {
  local end=$(($(now_ms) + $1 * 1000))
  shift
  until "$@"; do
    (($(now_ms) < end)) || return 1
    sleep 0.05
  done
}

# daemon PIDFILE LOGFILE COMMAND..: in a session of its own, so that no terminal and no caller takes it along. Without the
# mark of the test run: a part that a test has restarted is not a process that the test lost.
daemon() {
  local pidfile=$1 logfile=$2
  shift 2
  setsid nohup env -u TESTRIG_E2E_WORK "$@" </dev/null >>"$logfile" 2>&1 9>&- &
  pid_write "$pidfile" "$!"
  disown
}
# wait_ready NAME SECONDS PIDFILE LOGFILE COMMAND..: until COMMAND succeeds; fails at once if the process has ended.
wait_ready() {
  local name=$1 seconds=$2 pidfile=$3 logfile=$4 begin end
  shift 4
  begin=$(now_ms) end=$(($(now_ms) + seconds * 1000))
  until "$@" >/dev/null 2>&1; do
    if pid_gone "$pidfile"; then
      tail -n 30 "$logfile" >&2
      log "error: $name ended before it was ready (log: $logfile)"
      return 1
    fi
    if (($(now_ms) >= end)); then
      tail -n 30 "$logfile" >&2
      log "error: $name was not ready within $seconds s (log: $logfile)"
      return 1
    fi
    sleep 0.1
  done
  log "$name is ready after $(seconds $(($(now_ms) - begin))) s"
}

# http_ok URL: a 2xx answer.
http_ok() { curl -fsS --noproxy '*' --max-time 5 -o /dev/null "$1"; }

# --- environment files -----------------------------------------------------------------------------------------------

# put_env NAME VALUE ..: lines for `source`.
put_env() {
  while (($#)); do
    printf 'export %s=%q\n' "$1" "$2"
    shift 2
  done
}

# write_ctl FILE PART WORKDIR: one program without arguments of its own, so that a test can name it in one variable
# whatever the path looks like.
write_ctl() {
  printf '#!/usr/bin/env bash\nexec bash %q ctl %q "$@"\n' "$RIG_ROOT/scripts/parts/$2.sh" "$3" >"$1"
  chmod 755 "$1"
}
absolute() {
  mkdir -p "$1"
  (cd "$1" && pwd -P)
}
