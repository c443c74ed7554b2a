#!/usr/bin/env bash
# A database that several PowerJob servers share: H2 over TCP, from the jars of the server.
#
#   h2.sh start WORKDIR      prints the environment: H2_URL (the DATABASE of powerjob.sh and powerjob5.sh)
#   h2.sh stop WORKDIR
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"

launch() {
  local dir=$1 jar port
  jar=$(find "$(bash "$RIG_ROOT/scripts/parts/powerjob.sh" install)/lib" -name 'h2-*.jar')
  port=$(<"$dir/port")
  daemon "$dir/pid" "$dir/log" java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$jar" org.h2.tools.Server \
    -tcp -tcpPort "$port" -ifNotExists -baseDir "$dir/data"
  wait_ready h2 30 "$dir/pid" "$dir/log" eval "exec 3<>/dev/tcp/127.0.0.1/$port"
}

start() {
  local dir=$1
  mkdir -p "$dir/data"
  if pid_gone "$dir/pid"; then
    [[ -s $dir/port ]] || free_ports 1 >"$dir/port"
    launch "$dir"
  fi
  # The same text for every server: their keys are derived from it.
  put_env H2_URL "jdbc:h2:tcp://127.0.0.1:$(<"$dir/port")/./powerjob;WRITE_DELAY=0"
}

case ${1:-} in
  start) start "$(absolute "$2")/h2" ;;
  stop) pid_stop "$2/h2/pid" ;;
  *) die "use: h2.sh start WORKDIR | stop WORKDIR" ;;
esac
