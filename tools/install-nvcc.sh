#!/bin/sh
# Installs the pinned nvcc (CUDA 13.0) from Python wheels into a folder, without root and without a driver, and prints what to set.
# Usage: tools/install-nvcc.sh [folder]   (default: target/nvcc)
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-"$root/target/nvcc"}
if [ ! -x "$folder/nvcc-13.0" ]; then
  mkdir -p "$folder"
  python3 -m pip install --quiet --no-deps --upgrade --target "$folder" \
    nvidia-cuda-nvcc==13.0.88 'nvidia-cuda-crt==13.0.*' 'nvidia-nvvm==13.0.*' 'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-cccl==13.0.*' >&2
  ln -sf nvidia/cu13/bin/nvcc "$folder/nvcc-13.0"
fi
"$folder/nvidia/cu13/bin/nvcc" --version >&2
echo "export CUDA_HOME=$folder/nvidia/cu13"
