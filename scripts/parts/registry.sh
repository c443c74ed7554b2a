#!/usr/bin/env bash
# The image registry of the tests: the distribution's docker-registry on loopback, which wants a login.
#
#   registry.sh install            installs the packages
#   registry.sh start WORKDIR      prints the environment: REGISTRY_ADDRESS, REGISTRY_USER, REGISTRY_PASSWORD, REGISTRY_CTL
#   registry.sh stop WORKDIR
#   registry.sh ctl WORKDIR kill|start|stop
#   registry.sh version
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"

REGISTRY_USER=rig
# With characters that differ in the two alphabets of base64, wherever they come to stand.
REGISTRY_PASSWORD='rig>>>???~~~secret'

install() {
  local missing=()
  have docker-registry || missing+=(docker-registry)
  have htpasswd || missing+=(apache2-utils)
  ((${#missing[@]} == 0)) || apt_install "${missing[@]}"
  have docker-registry || die "the package docker-registry has no program of that name"
}

launch() {
  local dir=$1
  daemon "$dir/pid" "$dir/log" env OTEL_TRACES_EXPORTER=none docker-registry serve "$dir/config.yml"
  wait_ready registry 60 "$dir/pid" "$dir/log" asks_for_login "$dir"
}
# Ready is: no without a login, yes with it.
asks_for_login() {
  local base
  base=http://127.0.0.1:$(<"$1/port")/v2/
  [[ $(curl -s --noproxy '*' --max-time 5 -o /dev/null -w '%{http_code}' "$base") == 401 ]] &&
    curl -fsS --noproxy '*' --max-time 5 -o /dev/null -u "$REGISTRY_USER:$REGISTRY_PASSWORD" "$base"
}

start() {
  local dir=$1
  mkdir -p "$dir/store"
  if pid_gone "$dir/pid"; then
    { have docker-registry && have htpasswd; } || install >&2
    free_ports 1 >"$dir/port"
    # Only bcrypt is understood; the least work, because every request is checked anew.
    htpasswd -Bbn -C 4 "$REGISTRY_USER" "$REGISTRY_PASSWORD" >"$dir/htpasswd"
    cat >"$dir/config.yml" <<X
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: "$dir/store"}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$(<"$dir/port")"}
auth: {htpasswd: {realm: rig, path: "$dir/htpasswd"}}
X
    launch "$dir"
  fi
  write_ctl "$dir/ctl" registry "$(dirname "$dir")"
  put_env REGISTRY_ADDRESS "127.0.0.1:$(<"$dir/port")" REGISTRY_USER "$REGISTRY_USER" \
    REGISTRY_PASSWORD "$REGISTRY_PASSWORD" REGISTRY_CTL "$dir/ctl"
}

case ${1:-} in
  install) install ;;
  version) docker-registry --version ;;
  start) start "$(absolute "$2")/registry" ;;
  stop) pid_stop "$2/registry/pid" ;;
  ctl)
    case $3 in
      kill) pid_kill "$2/registry/pid" ;;
      stop) pid_stop "$2/registry/pid" ;;
      start) pid_gone "$2/registry/pid" && launch "$2/registry" ;;
      *) die "ctl knows kill, start and stop, not '$3'" ;;
    esac
    ;;
  *) die "use: registry.sh install | start WORKDIR | stop WORKDIR | ctl WORKDIR kill|start|stop | version" ;;
esac
