#!/usr/bin/env bash
# The servers and the engine that the end-to-end tests use, by hand and to stay.
#
#   dev-parts.sh up WORKDIR [TESTRIG]   starts what does not run yet and writes WORKDIR/env.sh; then: source that file.
#                                       With a testrig program also makes the image of it (again)
#   dev-parts.sh java WORKDIR           adds to them the PowerJob server 5.1.1 and the worker in Java
#   dev-parts.sh env WORKDIR            prints that file
#   dev-parts.sh down WORKDIR           stops all of it; what the servers but for the SQL databases stored stays
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

part() { bash "$RIG_ROOT/scripts/parts/$1.sh" "${@:2}"; }

up() {
  local work=$1 program=${2:-}
  {
    part docker start "$work"
    part registry start "$work"
    part powerjob start "$work"
    part minio start "$work"
    part mariadb start "$work"
    part postgres start "$work"
    part llama install
    put_env TESTRIG_E2E_WORK "$work/e2e"
  } >"$work/env.new"
  mkdir -p "$work/e2e"
  # shellcheck source=/dev/null
  source "$work/env.new"
  part images build llama busybox >>"$work/env.new"
  if [[ -n $program ]]; then
    put_env TESTRIG_BIN "$(realpath "$program")" >>"$work/env.new"
    part images build stub "$program" >>"$work/env.new"
  fi
  mv "$work/env.new" "$work/env.sh"
  log "all parts run; now: source $work/env.sh"
}

# Half a gigabyte more, so only on demand.
java() {
  local work=$1
  {
    part powerjob5 start "$work"
    part java-worker install
  } >"$work/java.new"
  # A second call does not double the lines.
  [[ ! -f $work/env.sh ]] || grep -vE '^export (POWERJOB5|JAVA_WORKER)' "$work/env.sh" >"$work/env.new" || true
  cat "$work/java.new" >>"$work/env.new"
  rm "$work/java.new"
  mv "$work/env.new" "$work/env.sh"
  log "the 5.1.1 server runs; now: source $work/env.sh"
}

case ${1:-} in
  java) java "$(absolute "${2:?WORKDIR is missing}")" ;;
  up) up "$(absolute "${2:?WORKDIR is missing}")" "${3:-}" ;;
  env) cat "${2:?WORKDIR is missing}/env.sh" ;;
  down)
    for name in registry minio mariadb postgres powerjob powerjob5 docker llama; do part "$name" stop "${2:?WORKDIR is missing}"; done
    ;;
  *) die "use: dev-parts.sh up | java | env | down WORKDIR" ;;
esac
