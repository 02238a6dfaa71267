#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs tests as machine code of an instruction set that this machine lacks: Bochs, an emulator of whole machines that knows AVX-512, boots Debian's
# kernel with busybox and the test programs. SIMDe, which the suite uses, checks what the kernels say; this checks what the compiler made of it,
# cpuid and the saved registers included. By hand, not in CI: a test takes about 250 times its native time.
#
#   scripts/emulated_cpu.sh [-m MODEL] [-l LEVEL] [-e BOCHS] [-b BUILD] [TEST…]
#
#   MODEL   of `bochs -help cpu`: corei7_skylake_x (default; newer ones hang as Debian has them). With a newer Bochs
#           sapphire_rapids, which has VNNI, BF16 and AMX
#   LEVEL   what TENON_CPU is set to in the emulated machine: avx512 (default), amx, avx2, scalar
#   BOCHS   another one than Debian's, built in its source tree with --with-nogui and without the debugger: for AMX, which Debian's does not know.
#           Bochs of August 2026 (git 783b58f) needs two things mended for it: it lacks XFD (two MSRs, two bits of cpuid, #NM), without which Linux
#           gives nobody the tiles, and tdpbusd and its like read signed bytes as unsigned (Bit8u in DPBDUS and its like, cpu/avx/amx.cc)
#   BUILD   a meson build directory of this checkout (default: build/emulated, made if it is missing)
#   TEST    programs of tests/cpu and tests/conformance, without "test_" (default: all but conform_gemm: an hour or two)
#
# Needs a Debian-like machine, x86-64, 1.5 GiB of memory. The machine's output goes to BUILD/emulated_cpu/serial.txt. Status 0: every test passed.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/setup.sh

model=corei7_skylake_x level=avx512 emulator= build=build/emulated
while getopts m:l:e:b: option; do
    case $option in
    m) model=$OPTARG ;;
    l) level=$OPTARG ;;
    e) emulator=$(realpath "$OPTARG") ;;
    b) build=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || set -- cpu_features math conform_{control,softmax,cache,special,bits,parts,attention} softmax_kernels gemm_kernels

tenon_packages gcc meson ninja-build pkg-config check bochs bochs-sdl bochsbios vgabios busybox-static isolinux syslinux-common xorriso cpio

# ---- the programs, and what they are linked with

[ -f "$build/build.ninja" ] || meson setup "$build" -Dpython=disabled -Dbench=disabled -Demulate=disabled >/dev/null
programs=()
for test in "$@"; do
    room=cpu
    [[ $test == conform_* ]] && room=conformance
    programs+=("tests/$room/test_$test")
done
ninja -C "$build" "${programs[@]}" | tail -n 1

work=$build/emulated_cpu root=$build/emulated_cpu/root disc=$build/emulated_cpu/disc
rm -rf "$root" "$disc"
mkdir -p "$root"/{bin,dev,proc,tmp} "$disc"
cp /bin/busybox "$root/bin/"
for tool in sh mount grep sleep poweroff; do
    ln -s busybox "$root/bin/$tool"
done
for program in "${programs[@]}"; do
    cp "$build/$program" "$root/bin/"
    ldd "$build/$program" | grep -o '/[^ ]*'
done | sort -u | while read -r library; do
    # The loader has its own place; everything else is found in /lib.
    [[ $library == */ld-linux* ]] && place=$root$library || place=$root/lib/${library##*/}
    install -D "$library" "$place"
done
printf '%s\n' "$level" "$@" >"$root/tests"
install -m 755 scripts/emulated_cpu/init.sh "$root/init"
(cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$disc/initrd"

# ---- a disc that boots it: Debian's smallest kernel

if ! compgen -G "$work/kernel/boot/vmlinuz-*" >/dev/null; then
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/ { print $2; exit }')
    mkdir -p "$work/kernel"
    (cd "$work/kernel" && apt-get -qq -o APT::Sandbox::User=root download "$package" && dpkg-deb -x ./*.deb . && rm ./*.deb)
fi
cp "$work"/kernel/boot/vmlinuz-* "$disc/kernel"
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$disc/"
# Debian's Bochs counts the compacted XSAVE area wrong, and the kernel would give up on AVX: it is told to use the plain one. A newer one, as
# sapphire_rapids, hangs with something among the newer features of the kernel itself.
options=clearcpuid=xsavec,xsaves
[ -z "$emulator" ] || options="no5lvl nopcid ibt=off nopku nokaslr clearcpuid=serialize,waitpkg,fsrm,umip,uintr,pks,enqcmd,movdir64b,movdiri"
sed "s/OPTIONS/$options/" scripts/emulated_cpu/isolinux.cfg >"$disc/isolinux.cfg"
xorriso -as mkisofs -quiet -o "$work/disc.iso" -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table "$disc" 2>/dev/null

# ---- the machine

# MODEL, WORK, SCREEN, BIOS and VGABIOS are for scripts/emulated_cpu/bochsrc. Debian's Bochs is built with its debugger, which waits to be told to
# continue; of its displays SDL is the one that needs neither a screen nor a reader (the text display stops when nobody reads its terminal).
export MODEL=$model WORK=$work SDL_VIDEODRIVER=dummy
rm -f "$work/serial.txt"
touch "$work/serial.txt"
cp scripts/emulated_cpu/bochsrc "$work/bochsrc"
if [ -n "$emulator" ]; then
    SCREEN=nogui BIOS=$(dirname "$emulator")/bios/BIOS-bochs-latest VGABIOS=$(dirname "$emulator")/bios/VGABIOS-lgpl/VGABIOS-lgpl-latest.bin \
        "$emulator" -q -f "$work/bochsrc" </dev/null >"$work/console.txt" 2>&1 &
else
    printf 'speaker: enabled=0\nsound: driver=dummy\n' >>"$work/bochsrc" # one without sound doesn't know them
    echo continue >"$work/debugger"
    SCREEN=sdl2 BIOS=/usr/share/bochs/BIOS-bochs-latest VGABIOS=/usr/share/bochs/VGABIOS-lgpl-latest \
        bochs -f "$work/bochsrc" -rc "$work/debugger" </dev/null >"$work/console.txt" 2>&1 &
fi
machine=$!
trap 'kill $machine 2>/dev/null || true' EXIT
SECONDS=0
tail -n +1 -f --pid=$machine "$work/serial.txt" | while IFS= read -r line; do
    printf '%6d s  %s\n' "$SECONDS" "$line"
done
trap - EXIT

passed=$(grep -c '^== .*: passed' "$work/serial.txt" || true)
echo "$passed of $# test programs passed on $model at level $level"
[ "$passed" -eq $# ]
