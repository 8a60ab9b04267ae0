#!/bin/sh
# Installs the pinned libclang, which only `tools bindings` needs, from a Python wheel into a folder, without root, and prints what to set.
# Usage: tools/install-libclang.sh [folder]   (default: target/libclang)
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-"$root/target/libclang"}
if [ ! -e "$folder/clang/native/libclang.so" ]; then
  mkdir -p "$folder"
  python3 -m pip install --quiet --no-deps --upgrade --target "$folder" libclang==18.1.1 >&2
fi
echo "export LIBCLANG_PATH=$folder/clang/native"
