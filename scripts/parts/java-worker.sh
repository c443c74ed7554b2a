#!/usr/bin/env bash
# The PowerJob worker 5.1.1 in Java, as its makers publish it, with the processors of tests/java/worker.
#
#   java-worker.sh install     fetches and compiles it into the cache, prints the environment: JAVA_WORKER_CLASS_PATH,
#                              JAVA_WORKER. The latter is a program:
#                              $JAVA_WORKER -a APP -s HOST:PORT[,..] -p PORT [-t TAG] [-i ADDRESS] [-d DIRECTORY]
#                              with Java's own options in JAVA_WORKER_OPTS
#   java-worker.sh run ARGUMENTS..   that program
#   java-worker.sh version
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"
# shellcheck source=scripts/lib/java.sh
source "$RIG_ROOT/scripts/lib/java.sh"

VERSION=5.1.1
class_path() { java_class_path powerjob-worker "$RIG_ROOT/tests/java/worker"; }

# A program whose pid is that of the worker: tests kill it.
program() {
  local path file
  path=$(class_path)
  file=$(dirname "${path%%:*}")/run
  # shellcheck disable=SC2016
  [[ -x $file ]] || {
    printf '#!/usr/bin/env bash\nexec java ${JAVA_WORKER_OPTS--Xmx128m} -Dfile.encoding=UTF-8 -cp %q jw.Main "$@"\n' "$path" >"$file.$$"
    chmod 755 "$file.$$"
    mv "$file.$$" "$file"
  }
  put_env JAVA_WORKER "$file" JAVA_WORKER_CLASS_PATH "$path"
}

case ${1:-} in
  install) program ;;
  version) echo "$VERSION" ;;
  run)
    # shellcheck disable=SC1090
    source <(program)
    exec "$JAVA_WORKER" "${@:2}"
    ;;
  *) die "use: java-worker.sh install | run ARGUMENTS.. | version" ;;
esac
