#!/usr/bin/env bash
# The MariaDB server of the tests, from the distribution's packages.
#
#   mariadb.sh install            installs the packages
#   mariadb.sh start WORKDIR      prints the environment: MYSQL_URL (with user and password)
#   mariadb.sh stop WORKDIR
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"

DB_USER=rig
PASSWORD=rigsecret123

install() {
  if have mariadbd && have mariadb-install-db; then return; fi
  apt_install mariadb-server mariadb-client
}

# Below /tmp whatever WORKDIR is: the server's account must be able to search every folder above its data, and the path of
# its socket has at most 107 bytes.
start() {
  local dir=$1 port data user
  install >&2
  mkdir -p "$dir"
  if pid_gone "$dir/pid"; then
    user=$(id -un)
    [[ $user != root ]] || user=mysql
    [[ -s $dir/data ]] || mktemp -d /tmp/rigmy.XXXXXX >"$dir/data"
    data=$(<"$dir/data")
    [[ $(id -u) != 0 ]] || chown mysql: "$data"
    if [[ ! -e $data/db/mysql ]]; then
      # --no-defaults must come first, or the machine's own configuration leaks in.
      mariadb-install-db --no-defaults --user="$user" --datadir="$data/db" \
        --auth-root-authentication-method=normal --skip-test-db >"$dir/install.log" 2>&1 || {
        cat "$dir/install.log" >&2
        return 1
      }
      free_ports 1 >"$dir/port"
    fi
    port=$(<"$dir/port")
    daemon "$dir/pid" "$dir/log" mariadbd --no-defaults --user="$user" --datadir="$data/db" --socket="$data/s" \
      --port="$port" --bind-address=127.0.0.1 --innodb-flush-log-at-trx-commit=0
    wait_ready mariadb 60 "$dir/pid" "$dir/log" mariadb-admin --no-defaults -S "$data/s" -u root ping
    mariadb --no-defaults -S "$data/s" -u root -e "create database if not exists rig character set utf8mb4;
      create user if not exists $DB_USER@'127.0.0.1' identified by '$PASSWORD';
      grant all on rig.* to $DB_USER@'127.0.0.1'"
  fi
  port=$(<"$dir/port")
  put_env MYSQL_URL "mysql://$DB_USER:$PASSWORD@127.0.0.1:$port/rig"
}
stop() {
  local dir=$1
  pid_stop "$dir/pid" 20
  [[ ! -s $dir/data ]] || rm -rf "$(<"$dir/data")" "$dir/data"
}

case ${1:-} in
  install) install ;;
  start) start "$(absolute "$2")/mariadb" ;;
  stop) stop "$2/mariadb" ;;
  *) die "use: mariadb.sh install | start WORKDIR | stop WORKDIR" ;;
esac
