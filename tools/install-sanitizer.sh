#!/bin/sh
# Installs the pinned compute-sanitizer, which `tools bundle --with-sanitizer` packs, from a Python wheel into a folder, without root, and prints what to set.
# Usage: tools/install-sanitizer.sh [folder]   (default: target/sanitizer)
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-"$root/target/sanitizer"}
if [ ! -d "$folder/nvidia/cu13/bin" ]; then
  mkdir -p "$folder"
  python3 -m pip install --quiet --no-deps --upgrade --target "$folder" nvidia-cuda-sanitizer-api==13.0.85 >&2
fi
echo "export SANITIZER_HOME=$folder/nvidia/cu13"
