# shellcheck shell=bash
# Makes sure that cargo is there and new enough for this workspace.

# need_rust COMPONENT..: with rustup around it also gets the toolchain and the components that are missing.
need_rust() {
  local wanted component
  [[ ! -d $HOME/.cargo/bin ]] || PATH=$PATH:$HOME/.cargo/bin
  wanted=$(sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' "$RIG_ROOT/Cargo.toml")
  if ! have cargo; then
    have rustup || die "cargo is not installed; Rust $wanted or newer is needed: see https://rustup.rs (the command there \
installs it for one user, without root)"
    quietly rustup rustup toolchain install stable --profile minimal
  fi
  if ! rust_is_new "$wanted"; then
    have rustup || die "$(rustc --version 2>&1) is too old; this workspace needs Rust $wanted or newer: see https://rustup.rs"
    log "$(rustc --version 2>&1) is too old, updating the stable toolchain"
    quietly rustup rustup toolchain install stable --profile minimal
    rust_is_new "$wanted" || export RUSTUP_TOOLCHAIN=stable
    rust_is_new "$wanted" || die "the newest stable toolchain is still older than Rust $wanted"
  fi
  for component in "$@"; do
    case $component in
      cargo) continue ;;
      rustfmt) cargo fmt --version >/dev/null 2>&1 && continue ;;
      clippy) cargo clippy --version >/dev/null 2>&1 && continue ;;
    esac
    have rustup || die "the component $component of the Rust toolchain is missing"
    quietly rustup rustup component add "$component"
  done
}
rust_is_new() {
  local have
  have=$(rustc --version 2>/dev/null | cut -d' ' -f2) || return 1
  [[ -n $have && $(printf '%s\n%s\n' "$1" "${have%%-*}" | sort -V | head -n 1) == "$1" ]]
}

# The bundled SQLite and ring are C: without a compiler their build scripts fail late and with a riddle. A compiler
# without the headers and start files of the C library is no better.
need_cc() {
  ! cc_works || return 0
  if ! have apt-get || [[ $(id -u) != 0 ]]; then
    die "a working C compiler is needed (SQLite and ring are compiled from C); install one, for example: \
apt-get install gcc libc6-dev"
  fi
  apt_install gcc libc6-dev
  cc_works || die "the C compiler still cannot make a program; try: echo 'int main(void){return 0;}' | cc -x c -"
}
cc_works() { have cc && echo 'int main(void){return 0;}' | cc -x c - -o /dev/null 2>/dev/null; }
