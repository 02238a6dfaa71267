#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that wants a GPU, on a machine that has one: builds, runs the conformance suite on the real driver, a part of it under compute-sanitizer,
# checks the machine code, measures products and attention beside cuBLASLt (through torch) and torch's attention, and writes a report.
#
#     tests/gpu.sh [FOLDER [PART…]]      FOLDER for the report and all logs (gpu-report); PARTs: conformance sanitizer code races example (all)
#
# Needs nvcc with cuda.h, a driver, meson, Check. Races want an interpreter with torch for CUDA ($PYTHON, python3); the code check wants cuobjdump; the
# sanitizer part compute-sanitizer (of the toolkit). What is missing is said in the report. $DEVICE is the device (cuda:0), $BUILD the build folder (build-gpu).
# Ends with 1 if something that ran has failed.
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD folder=${1:-gpu-report}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- conformance sanitizer code races example
mkdir -p "$folder" && folder=$(cd "$folder" && pwd)
build=${BUILD:-build-gpu} python=${PYTHON:-python3} device=${DEVICE:-cuda:0} report=$folder/report.md failed=0
id=${device%:0} # as the device list has it

say() { printf '%s\n' "$@" | tee -a "$report"; }
# step NAME COMMAND…: its output is NAME.log, its end a line of the report
step() {
    local name=$1 start=$SECONDS
    shift
    "$@" >"$folder/$name.log" 2>&1
    case $? in
    0) say "| $name | passed | $((SECONDS - start)) s |" ;;
    77) say "| $name | skipped | $(tail -n 1 "$folder/$name.log") |" ;;
    *) failed=1 && say "| $name | **failed** | $name.log: $(tail -n 1 "$folder/$name.log" | cut -c1-120) |" ;;
    esac
}
wanted() { local p; for p in "${parts[@]}"; do [ "$p" = "$1" ] && return 0; done; return 1; }
parts=("$@")

: >"$report"
say "# CUDA on $(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -n 1 || echo 'an unknown device')" "" \
    "$(date -u +%F), commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), $(nvcc --version 2>/dev/null | sed -n 's/.*release //p')" ""
{
    [ -d "$build" ] || meson setup "$build" -Dcuda=enabled
    ninja -C "$build"
} >"$folder/build.log" 2>&1 || { say "The build failed: build.log."; exit 1; }
unset TENON_CUDA_LIBRARY
export TENON_OPENCL_LIBRARY=
say '```' "$("$build/bench/tenon" info | sed -n '/^cuda/,/^$/p')" '```' "" "| step | | |" "|---|---|---|"

# One process per program: CUDA does not survive the fork that each test would run after.
conform() { TENON_TEST_DEVICE=$id CK_FORK=no "$@"; }
if wanted conformance; then
    for name in gemm blocks quantize softmax attention cache special bits parts; do
        step "conform_$name" conform "$build/tests/conformance/test_conform_$name"
    done
    step same_bits env PYTHONPATH="$root/python" TENON_LIBRARY="$root/$build/src/libtenon.so" "$python" tests/cuda/check_same_bits.py --device "$device"
fi
if wanted sanitizer; then
    if command -v compute-sanitizer >/dev/null; then
        # The whole suite would take hours; cache and softmax with every tool, products and attention with the memory checker.
        for name in cache softmax; do
            for tool in memcheck racecheck initcheck synccheck; do
                step "${tool}_$name" conform compute-sanitizer --tool "$tool" --error-exitcode 1 "$build/tests/conformance/test_conform_$name"
            done
        done
        for name in gemm attention; do
            step "memcheck_$name" conform timeout 3600 compute-sanitizer --error-exitcode 1 "$build/tests/conformance/test_conform_$name"
        done
    else
        say "| sanitizer | skipped | no compute-sanitizer |"
    fi
fi
if wanted code; then
    step machine_code "$python" tests/cuda/check_machine_code.py "$build/src/cuda" --table "$folder/machine_code.md"
fi
if wanted example; then
    step minilm env PYTHONPATH="$root/python" TENON_LIBRARY="$root/$build/src/libtenon.so" "$python" examples/minilm/main.py --device "$device"
fi
if wanted races; then
    step races env PYTHONPATH="$root/python" TENON_LIBRARY="$root/$build/src/libtenon.so" "$python" bench/peers/cuda_races.py --device "$device" --markdown "$folder/races.md"
    [ -f "$folder/races.md" ] && say "" "$(cat "$folder/races.md")"
fi
say "" "Logs of all steps lie beside this report."
exit $failed
