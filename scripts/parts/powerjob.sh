#!/usr/bin/env bash
# The PowerJob server of the tests, as its makers publish it: the executable jar, on a file database (H2), so that what
# it knows survives its death.
#
#   powerjob.sh install               downloads it into the cache, prints the folder
#   powerjob.sh start WORKDIR [IP [DATABASE]]
#                                     prints the environment: POWERJOB_URL, POWERJOB_CTL. Two servers on one database have a
#                                     WORKDIR and an IP each (127.0.0.2 is one), and the DATABASE that h2.sh prints
#   powerjob.sh begin WORKDIR         the same without waiting for it: `start` waits then
#   powerjob.sh stop WORKDIR
#   powerjob.sh ctl WORKDIR kill|start|stop    kill: SIGKILL; start: same ports, same database
#   powerjob.sh version
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"
# shellcheck source=scripts/lib/powerjob.sh
source "$RIG_ROOT/scripts/lib/powerjob.sh"
# shellcheck source=scripts/lib/java.sh
source "$RIG_ROOT/scripts/lib/java.sh"

VERSION=4.3.9
KEY=powerjob-server-$VERSION-unpacked
# shellcheck disable=SC2034
PART=powerjob PREFIX=POWERJOB MAIN=tech.powerjob.server.PowerJobServerApplication

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
  need_java
  have python3 || apt_install python3
  cached "$KEY" build
}
class_path() {
  local jar
  jar=$(install_all)
  echo "$jar/classes:$jar/lib/*"
}

case ${1:-} in
  install) install_all ;;
  version) echo "$VERSION" ;;
  *) powerjob_part "$@" ;;
esac
