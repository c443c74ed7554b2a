#!/usr/bin/env bash
# The S3 server of the tests: MinIO, built from its published Go module. It is AGPL: a tool of the tests, never shipped.
#
#   minio.sh install            builds it into the cache, prints the program
#   minio.sh start WORKDIR      prints the environment: S3_ENDPOINT, S3_ACCESS_KEY, S3_SECRET_KEY
#   minio.sh stop WORKDIR
#   minio.sh ctl WORKDIR kill|start|stop
#   minio.sh version
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"
# shellcheck source=scripts/lib/go.sh
source "$RIG_ROOT/scripts/lib/go.sh"

VERSION=v0.0.0-20260212201848-7aac2a2c5b7c
KEY=minio-$VERSION
ACCESS_KEY=rigkey
SECRET_KEY=rigsecret123

build() {
  local out=$1 go
  go=$(go_program)
  # The module and build caches stay below the work folder: half a gigabyte that nobody needs afterwards.
  GOBIN=$out GOPATH=$PWD/gopath GOCACHE=$PWD/gocache GOFLAGS=-modcacherw \
    quietly minio-build "$go" install -trimpath -ldflags '-s -w' "github.com/minio/minio@$VERSION"
}

program() { echo "$(cached "$KEY" build)/minio"; }

launch() {
  local dir=$1 port
  port=$(<"$dir/port")
  MINIO_ROOT_USER=$ACCESS_KEY MINIO_ROOT_PASSWORD=$SECRET_KEY MINIO_UPDATE=off MINIO_BROWSER=off GOMEMLIMIT=400MiB \
    daemon "$dir/pid" "$dir/log" "$(program)" server --address "127.0.0.1:$port" "$dir/data"
  wait_ready minio 60 "$dir/pid" "$dir/log" http_ok "http://127.0.0.1:$port/minio/health/ready"
}

start() {
  local dir=$1
  mkdir -p "$dir/data"
  if pid_gone "$dir/pid"; then
    program >/dev/null
    free_ports 1 >"$dir/port"
    launch "$dir"
  fi
  write_ctl "$dir/ctl" minio "$(dirname "$dir")"
  put_env S3_ENDPOINT "http://127.0.0.1:$(<"$dir/port")" S3_ACCESS_KEY "$ACCESS_KEY" S3_SECRET_KEY "$SECRET_KEY" \
    S3_CTL "$dir/ctl"
}

case ${1:-} in
  install) program ;;
  version) echo "$VERSION" ;;
  start) start "$(absolute "$2")/minio" ;;
  stop) pid_stop "$2/minio/pid" ;;
  ctl)
    case $3 in
      kill) pid_kill "$2/minio/pid" ;;
      stop) pid_stop "$2/minio/pid" ;;
      start) pid_gone "$2/minio/pid" && launch "$2/minio" ;;
      *) die "ctl knows kill, start and stop, not '$3'" ;;
    esac
    ;;
  *) die "use: minio.sh install | start WORKDIR | stop WORKDIR | ctl WORKDIR kill|start|stop | version" ;;
esac
