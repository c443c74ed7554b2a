#!/usr/bin/env bash
# The LLM service of the tests: llama.cpp's own server, built from the source package that carries it, and a tiny random
# model for it.
#
#   llama.sh install            builds both into the cache, prints the environment: LLAMA_SERVER, TINY_GGUF
#   llama.sh start WORKDIR      runs one on the host; prints LLAMA_URL besides
#   llama.sh stop WORKDIR
#   llama.sh version
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"

VERSION=0.3.36
KEY=llama-server-$VERSION

build() {
  local out=$1 tool packages=(scikit-build-core flit-core) missing=()
  python3 -c 'import venv, ensurepip' 2>/dev/null || apt_install python3 python3-venv
  for tool in c++:g++ cc:gcc cmake:cmake ninja:ninja-build; do
    have "${tool%%:*}" || missing+=("${tool##*:}")
  done
  ((${#missing[@]} == 0)) || apt_install "${missing[@]}" libc6-dev
  python3 -m venv venv
  quietly llama-pip venv/bin/pip install "${packages[@]}"
  # pip looks at the metadata of a source package even if it only downloads it, so the build backends must be there.
  quietly llama-download venv/bin/pip download --no-deps --no-binary :all: --no-build-isolation \
    "llama-cpp-python==$VERSION"
  mkdir src
  tar xf llama_cpp_python-*.tar.gz -C src --strip-components 1
  # GGML_NATIVE off: the cache may be restored on another kind of processor.
  quietly llama-configure cmake -S src/vendor/llama.cpp -B build -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DGGML_NATIVE=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
    -DLLAMA_BUILD_TOOLS=ON -DLLAMA_BUILD_SERVER=ON -DBUILD_SHARED_LIBS=OFF
  quietly llama-build cmake --build build --target llama-server -j "$(nproc)"
  cp build/bin/llama-server "$out/"
  strip "$out/llama-server"
}

# The generator is part of this repository, so its own text is the version of the model.
model_key() { echo "tiny-gguf-$(sha256sum <"$RIG_ROOT/tests/tools/tiny_gguf.py" | cut -c1-12)"; }
build_model() { python3 "$RIG_ROOT/tests/tools/tiny_gguf.py" "$1/tiny.gguf"; }

environment() {
  put_env LLAMA_SERVER "$(cached "$KEY" build)/llama-server" TINY_GGUF "$(cached "$(model_key)" build_model)/tiny.gguf"
}

start() {
  local dir=$1 env port
  env=$(environment)
  eval "$env"
  mkdir -p "$dir"
  if pid_gone "$dir/pid"; then
    port=$(free_ports 1)
    echo "$port" >"$dir/port"
    daemon "$dir/pid" "$dir/log" "$LLAMA_SERVER" -m "$TINY_GGUF" --host 127.0.0.1 --port "$port" -c 8192 -np 4 -t 1 \
      --metrics --alias tiny
    wait_ready llama-server 60 "$dir/pid" "$dir/log" http_ok "http://127.0.0.1:$port/health"
  fi
  echo "$env"
  put_env LLAMA_URL "http://127.0.0.1:$(<"$dir/port")"
}

case ${1:-} in
  install) environment ;;
  version) echo "$VERSION" ;;
  start) start "$(absolute "$2")/llama" ;;
  stop) pid_stop "$2/llama/pid" ;;
  *) die "use: llama.sh install | start WORKDIR | stop WORKDIR | version" ;;
esac
