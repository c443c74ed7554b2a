#!/usr/bin/env bash
# The PostgreSQL server of the tests, from the distribution's package.
#
#   postgres.sh install            installs the package
#   postgres.sh start WORKDIR      prints the environment: POSTGRES_URL (with user and password)
#   postgres.sh stop WORKDIR
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"

DB_USER=rig
PASSWORD=rigsecret123

# The programs lie below the version's folder, and one of another origin may come first in PATH.
programs() {
  local dir newest=''
  for dir in /usr/lib/postgresql/*/bin; do [[ ! -x $dir/initdb ]] || newest=$dir; done
  echo "$newest"
}
install() {
  [[ -n $(programs) ]] || apt_install postgresql
  [[ -n $(programs) ]] || die 'the package postgresql has no initdb below /usr/lib/postgresql'
}
# The server refuses to run as root.
as_server() {
  if [[ $(id -u) == 0 ]]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi
}

# Below /tmp whatever WORKDIR is: the server's account must be able to search every folder above its data.
start() {
  local dir=$1 bin port data
  bin=$(programs)
  [[ -n $bin ]] || { install >&2 && bin=$(programs); }
  mkdir -p "$dir"
  if pid_gone "$dir/pid"; then
    [[ -s $dir/data ]] || mktemp -d /tmp/rigpg.XXXXXX >"$dir/data"
    data=$(<"$dir/data")
    [[ $(id -u) != 0 ]] || chown postgres: "$data"
    if [[ ! -e $data/db/PG_VERSION ]]; then
      printf '%s\n' "$PASSWORD" >"$data/password"
      [[ $(id -u) != 0 ]] || chown postgres: "$data/password"
      as_server "$bin/initdb" -D "$data/db" -U "$DB_USER" --auth=scram-sha-256 --pwfile="$data/password" \
        --no-sync -E UTF8 --locale=C.UTF-8 >"$dir/initdb.log" 2>&1 || {
        cat "$dir/initdb.log" >&2
        return 1
      }
      free_ports 1 >"$dir/port"
    fi
    port=$(<"$dir/port")
    as_server "$bin/pg_ctl" -D "$data/db" -w -t 60 -l "$data/log" \
      -o "-p $port -k $data -c listen_addresses=127.0.0.1 -c fsync=off" start >"$dir/start.log" 2>&1 9>&- || {
      cat "$dir/start.log" "$data/log" >&2
      return 1
    }
    pid_write "$dir/pid" "$(head -n 1 "$data/db/postmaster.pid")"
    log "postgres is ready"
  fi
  port=$(<"$dir/port")
  put_env POSTGRES_URL "postgres://$DB_USER:$PASSWORD@127.0.0.1:$port/postgres"
}
stop() {
  local dir=$1 pid
  # Fast: TERM would wait for its clients.
  if pid=$(pid_read "$dir/pid"); then kill -INT "$pid" 2>/dev/null || true; fi
  wait_until 10 pid_gone "$dir/pid" || true
  pid_stop "$dir/pid"
  [[ ! -s $dir/data ]] || rm -rf "$(<"$dir/data")" "$dir/data"
}

case ${1:-} in
  install) install ;;
  start) start "$(absolute "$2")/postgres" ;;
  stop) stop "$2/postgres" ;;
  *) die "use: postgres.sh install | start WORKDIR | stop WORKDIR" ;;
esac
