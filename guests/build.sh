#!/usr/bin/env bash
# Builds the guest programs into target/guests/*.wasm: all of them, or those named.
#
#   guests/build.sh [name...]
#
# What is newer than its sources is left alone. The C programs are ours; SQLite, Lua and QuickJS come from the crates
# pinned in guests/sources and are fetched only when a program that needs them is built.
set -euo pipefail
# shellcheck source=../scripts/toolchain.sh
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/toolchain.sh"
cd "$WAYFARE_ROOT"

GUESTS=$WAYFARE_TARGET/guests
SELF=(guests/build.sh scripts/toolchain.sh)
PLAIN=(hello fib nbody fannkuch mandelbrot binary-trees bfs pagerank npb_ep npb_is npb_cg sort lz sha256
    readwrite sleeper steady funcptr cat blocked echo monitor)
# The thesis's programs (Table 5-1), with sha256: those that it has in C, and those that it has in C++.
THESIS=(hashzip dynprog pi matrix maze queens quicksort huffman)
SPECIAL=(deep setjmp simd tailcall sqlite sqlite-asyncify lua quickjs)
RUST=(rust-sort rust-hash rust-compress)

# Names stay, for `wayfare inspect`; zig keeps them with debug sections only, which `without_debug` takes out.
CFLAGS=(-target wasm32-wasi -std=gnu23 -O3 -g1 -Wall -Wextra)
# setjmp by exceptions, in the encoding that became the standard (exnref); sjlj.c has the tag.
SJLJ=(-mexception-handling -mllvm -wasm-enable-sjlj -mllvm -wasm-use-legacy-eh=false guests/c/sjlj.c)
FEATURE=(-Xclang -target-feature -Xclang) # a feature for one program, by which zig does not build another C library
FOREIGN=(-w) # warnings in other people's code are not ours to read

main() {
    mkdir -p "$GUESTS"
    exec 9>"$GUESTS/.lock"
    flock 9
    local names=("$@") name
    ((${#names[@]})) || names=("${PLAIN[@]}" "${THESIS[@]}" "${SPECIAL[@]}" "${RUST[@]}")
    for name in "${names[@]}"; do build "$name"; done
}

build() {
    case $1 in
    deep) c deep guests/c/deep.c -Wl,-z,stack-size=67108864 ;; # 100,000 frames of its own in linear memory
    setjmp) c setjmp guests/c/setjmp.c "${SJLJ[@]}" ;;
    simd) c simd guests/c/simd.c "${FEATURE[@]}" +simd128 ;;
    tailcall) c tailcall guests/c/tailcall.c "${FEATURE[@]}" +tail-call ;;
    sqlite) sqlite ;;
    sqlite-asyncify) asyncify sqlite ;;
    lua) lua ;;
    quickjs) quickjs ;;
    native) native ;;
    *)
        if [[ -e guests/rust/src/bin/$1.rs ]]; then
            rust "$1"
            return
        fi
        [[ -e guests/c/$1.c ]] || die "no guest is called $1"
        c "$1" "guests/c/$1.c"
        ;;
    esac
}

# c name arguments...: one call of the compiler, by way of a temporary name, so that a failure leaves no half a program.
c() {
    local name=$1
    shift
    up_to_date "$name" && return
    compile "$name" "$@"
}

compile() {
    local name=$1 out=$GUESTS/$1.wasm
    shift
    setup_zig
    say "building $name"
    "$ZIG" cc "${CFLAGS[@]}" "$@" -o "$out.part.wasm" || die "$name does not build"
    without_debug "$out.part.wasm"
    chmod 644 "$out.part.wasm"
    mv "$out.part.wasm" "$out"
}

# without_debug file: takes the custom sections that are DWARF's out of a module.
without_debug() {
    python3 - "$1" <<'EOF'
import sys

def number(at):
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if byte < 128:
            return value, at

data = open(sys.argv[1], "rb").read()
kept, at = [data[:8]], 8
while at < len(data):
    size, body = number(at + 1)
    end = body + size
    name = b""
    if data[at] == 0:
        length, start = number(body)
        name = data[start : start + length]
    if not name.startswith(b".debug_"):
        kept.append(data[at:end])
    at = end
open(sys.argv[1], "wb").write(b"".join(kept))
EOF
}

# asyncify name: the same program after another transformation for stopping and resuming, binaryen's.
asyncify() {
    local out=$GUESTS/$1-asyncify.wasm
    build "$1"
    [[ ! -e $out || $GUESTS/$1.wasm -nt $out || guests/build.sh -nt $out ]] || return 0
    need_debian binaryen
    say "building $1-asyncify"
    wasm-opt --asyncify -O1 --enable-bulk-memory --enable-sign-ext --enable-nontrapping-float-to-int --enable-mutable-globals \
        --enable-multivalue --enable-reference-types "$GUESTS/$1.wasm" -o "$out.part.wasm" || die "$1 cannot be asyncified"
    mv "$out.part.wasm" "$out"
}

# A program is rebuilt when its own source, any header or script, or this script is newer.
up_to_date() {
    local out=$GUESTS/$1.wasm name=$1 source
    [[ -e $out ]] || return 1
    for source in "${SELF[@]}" "guests/c/$name.c" "guests/c/${name}_main.c" "guests/c/${name}_shell.c" guests/c/*.h \
        guests/c/sjlj.c guests/lua/* guests/js/* guests/sources/Cargo.toml; do
        [[ ! $source -nt $out ]] || return 1
    done
}

# source_of crate: the directory of a crate pinned in guests/sources.
source_of() {
    [[ -n ${SOURCES:-} ]] || SOURCES=$(crate_sources guests/sources) || die "cargo could not fetch the crates in guests/sources"
    local found
    found=$(awk -v crate="$1" '$1 == crate { print $2 }' <<<"$SOURCES")
    [[ -d $found ]] || die "the crate $1 is not where cargo says"
    printf '%s' "$found"
}

SQLITE=(-DSQLITE_OS_OTHER=1 -DSQLITE_THREADSAFE=0 -DSQLITE_TEMP_STORE=3 -DSQLITE_OMIT_LOAD_EXTENSION -DSQLITE_OMIT_WAL
    -DSQLITE_DEFAULT_MEMSTATUS=0 -DSQLITE_OMIT_DEPRECATED -DSQLITE_OMIT_SHARED_CACHE)

sqlite() {
    up_to_date sqlite && return
    local from
    from=$(source_of libsqlite3-sys)/sqlite3
    compile sqlite "${FOREIGN[@]}" -I"$from" guests/c/sqlite_shell.c "$from/sqlite3.c" "${SQLITE[@]}"
}

# Some of them for this machine, in target/guests/native: what `wayfare bench migrate` moves with CRIU.
native() {
    local from name out=$GUESTS/native
    need_debian gcc libc6-dev
    mkdir -p "$out"
    [[ -e $out/sqlite && ! guests/build.sh -nt $out/sqlite ]] && return
    from=$(source_of libsqlite3-sys)/sqlite3
    for name in npb_cg sleeper; do gcc -std=gnu2x -O3 "guests/c/$name.c" -o "$out/$name" -lm || die "$name does not build"; done
    gcc -O3 "${FOREIGN[@]}" -I"$from" guests/c/sqlite_shell.c "$from/sqlite3.c" "${SQLITE[@]}" -o "$out/sqlite" -lm ||
        die "sqlite does not build"
}

# Without io, os and package: what they need (tmpfile, system, dlopen) WASI does not have. The seed is fixed, or the order of
# `pairs` would depend on an address.
lua() {
    up_to_date lua && return
    local from files=() file
    from=$(echo "$(source_of lua-src)"/lua-5.4.*)
    [[ -e $from/lvm.c ]] || die "no Lua 5.4 in the crate lua-src"
    for file in "$from"/*.c; do
        case ${file##*/} in linit.c | liolib.c | loslib.c | loadlib.c | lua.c | luac.c) ;; *) files+=("$file") ;; esac
    done
    compile lua "${FOREIGN[@]}" -I"$from" guests/c/lua_main.c "${files[@]}" -Dl_signalT=int '-Dluai_makeseed(L)=42u' '-Dl_randomizePivot()=0u' "${SJLJ[@]}"
}

quickjs() {
    up_to_date quickjs && return
    local from
    from=$(source_of rquickjs-sys)/quickjs
    compile quickjs "${FOREIGN[@]}" -I"$from" guests/c/quickjs_main.c "$from"/{quickjs,libregexp,libunicode,dtoa}.c -D_GNU_SOURCE \
        -D_WASI_EMULATED_PROCESS_CLOCKS -lwasi-emulated-process-clocks -D_WASI_EMULATED_SIGNAL -lwasi-emulated-signal \
        -Wl,-z,stack-size=1048576
}

# The rustup target where there is one; else the distribution's compiler, with the standard library from source.
rust() {
    local out=$GUESTS/$1.wasm stale='' file
    [[ -e $out ]] || stale=1
    for file in "${SELF[@]}" guests/rust/{Cargo.toml,link.sh} guests/rust/src/*.rs "guests/rust/src/bin/$1.rs"; do
        [[ ! $file -nt $out ]] || stale=1
    done
    [[ $stale ]] || return 0
    say "building $1"
    local tree=$WAYFARE_TARGET/tools/rust-guests
    if has_rustup_target wasm32-wasip1; then
        CARGO_TARGET_DIR=$tree cargo build -q --release --manifest-path guests/rust/Cargo.toml --target wasm32-wasip1 --bin "$1"
    else
        setup_zig
        # Bare paths out of the messages that panics carry, so that the module is the same on every machine.
        CARGO_TARGET_DIR=$tree CARGO_TARGET_WASM32_WASIP1_LINKER=$WAYFARE_ROOT/guests/rust/link.sh ZIG=$ZIG \
            RUSTFLAGS="-Zunstable-options -Clink-self-contained=no -Clinker-flavor=wasm-lld-cc --remap-path-prefix=$WAYFARE_ROOT= \
                --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=" \
            build_std_cargo build -q --release -Zbuild-std=std,panic_abort -Zbuild-std-features= --manifest-path guests/rust/Cargo.toml --target wasm32-wasip1 --bin "$1"
    fi || die "$1 does not build"
    install -m 644 "$tree/wasm32-wasip1/release/$1.wasm" "$out.part.wasm"
    mv "$out.part.wasm" "$out"
}

main "$@"
