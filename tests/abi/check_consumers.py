#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs outside the tree use tenon the way users do.

installed: installs the build into a temporary root, then builds and runs consumer.c and consumer.cpp by pkg-config, shared and
static. subproject: builds and tests consumer_meson with the source tree as its subproject.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


def run(command, **options):
    print("+", " ".join(map(str, command)), flush=True)
    return subprocess.run([str(part) for part in command], check=True, **options)


def installed(args, folder):
    root = folder / "root"
    run([*args.meson, "install", "-C", args.build, "--no-rebuild", "--destdir", root], stdout=subprocess.DEVNULL)
    found = list(root.rglob("tenon.pc"))
    assert len(found) == 1, f"tenon.pc: {found}"
    environment = dict(os.environ, PKG_CONFIG_LIBDIR=str(found[0].parent), PKG_CONFIG_SYSROOT_DIR=str(root))

    def pkg_config(*what):
        done = run(["pkg-config", *what, "tenon"], env=environment, capture_output=True, text=True)
        return done.stdout.split()

    library = found[0].parent.parent
    programs = [("consumer.c", args.cc.split(), ["-std=c99"]), ("consumer.cpp", args.cxx.split(), ["-std=c++11"])]
    for source, compiler, standard in programs:
        if not compiler:
            continue
        program = folder / "shared"
        command = [*compiler, *standard, "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers", HERE / source]
        run([*command, "-o", program, *pkg_config("--cflags", "--libs")])
        run([program], env=dict(os.environ, LD_LIBRARY_PATH=str(library)))
        if (library / "libtenon.a").exists():
            program = folder / "static"
            libs = [":libtenon.a".join(("-l", "")) if lib == "-ltenon" else lib for lib in pkg_config("--static", "--libs")]
            run([*command, "-o", program, *pkg_config("--cflags"), *libs])
            run([program])


def subproject(args, folder):
    project = folder / "project"
    shutil.copytree(HERE / "consumer_meson", project)
    shutil.copy(HERE / "consumer.c", project)
    (project / "subprojects").mkdir()
    (project / "subprojects" / "tenon").symlink_to(args.source.resolve(), target_is_directory=True)
    options = [f"-Dtenon:{option}=disabled" for option in ("tests", "bench", "examples", "python", "blas", "cuda")]  # CUDA's kernels take minutes
    options.append(f"-Dtenon:cpu={args.cpu}")
    run([*args.meson, "setup", "--buildtype=debug", *options, folder / "build", project])
    run([*args.meson, "test", "-C", folder / "build", "--print-errorlogs", "consumer"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=["installed", "subproject"])
    parser.add_argument("--meson", nargs="+", default=["meson"])
    parser.add_argument("--build", type=pathlib.Path)
    parser.add_argument("--source", type=pathlib.Path)
    parser.add_argument("--cpu", default="auto")
    parser.add_argument("--cc", default="cc")
    parser.add_argument("--cxx", default="")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        {"installed": installed, "subproject": subproject}[args.way](args, pathlib.Path(folder))


if __name__ == "__main__":
    sys.exit(main())
