# shellcheck shell=bash disable=SC2034 # variables set here are for the caller
# Gets the tools that cargo does not: compilers for guests and for the other ISAs. Sourced by ./x and guests/build.sh,
# from bash with `set -euo pipefail`. Nothing happens until a function is called, and each does nothing the second time.
# bash forgets `-e` in a function whose status is looked at: what may fail in the middle of one ends in `|| return`.
#
# Downloads go through the ordinary clients (apt-get, pip, cargo) and so obey whatever mirror these are set up for.

WAYFARE_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
WAYFARE_TARGET=${CARGO_TARGET_DIR:-target}
[[ $WAYFARE_TARGET == /* ]] || WAYFARE_TARGET=$WAYFARE_ROOT/$WAYFARE_TARGET

# zig as a C compiler for wasm32-wasi: clang, lld and wasi-libc in one wheel. 0.17.0 is the version the guests were tested with.
ZIG_VERSION=0.17.0

say() { printf '%s\n' "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}

# need_debian package...: all installed when it returns; otherwise it names what is missing and ends the script.
need_debian() {
    local missing
    missing=$(missing_debian "$@")
    [[ $missing ]] || return 0
    command -v apt-get >/dev/null || die "these tools are needed, by their names in Debian: $missing"
    # One at a time: what is built on the side may need some, too, and apt-get does not wait for another one.
    mkdir -p "$WAYFARE_TARGET"
    (flock 9 && install_debian "$@") 9>"$WAYFARE_TARGET/apt.lock" || exit 1
}

# What is missing is looked at anew: somebody else may have installed it meanwhile.
install_debian() {
    local missing sudo=()
    read -ra missing <<<"$(missing_debian "$@")"
    ((${#missing[@]})) || return 0
    if ((EUID != 0)); then
        sudo -n true 2>/dev/null || die "not installed: ${missing[*]}; as root: apt-get install ${missing[*]}"
        sudo=(sudo -n)
    fi
    say "installing ${missing[*]}"
    local install=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -qq)
    # Fresh images have no package lists, and lists that are too old name files that are gone: update, then try once more.
    if ! "${install[@]}" "${missing[@]}" >/dev/null 2>&1; then
        "${sudo[@]}" apt-get update -qq || die "apt-get update failed; not installed: ${missing[*]}"
        "${install[@]}" "${missing[@]}" >/dev/null || die "apt-get could not install: ${missing[*]}"
    fi
}

# missing_debian package...: prints those that are not installed, in a line.
missing_debian() {
    local package missing=()
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == 'install ok installed' ]] || missing+=("$package")
    done
    printf '%s' "${missing[*]}"
}

# setup_zig: sets ZIG to the compiler.
setup_zig() {
    local home=$WAYFARE_TARGET/tools/zig-$ZIG_VERSION
    ZIG=$home/ziglang/zig
    export ZIG_GLOBAL_CACHE_DIR=$WAYFARE_TARGET/tools/zig-cache ZIG_LOCAL_CACHE_DIR=$WAYFARE_TARGET/tools/zig-cache
    [[ -e $home/complete ]] && return
    command -v python3 >/dev/null || need_debian python3
    python3 -m pip --version >/dev/null 2>&1 || need_debian python3-pip
    say "fetching zig $ZIG_VERSION"
    local wheels=$home.download
    rm -rf "$home" "$wheels"
    mkdir -p "$home" "$wheels"
    python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: -d "$wheels" "ziglang==$ZIG_VERSION" \
        || die "pip could not fetch ziglang $ZIG_VERSION"
    python3 -m zipfile -e "$wheels"/ziglang-*.whl "$home"
    chmod +x "$ZIG"
    "$ZIG" version >/dev/null || die "zig $ZIG_VERSION does not run on this machine"
    rm -rf "$wheels"
    touch "$home/complete"
}

# crate_sources manifest-directory: fetches the crates that the manifest there pins, and prints "name directory" lines.
# Cargo works on a copy, so that no lock file appears beside the manifest.
crate_sources() {
    local copy=$WAYFARE_TARGET/tools/crate-sources
    mkdir -p "$copy"
    cp "$1"/Cargo.toml "$1"/lib.rs "$copy"
    cargo metadata -q --format-version 1 --manifest-path "$copy/Cargo.toml" | python3 -c '
import json, os, sys
for package in json.load(sys.stdin)["packages"]:
    print(package["name"], os.path.dirname(package["manifest_path"]))'
}

# need_node: Node.js and npm, from wherever they come.
need_node() {
    command -v node >/dev/null && command -v npm >/dev/null || need_debian nodejs npm
    node -e 'process.exit(process.versions.node.split(".")[0] >= 18 ? 0 : 1)' || die "Node.js 18 or later is needed; $(node -v) is here"
}

# get_web: the packages that the page's lock file pins, if they are not there yet.
get_web() {
    local kept=$WAYFARE_ROOT/web/node_modules/.wayfare-lock
    cmp -s "$WAYFARE_ROOT/web/package-lock.json" "$kept" && return
    # Playwright's own browsers are not wanted.
    (cd "$WAYFARE_ROOT/web" && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --no-audit --no-fund) || return
    cp "$WAYFARE_ROOT/web/package-lock.json" "$kept"
}

# build_web: the page, into target/web. What is as it was is left alone: cargo goes by its time.
build_web() {
    local new=$WAYFARE_ROOT/target/web.new out=$WAYFARE_ROOT/target/web
    rm -rf "$new"
    (cd "$WAYFARE_ROOT/web" && WEB_OUT=../target/web.new npm run --silent build) || return
    if diff -rq "$new" "$out" >/dev/null 2>&1; then
        rm -rf "$new"
        return
    fi
    rm -rf "$out"
    mv "$new" "$out"
}

# has_rustup_target triple: whether the active rustup toolchain has the target's standard library.
has_rustup_target() {
    command -v rustup >/dev/null && [[ -d $(rustc --print sysroot)/lib/rustlib/$1/lib ]]
}

# build_std_cargo arguments...: the distribution's cargo and rustc, allowed to build the standard library from its source package.
# Needs rustc 1.95 or later: Debian 12 has it as rustc-web, in its security suite.
build_std_cargo() {
    # Without the allocator that rustup's compiler brings with it, Debian's takes a tenth more time.
    need_debian rustc-web cargo-web rust-web-src libjemalloc2
    LD_PRELOAD=libjemalloc.so.2 RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc /usr/bin/cargo "$@"
}

# build_aarch64 [cargo arguments...]: builds bin/wayfare, or what the arguments say, for AArch64 Linux; sets AARCH64_OUT to the
# directory of the binaries, and AARCH64_RUN to the command that runs one here.
build_aarch64() {
    local triple=aarch64-unknown-linux-gnu arguments=("$@")
    ((${#arguments[@]})) || arguments=(--package wayfare)
    need_debian gcc-aarch64-linux-gnu libc6-dev-arm64-cross
    # Code is compiled for it elsewhere, and controllers are elsewhere: these have only to be there, not to be fast.
    for package in cranelift-{assembler-x64,codegen} regalloc2 wasmtime-internal-cranelift wayfare{,-api,-control,-sched,-sim}; do
        arguments+=(--config "profile.checked.package.$package.opt-level=0")
    done
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
    if has_rustup_target "$triple"; then
        (cd "$WAYFARE_ROOT" && cargo build --profile checked --target "$triple" "${arguments[@]}") || return
        AARCH64_OUT=$WAYFARE_TARGET/$triple/checked
    else
        # A directory of its own: another compiler in the same one would make cargo start over each time.
        (cd "$WAYFARE_ROOT" && CARGO_TARGET_DIR=$WAYFARE_TARGET/build-std \
            build_std_cargo build --profile checked -Zbuild-std=std,panic_unwind --target "$triple" "${arguments[@]}") || return
        AARCH64_OUT=$WAYFARE_TARGET/build-std/$triple/checked
    fi
    setup_qemu_aarch64
}

# setup_qemu_aarch64: sets AARCH64_RUN to the command that runs an AArch64 program on this machine.
setup_qemu_aarch64() {
    if [[ $(uname -m) == aarch64 ]]; then
        AARCH64_RUN=()
        return
    fi
    need_debian qemu-user libc6-arm64-cross
    AARCH64_RUN=(qemu-aarch64 -L /usr/aarch64-linux-gnu)
}

# What kernels for machines without an operating system there are.
UNIKERNELS=(x86_64 aarch64 riscv64)

# build_unikernel arch...: builds the kernels, each with the node's program in it, and puts them where `wayfare unikernel
# build` looks for them: beside the program.
build_unikernel() {
    local arch out=$WAYFARE_TARGET/release/unikernel
    unikernel_cargo 'build_std_cargo build' 'wayfare-unikernel-node wayfare-unikernel' "$@" || return
    mkdir -p "$out"
    for arch in "$@"; do
        cp "$WAYFARE_TARGET/unikernel/$(kernel_target "$arch")/release/wayfare-unikernel" "$out/$arch.elf.new" || return
        mv "$out/$arch.elf.new" "$out/$arch.elf" || return
    done
}

# kernel_target arch: the name of the kernel's target. It leaves the floating-point and vector registers to the node.
kernel_target() {
    case $1 in
    x86_64) echo x86_64-unknown-none ;;
    aarch64) echo aarch64-unknown-none-softfloat ;;
    riscv64) echo riscv64imac-unknown-none-elf ;;
    esac
}

# lint_unikernel arch...: has the clippy look through them that belongs to the compiler that builds them. They must be built: the
# kernels have the node's program in them. That is read once: little in it is for one ISA only, and it takes long.
lint_unikernel() {
    local first=$1
    shift
    need_debian rustc-web cargo-web rust-web-src rust-web-clippy libjemalloc2
    unikernel_cargo lint_std_cargo 'wayfare-unikernel-node wayfare-unikernel' "$first" || return
    unikernel_cargo lint_std_cargo wayfare-unikernel "$@"
}

# lint_std_cargo arguments...: as build_std_cargo. `cargo clippy` would be whatever is first in PATH.
lint_std_cargo() {
    LD_PRELOAD=libjemalloc.so.2 RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc CARGO=/usr/bin/cargo /usr/bin/cargo-clippy clippy "$@" -- -D warnings
}

# unikernel_cargo command packages arch...: runs a command of cargo's for these packages of each kernel.
unikernel_cargo() {
    local command=$1 packages=$2 arch node flags package target model name
    shift 2
    local -x CARGO_TARGET_DIR=$WAYFARE_TARGET/unikernel RUSTFLAGS WAYFARE_NODE
    need_debian lld
    for arch in "$@"; do
        case $arch in
        # There is no target of rustc's for a program on x86-64 that has vector registers and no operating system.
        x86_64) node=targets/x86_64-unknown-none-elf.json flags='-Ccode-model=small' ;;
        aarch64) node=aarch64-unknown-none flags='' ;;
        riscv64) node=riscv64gc-unknown-none-elf flags='-Ccode-model=medium' ;;
        esac
        name=${node##*/}
        WAYFARE_NODE=$CARGO_TARGET_DIR/${name%.json}/release/wayfare-unikernel-node
        for package in $packages; do
            target=$node model=static
            if [[ $package == wayfare-unikernel ]]; then
                target=$(kernel_target "$arch")
                # Boot loaders of the others put it where they like.
                [[ $arch == x86_64 ]] || model=pie
            fi
            RUSTFLAGS="-Clinker=ld.lld -Clinker-flavor=ld.lld -Crelocation-model=$model -Cforce-unwind-tables=no $flags $SOFT_CIPHERS"
            # shellcheck disable=SC2086 # it has arguments
            (cd "$WAYFARE_ROOT/unikernel" && $command --release -p "$package" -Zbuild-std=core,alloc \
                -Zbuild-std-features=optimize_for_size -Zjson-target-spec --target "$target") || return
        done
    done
}

# The ciphers' vector code makes the compiler fail where it knows of no vector registers. Where it does, QEMU's translator is
# slower with it, by three times and more; and what does without is faster than a board's network card.
SOFT_CIPHERS='--cfg poly1305_force_soft --cfg chacha20_force_soft --cfg curve25519_dalek_backend="serial"'
