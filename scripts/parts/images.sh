#!/usr/bin/env bash
# The container images of the tests, built from files of this machine on the engine that DOCKER_HOST names, without any
# pull. Each name becomes testrig/NAME:test.
#
#   images.sh build busybox|llama..       prints the environment: TEST_IMAGE_BUSYBOX, TEST_IMAGE_LLAMA
#   images.sh build stub PROGRAM          the testrig program itself as an image: TEST_IMAGE_STUB
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"

# add ROOT PROGRAM TARGET: the program and the libraries it is linked with, these at the same paths as here.
add() {
  local root=$1 program=$2 target=$3 lib
  mkdir -p "$root$(dirname "$target")"
  cp -L "$program" "$root$target"
  # A static program has none: ldd fails then, and grep finds nothing.
  for lib in $({ ldd "$program" 2>/dev/null | grep -oE '/[^ ]+'; } || true); do
    mkdir -p "$root$(dirname "$lib")"
    cp -L "$lib" "$root$lib"
  done
}

build() {
  local name=$1 program=${2:-} context env
  context=$(mktemp -d "$RIG_CACHE/tmp/image.XXXXXX")
  cp "$RIG_ROOT/tests/images/$name/Dockerfile" "$context/"
  mkdir "$context/root"
  case $name in
    busybox)
      [[ -x /bin/busybox ]] || apt_install busybox-static
      mkdir -p "$context/root/tmp" "$context/root/etc"
      chmod 1777 "$context/root/tmp"
      printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$context/root/etc/passwd"
      add "$context/root" /bin/busybox /bin/busybox
      ;;
    llama)
      env=$(bash "$RIG_ROOT/scripts/parts/llama.sh" install)
      eval "$env"
      add "$context/root" "$LLAMA_SERVER" /usr/bin/llama-server
      mkdir -p "$context/root/models"
      cp "$TINY_GGUF" "$context/root/models/tiny.gguf"
      ;;
    stub)
      [[ -x $program ]] || die "the stub image is made of the testrig program; no such program: '$program'"
      add "$context/root" "$program" /usr/bin/testrig
      ;;
    *) die "no image is known by the name '$name'" ;;
  esac
  DOCKER_BUILDKIT=0 quietly "image-$name" docker build --pull=false -t "testrig/$name:test" "$context"
  rm -rf "$context"
  put_env "TEST_IMAGE_${name^^}" "testrig/$name:test"
}

[[ ${1:-} == build && $# -ge 2 ]] || die "use: images.sh build busybox|llama.. | images.sh build stub PROGRAM"
[[ -n ${DOCKER_HOST:-} ]] || die "DOCKER_HOST is not set: images are built on the tests' own engine only"
shift
while (($#)); do
  # The others stand on it.
  [[ $1 == busybox ]] || docker image inspect testrig/busybox:test >/dev/null 2>&1 || build busybox >/dev/null
  if [[ $1 == stub ]]; then
    build stub "${2:-}"
    shift
  else
    build "$1"
  fi
  shift
done
