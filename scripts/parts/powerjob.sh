#!/usr/bin/env bash
# The PowerJob server of the tests, as its makers publish it: the executable jar, on a file database (H2), so that what
# it knows survives its death.
#
#   powerjob.sh install               downloads it into the cache, prints the folder
#   powerjob.sh start WORKDIR [IP]    prints the environment: POWERJOB_URL, POWERJOB_CTL
#   powerjob.sh stop WORKDIR
#   powerjob.sh ctl WORKDIR kill|start|stop    kill: SIGKILL; start: same ports, same database
#   powerjob.sh version
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"

VERSION=4.3.9
KEY=powerjob-server-$VERSION-unpacked

java_is_new() { have java && [[ $(java -version 2>&1) =~ version\ \"([0-9]+) ]] && ((BASH_REMATCH[1] >= 11)); }

build() {
  local out=$1
  have mvn || apt_install maven default-jre-headless
  # Unpacked it starts faster than from jars within a jar.
  quietly powerjob-download mvn -q -B dependency:copy -DoutputDirectory="$PWD" \
    -Dartifact="tech.powerjob:powerjob-server-starter:$VERSION:jar:exec"
  python3 -m zipfile -e "powerjob-server-starter-$VERSION-exec.jar" jar
  [[ -d jar/BOOT-INF/classes && -d jar/BOOT-INF/lib ]]
  # META-INF holds the build information from which the server tells its version.
  mv jar/BOOT-INF/classes jar/BOOT-INF/lib "$out/"
  mv jar/META-INF "$out/classes/"
}

install_all() {
  java_is_new || apt_install default-jre-headless
  java_is_new || die "no Java of version 11 or newer"
  have python3 || apt_install python3
  have curl || apt_install curl
  cached "$KEY" build
}

launch() {
  local dir=$1 jar ip web rpc
  jar=$(install_all)
  read -r ip web rpc <"$dir/address"
  # C1 only, serial collector: a test server lives for minutes, and the machine has few cores.
  # WRITE_DELAY: by default H2 writes a commit out up to half a second later, and kill -9 would lose it.
  # The profile is a name of our own: every shipped one wants a database that is not here.
  daemon "$dir/pid" "$dir/console.log" java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
    -Dfile.encoding=UTF-8 -Duser.timezone=UTC -Duser.home="$dir" -Dpowerjob.network.local.address="$ip" \
    -cp "$jar/classes:$jar/lib/*" tech.powerjob.server.PowerJobServerApplication \
    --spring.profiles.active=itest --server.address="$ip" --server.port="$web" \
    --oms.transporter.active.protocols=HTTP --oms.transporter.main.protocol=HTTP --oms.http.port="$rpc" \
    --spring.datasource.core.driver-class-name=org.h2.Driver \
    --spring.datasource.core.jdbc-url="jdbc:h2:file:$dir/database;WRITE_DELAY=0" \
    --spring.datasource.core.username=sa --spring.datasource.core.password= \
    --spring.datasource.core.maximum-pool-size=10 --spring.datasource.core.minimum-idle=2 \
    --oms.accurate.select.server.percentage=100 --oms.instanceinfo.retention=1 \
    --oms.container.retention.local=1 --oms.container.retention.remote=-1 --oms.instance.metadata.cache.size=1024 \
    --spring.autoconfigure.exclude=org.springframework.boot.autoconfigure.mongo.MongoAutoConfiguration
  wait_ready powerjob 180 "$dir/pid" "$dir/console.log" answers "http://$ip:$web/server/hello"
}
answers() { [[ $(curl -fsS --noproxy '*' --max-time 5 "$1") == *'"success":true'* ]]; }

start() {
  local dir=$1 ip=$2 web rpc
  mkdir -p "$dir"
  if pid_gone "$dir/pid"; then
    # shellcheck disable=SC2046
    [[ -s $dir/address ]] || echo "$ip" $(free_ports 2) >"$dir/address"
    launch "$dir"
  fi
  read -r ip web rpc <"$dir/address"
  write_ctl "$dir/ctl" powerjob "$(dirname "$dir")"
  put_env POWERJOB_URL "http://$ip:$web" POWERJOB_ADDRESS "$ip:$web" POWERJOB_TRANSPORT "$ip:$rpc" \
    POWERJOB_CTL "$dir/ctl" POWERJOB_HOME "$dir"
}

case ${1:-} in
  install) install_all ;;
  version) echo "$VERSION" ;;
  start) start "$(absolute "$2")/powerjob" "${3:-127.0.0.1}" ;;
  stop) pid_stop "$2/powerjob/pid" 15 ;;
  ctl)
    case $3 in
      kill) pid_kill "$2/powerjob/pid" ;;
      stop) pid_stop "$2/powerjob/pid" 15 ;;
      start) pid_gone "$2/powerjob/pid" && launch "$2/powerjob" ;;
      *) die "ctl knows kill, start and stop, not '$3'" ;;
    esac
    ;;
  *) die "use: powerjob.sh install | start WORKDIR [IP] | stop WORKDIR | ctl WORKDIR kill|start|stop | version" ;;
esac
