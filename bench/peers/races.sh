#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The races of docs/PERFORMANCE.md: JSON lines into a folder, part by part, and the pictures from them.
#
#     bench/peers/races.sh FOLDER PEERS [PART…]      PEERS as `tenon bench gemm --vs` has them; a part without any is skipped
#     bench/peers/races.sh FOLDER PEERS pictures     then: CAPTION='machine, date, commit' beside it
#
# Every part takes one to two minutes with five peers. $TENON names the command (default: of the build folder), $PYTHON an
# interpreter with torch, ONNX Runtime and matplotlib. All on two threads, but for `small`.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -ge 2 ] || { sed -n '3,9s/^# \?//p' "$0"; exit 2; }
folder=$1 peers=$2
shift 2
[ $# -gt 0 ] || set -- squares squares-4096 odd skinny small batched llm-1 llm-2 llm-3 packed-1 packed-2 packed-3 f64 f64-4096 torch torch-llm onnx bf16 int8
python=${PYTHON:-python3}
mkdir -p "$folder"

# race NAME OPTIONS…: 0.1 s of calls of tenon for each row, five repetitions at least
race() {
    local name=$1
    shift
    "${TENON:-build/bench/tenon}" bench gemm --vs "$peers" --threads 2 --min-time 0.1 --json "$@" >"$folder/$name.jsonl" || echo "$name: see above" >&2
}
# script NAME FILE OPTIONS…
script() {
    local name=$1 file=$2
    shift 2
    "$python" "bench/peers/$file" --tenon "${TENON:-build/bench/tenon}" --threads 2 --seconds 0.6 --json "$@" >"$folder/$name.jsonl"
}
# only WORD…: the peers whose names begin with one of the words
only() {
    peers=$(tr , '\n' <<<"$peers" | grep -E "^($(IFS='|' && echo "$*"))" | paste -sd,)
}
# files NAME…: those parts that have been measured
files() {
    local name
    for name in "$@"; do
        [ ! -s "$folder/$name.jsonl" ] || printf '%s ' "$folder/$name.jsonl"
    done
}
# plot PICTURE FILES OPTIONS…
plot() {
    local picture=$1 files=$2
    shift 2
    # shellcheck disable=SC2086 # words of their own
    "$python" bench/plots/plot.py "$picture" $files --caption "${CAPTION:-}" "$@"
}

part() {
    local peers=$peers
    case $1 in
    squares) race squares --suite squares --m 128..2048*2 ;;
    squares-4096) race squares-4096 --suite squares --m 4096 ;;
    odd) race odd --suite odd ;;
    skinny) race skinny --suite skinny ;;
    small) race small --suite small --threads 1 ;;
    batched) race batched --suite batched ;;
    llm-1) race llm-1 --suite llm --m 1,4,8 ;;
    llm-2) race llm-2 --suite llm --m 16,32,64 ;;
    llm-3) race llm-3 --suite llm --m 128,512 ;;
    packed-1) race packed-1 --suite llm --m 1,4,8 --b prepacked ;;
    packed-2) race packed-2 --suite llm --m 16,32,64 --b prepacked ;;
    packed-3) race packed-3 --suite llm --m 128,512 --b prepacked ;;
    f64) only openblas mkl blis && race f64 --suite squares --m 128..2048*2 --dtype f64 ;;
    f64-4096) only openblas mkl blis && race f64-4096 --suite squares --m 4096 --dtype f64 ;;
    torch) script torch gemm_torch.py --suite squares ;;
    torch-llm) script torch-llm gemm_torch.py --suite llm --layout nt ;;
    onnx) script onnx gemm_onnxruntime.py --suite squares ;;
    bf16) script bf16 gemm_torch.py --suite squares --dtype bf16 ;;
    int8) script int8-torch gemm_torch.py --suite squares --dtype s8 && script int8-onnx gemm_onnxruntime.py --suite squares --dtype u8s8 ;;
    pictures)
        plot ratios "$(files squares squares-4096 torch onnx small batched)" --dtype f32 --way plain -o docs/img/ratios.svg
        plot ratios "$(files odd skinny)" --columns 2 -o docs/img/odd.svg
        plot ratios "$(files llm-{1,2,3} packed-{1,2,3})" --columns 2 -o docs/img/llm.svg
        plot limit "$(files squares squares-4096 f64 f64-4096)" -o docs/img/limit.svg
        plot roofline "$(files llm-{1,2,3} packed-{1,2,3})" --columns 2 -o docs/img/roofline.svg
        ;;
    *) echo "races.sh: no part is called $1" >&2 && exit 2 ;;
    esac
}
for name in "$@"; do
    part "$name"
done
