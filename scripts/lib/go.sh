# shellcheck shell=bash
# Finds a Go that can build today's modules, or gets one.

GO_TOOLCHAIN=go1.25.5

# go_program: prints the path of a Go of 1.21 or newer; such a one fetches by itself what a module asks for.
go_program() {
  local go
  for go in "$(command -v go || true)" /usr/local/go/bin/go; do
    [[ -x $go ]] && go_is_new "$go" && echo "$go" && return 0
  done
  echo "$(cached "$GO_TOOLCHAIN" go_build)/bin/go"
}
go_is_new() {
  local version
  version=$("$1" env GOVERSION 2>/dev/null) || return 1
  [[ $version =~ ^go([0-9]+)\.([0-9]+) ]] && ((BASH_REMATCH[1] > 1 || BASH_REMATCH[2] >= 21))
}

# The distribution's Go is too old for today's modules, but the newer tool chains are Go modules themselves: the old one
# downloads (and verifies) the new one as a module. Module files carry no x bits, so they are set here.
go_build() {
  local out=$1 arch goroot
  have go || apt_install golang-go ca-certificates
  if go_is_new "$(command -v go)"; then
    goroot=$(go env GOROOT)
  else
    arch=$(go env GOARCH)
    mkdir mod && (cd mod && go mod init rig >/dev/null 2>&1)
    goroot=$(cd mod && GOPATH=$PWD/../gopath GOFLAGS=-modcacherw \
      go mod download -json "golang.org/toolchain@v0.0.1-$GO_TOOLCHAIN.linux-$arch" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p')
    [[ -n $goroot ]] || die "the Go module proxy has no tool chain $GO_TOOLCHAIN"
  fi
  cp -rL "$goroot/." "$out/"
  chmod -R u+w "$out"
  find "$out/bin" "$out/pkg/tool" -type f -exec chmod 755 {} +
}
