#!/usr/bin/env bash
# The Pushgateway of the tests: Prometheus' own, from the distribution's package.
#
#   pushgateway.sh install            installs the package
#   pushgateway.sh start WORKDIR      prints the environment: PUSHGATEWAY_URL
#   pushgateway.sh stop WORKDIR
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"

PROGRAM=prometheus-pushgateway

install() {
  have $PROGRAM || apt_install $PROGRAM
  have $PROGRAM || die "the package $PROGRAM has no program of that name"
}

start() {
  local dir=$1 base
  mkdir -p "$dir"
  if pid_gone "$dir/pid"; then
    have $PROGRAM || install >&2
    free_ports 1 >"$dir/port"
    # Below a path, as platforms have it.
    daemon "$dir/pid" "$dir/log" $PROGRAM --web.listen-address="127.0.0.1:$(<"$dir/port")" --web.route-prefix=/llm-tests
  fi
  base=http://127.0.0.1:$(<"$dir/port")/llm-tests
  wait_ready pushgateway 60 "$dir/pid" "$dir/log" http_ok "$base/-/ready"
  put_env PUSHGATEWAY_URL "$base"
}

case ${1:-} in
  install) install ;;
  start) start "$(absolute "$2")/pushgateway" ;;
  stop) pid_stop "$2/pushgateway/pid" ;;
  *) die "use: pushgateway.sh install | start WORKDIR | stop WORKDIR" ;;
esac
