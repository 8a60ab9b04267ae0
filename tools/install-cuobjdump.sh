#!/bin/sh
# Installs the pinned cuobjdump, which only `tools ledger` needs, from a Python wheel into a folder, without root, and prints what to set. It is newer than the pinned nvcc, for which no
# wheel of it exists, and reads its machine code.
# Usage: tools/install-cuobjdump.sh [folder]   (default: target/cuobjdump)
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-"$root/target/cuobjdump"}
if [ ! -x "$folder/nvidia/cu13/bin/cuobjdump" ]; then
  mkdir -p "$folder"
  python3 -m pip install --quiet --no-deps --upgrade --target "$folder" nvidia-cuda-cuobjdump==13.2.86 nvidia-cuda-nvdisasm==13.2.86 >&2
  chmod +x "$folder/nvidia/cu13/bin/cuobjdump" "$folder/nvidia/cu13/bin/nvdisasm"
fi
"$folder/nvidia/cu13/bin/cuobjdump" --version >&2
echo "export CUOBJDUMP=$folder/nvidia/cu13/bin/cuobjdump"
