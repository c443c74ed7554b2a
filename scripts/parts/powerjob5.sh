#!/usr/bin/env bash
# The PowerJob server 5.1.1 of the tests. Its makers publish its modules but no ready server, so the main class and a thin REST
# layer are our own (tests/java/server). Commands as powerjob.sh; the variables are named POWERJOB5_*.
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"
# shellcheck source=scripts/lib/powerjob.sh
source "$RIG_ROOT/scripts/lib/powerjob.sh"
# shellcheck source=scripts/lib/java.sh
source "$RIG_ROOT/scripts/lib/java.sh"

VERSION=5.1.1
# shellcheck disable=SC2034
PART=powerjob5 PREFIX=POWERJOB5 MAIN=rig.Server

class_path() { java_class_path powerjob-server "$RIG_ROOT/tests/java/server"; }

case ${1:-} in
  install) class_path ;;
  version) echo "$VERSION" ;;
  *) powerjob_part "$@" ;;
esac
