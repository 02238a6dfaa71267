#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sets up, builds, embeds sample sentences with a real model, and measures this machine for about a minute.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh
tenon_packages gcc meson ninja-build pkg-config python3 python3-venv
tenon_python

build=${TENON_BUILD:-build/demo}
[ -f "$build/build.ninja" ] || meson setup "$build" -Dtests=disabled >/dev/null
meson compile -C "$build" >/dev/null
export TENON_LIBRARY=$PWD/$build/src/libtenon.so PYTHONPATH=$PWD/python
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE

echo "== sentence embeddings with all-MiniLM-L6-v2, every product, softmax and attention by tenon"
"$python" examples/minilm/main.py

echo
echo "== this machine"
"$build/bench/tenon" info
"$build/bench/tenon" peak
"$build/bench/tenon" bench gemm --mnk 512x512x512,1024x1024x1024,1x4096x4096,8x4096x4096
"$build/bench/tenon" bench softmax --rows 4096 --cols 4096
"$build/bench/tenon" bench attention --q-heads 32 --q-len 1024 --k-len 1024 --head-dim 128 --causal
