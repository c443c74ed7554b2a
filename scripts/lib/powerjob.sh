# shellcheck shell=bash
# What the PowerJob servers of the tests have in common, whatever their version: settings, database, start and stop. Source it
# after common.sh, with functions `class_path` (prints it) and variables PART (name of the script), PREFIX (of the variables),
# MAIN (class).

launch() {
  spawn "$1"
  ready "$1"
}

spawn() {
  local dir=$1 path ip web rpc database
  path=$(class_path)
  read -r ip web rpc database <"$dir/address"
  # C1 only, serial collector: a test server lives for minutes, and the machine has few cores.
  # WRITE_DELAY: by default H2 writes a commit out up to half a second later, and kill -9 would lose it.
  # The profile is a name of our own: every shipped one wants a database that is not here.
  # In its own folder: it makes one for uploads wherever it is started.
  daemon "$dir/pid" "$dir/console.log" env -C "$dir" java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
    -Dfile.encoding=UTF-8 -Duser.timezone=UTC -Duser.home="$dir" -Dpowerjob.network.local.address="$ip" \
    -cp "$path" "$MAIN" \
    --spring.profiles.active=itest --server.address="$ip" --server.port="$web" \
    --oms.transporter.active.protocols=HTTP --oms.transporter.main.protocol=HTTP --oms.http.port="$rpc" \
    --spring.datasource.core.driver-class-name=org.h2.Driver \
    --spring.datasource.core.jdbc-url="${database:-jdbc:h2:file:$dir/database;WRITE_DELAY=0}" \
    --spring.datasource.core.username=sa --spring.datasource.core.password= \
    --spring.datasource.core.maximum-pool-size=10 --spring.datasource.core.minimum-idle=2 \
    --oms.accurate.select.server.percentage=100 --oms.instanceinfo.retention=1 \
    --oms.container.retention.local=1 --oms.container.retention.remote=-1 --oms.instance.metadata.cache.size=1024 \
    --spring.autoconfigure.exclude=org.springframework.boot.autoconfigure.mongo.MongoAutoConfiguration
}

ready() {
  local dir=$1 ip web
  read -r ip web _ <"$dir/address"
  wait_ready "$PART" 180 "$dir/pid" "$dir/console.log" answers "http://$ip:$web/server/hello"
}
answers() { [[ $(curl -fsS --noproxy '*' --max-time 5 "$1") == *'"success":true'* ]]; }

begin() {
  local dir=$1 ip=$2 database=$3
  mkdir -p "$dir"
  pid_gone "$dir/pid" || return 0
  # shellcheck disable=SC2046
  [[ -s $dir/address ]] || echo "$ip" $(free_ports 2) "$database" >"$dir/address"
  spawn "$dir"
}

start() {
  local dir=$1 ip web rpc database
  begin "$@"
  ready "$dir"
  read -r ip web rpc database <"$dir/address"
  write_ctl "$dir/ctl" "$PART" "$(dirname "$dir")"
  put_env "${PREFIX}_URL" "http://$ip:$web" "${PREFIX}_ADDRESS" "$ip:$web" "${PREFIX}_TRANSPORT" "$ip:$rpc" \
    "${PREFIX}_CTL" "$dir/ctl" "${PREFIX}_HOME" "$dir"
}

# powerjob_part ARGUMENTS..: the commands that every such script has.
powerjob_part() {
  local dir
  case ${1:-} in
    begin | start)
      dir=$(absolute "$2")
      "$1" "$dir/$PART" "${3:-127.0.0.1}" "${4:-}"
      ;;
    stop) pid_stop "$2/$PART/pid" 15 ;;
    ctl)
      case $3 in
        kill) pid_kill "$2/$PART/pid" ;;
        stop) pid_stop "$2/$PART/pid" 15 ;;
        start) pid_gone "$2/$PART/pid" && launch "$2/$PART" ;;
        *) die "ctl knows kill, start and stop, not '$3'" ;;
      esac
      ;;
    *) die "use: $PART.sh install | begin WORKDIR | start WORKDIR [IP [DATABASE]] | stop WORKDIR | ctl WORKDIR kill|start|stop | version" ;;
  esac
}
