#!/usr/bin/env bash
# A Docker engine of the tests' own: own containerd, data, sockets, bridge and cgroup parent. It touches no other engine
# on the machine and no packet filter rule: published ports are served by Docker's user-space proxy.
#
#   docker.sh install           engine, client and a static busybox from the distribution
#   docker.sh start WORKDIR     prints the environment: DOCKER_HOST, DOCKER_CTL, DOCKER_BRIDGE (yes or no)
#   docker.sh stop WORKDIR      and all containers with it
#   docker.sh ctl WORKDIR kill|start|stop    the engine alone; containers go on running
#   docker.sh version
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"
PATH=$PATH:/usr/sbin:/sbin

install_all() {
  local missing=()
  { have dockerd && have containerd && have runc; } || missing+=(docker.io)
  have docker || missing+=(docker.io)
  have ip || missing+=(iproute2)
  have curl || missing+=(curl)
  [[ -x $(busybox_static) ]] || missing+=(busybox-static)
  ((${#missing[@]} == 0)) || apt_install "${missing[@]}"
  have dockerd || die "dockerd is still not there"
  have docker || apt_install docker-cli
}
busybox_static() { if [[ -x /bin/busybox ]]; then echo /bin/busybox; else command -v busybox || true; fi; }

# Short and unique for a folder: bridge names have at most 15 characters.
label() { printf '%s' "$1" | sha256sum | cut -c1-8; }

bridge_up() {
  local dir=$1 name net
  name=rig$(label "$dir")
  if ! ip link show "$name" >/dev/null 2>&1; then
    for net in $(seq 200 250 | sort -R) none; do
      [[ $net != none ]] || return 1
      [[ $(ip -4 route) == *"10.213.$net."* ]] || break
    done
    ip link add "$name" type bridge 2>"$dir/bridge.log" || return 1
    ip addr add "10.213.$net.1/24" dev "$name" && ip link set "$name" up
  fi
  echo "$name"
}

containerd_up() {
  local dir=$1
  pid_gone "$dir/containerd.pid" || return 0
  cat >"$dir/containerd.toml" <<X
version = 2
root = "$dir/containerd/root"
state = "$dir/containerd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "$dir/c.sock"
X
  rm -f "$dir/c.sock"
  daemon "$dir/containerd.pid" "$dir/containerd.log" containerd --config "$dir/containerd.toml" --log-level warn
  wait_ready containerd 60 "$dir/containerd.pid" "$dir/containerd.log" test -S "$dir/c.sock"
}

launch() {
  local dir=$1 bridge
  bridge=$(<"$dir/bridge")
  containerd_up "$dir"
  # Left by a killed engine, which would refuse to start beside it.
  rm -f "$dir/dockerd.pidfile" "$dir/d.sock"
  # The machine's own daemon.json must not reach this engine.
  echo '{}' >"$dir/daemon.json"
  daemon "$dir/pid" "$dir/log" dockerd --config-file "$dir/daemon.json" --data-root "$dir/data" \
    --exec-root "$dir/exec" --pidfile "$dir/dockerd.pidfile" --containerd "$dir/c.sock" -H "unix://$dir/d.sock" \
    --bridge "$bridge" --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
    --live-restore --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/rig$(label "$dir")"
  wait_ready dockerd 60 "$dir/pid" "$dir/log" ping_engine "$dir"
}
ping_engine() { curl -fsS --max-time 5 --unix-socket "$1/d.sock" -o /dev/null http://localhost/_ping; }

start() {
  local dir=$1
  [[ $(id -u) == 0 ]] || die "a Docker engine of our own needs root"
  ((${#dir} < 90)) || die "the folder $dir is too long for a unix socket"
  mkdir -p "$dir"
  if pid_gone "$dir/pid"; then
    install_all
    if ! bridge_up "$dir" >"$dir/bridge"; then
      log "no bridge can be made here, containers get the host's network only"
      echo none >"$dir/bridge"
    fi
    launch "$dir"
  fi
  write_ctl "$dir/ctl" docker "$(dirname "$dir")"
  put_env DOCKER_HOST "unix://$dir/d.sock" DOCKER_CTL "$dir/ctl" DOCKER_BRIDGE \
    "$([[ $(<"$dir/bridge") == none ]] && echo no || echo yes)"
}

# Everything below works as well when engine or containerd died first: containers are found by the socket that their
# shims name on the command line.
stop() {
  local dir=$1 ids shim name path
  [[ -d $dir ]] || return 0
  dir=$(absolute "$dir")
  if ping_engine "$dir" 2>/dev/null; then
    mapfile -t ids < <(docker -H "unix://$dir/d.sock" ps -aq)
    ((${#ids[@]} == 0)) || timeout 60 docker -H "unix://$dir/d.sock" rm -f "${ids[@]}" >/dev/null || true
  fi
  pid_stop "$dir/pid" 15
  for shim in $(shims "$dir"); do
    # First what runs inside: a shim that dies alone leaves its container behind.
    children "$shim" | while read -r child; do kill -KILL "$child" 2>/dev/null || true; done
    kill -KILL "$shim" 2>/dev/null || true
  done
  pid_stop "$dir/containerd.pid" 10
  mounts_below "$dir" | while read -r path; do umount -l "$path" 2>/dev/null || true; done
  name=rig$(label "$dir")
  ! ip link show "$name" >/dev/null 2>&1 || ip link del "$name"
  find /sys/fs/cgroup -depth -type d -path "*/$name*" -exec rmdir {} + 2>/dev/null || true
  rm -f "$dir/d.sock" "$dir/c.sock" "$dir/dockerd.pidfile"
}
shims() {
  local proc
  for proc in /proc/[0-9]*; do
    tr '\0' ' ' 2>/dev/null <"$proc/cmdline" | grep -qF -- "-address $1/c.sock " && echo "${proc#/proc/}"
  done || true
}
children() { sed -n "s/^\([0-9]*\) (.*) . $1 .*/\1/p" /proc/[0-9]*/stat 2>/dev/null || true; }
# Deepest first.
mounts_below() { cut -d' ' -f5 /proc/self/mountinfo | grep -F "$1/" | sort -r || true; }

case ${1:-} in
  install) install_all ;;
  version) dockerd --version ;;
  start) start "$(absolute "$2")/docker" ;;
  stop) stop "$2/docker" ;;
  ctl)
    case $3 in
      kill) pid_kill "$2/docker/pid" ;;
      stop) pid_stop "$2/docker/pid" 15 ;;
      start) pid_gone "$2/docker/pid" && launch "$2/docker" ;;
      *) die "ctl knows kill, start and stop, not '$3'" ;;
    esac
    ;;
  *) die "use: docker.sh install | start WORKDIR | stop WORKDIR | ctl WORKDIR kill|start|stop | version" ;;
esac
