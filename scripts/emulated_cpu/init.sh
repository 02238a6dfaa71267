#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# First process of the machine that scripts/emulated_cpu.sh starts: runs the programs that /tests lists below a level, then turns the machine off.
mount -t proc none /proc
mount -t devtmpfs none /dev
exec >/dev/ttyS0 2>&1

run_tests() {
    read -r level
    case $level in
    amx) flag=amx_tile ;;
    avx512) flag=avx512dq ;;
    avx2) flag=avx2 ;;
    *) flag=fpu ;;
    esac
    # The programs of tests/cpu take what there is, and would pass.
    if ! grep -qw "$flag" /proc/cpuinfo; then
        echo "this machine has no $level"
        return
    fi
    # One process, no time limits: an emulated second is not a second. The log has a line per test as soon as the test ends.
    export LD_LIBRARY_PATH=/lib CK_FORK=no CK_VERBOSITY=silent CK_LOG_FILE_NAME=/dev/ttyS0
    export TENON_CPU="$level" TENON_TEST_DEVICE=cpu
    while read -r name; do
        echo "== $name"
        "test_$name" </dev/null
        status=$?
        [ $status -eq 0 ] && echo "== $name: passed" || echo "== $name: status $status"
    done
}

run_tests </tests
sleep 1 # until the line has sent everything
poweroff -f
