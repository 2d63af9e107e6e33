#!/usr/bin/env bash
# The linker for the Rust guests: zig brings the start files and wasi-libc, which the distribution's rustc comes without.
# Takes clang's arguments as rustc writes them; drops those that zig does not know or has as its own default.
set -euo pipefail
arguments=()
for argument in "$@"; do
    case $argument in
    --target=* | -nodefaultlibs | -Wl,--no-demangle | -Wl,--stack-first) ;;
    *) arguments+=("$argument") ;;
    esac
done
exec "${ZIG:?set by guests/build.sh}" cc -target wasm32-wasi "${arguments[@]}"
