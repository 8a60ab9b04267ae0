#!/bin/sh
# Prints a Python that has numpy, SciPy and PyWavelets: the one in the path, or one in a folder of its own.
# Usage: benches/peers/environment.sh [folder]   (default: target/peers-python)
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
if python3 -c 'import numpy, pywt, scipy.linalg' 2>/dev/null; then
  command -v python3
  exit
fi
folder=${1:-"$root/target/peers-python"}
if [ ! -x "$folder/bin/python3" ]; then
  python3 -m venv "$folder" >&2
fi
"$folder/bin/python3" -c 'import numpy, pywt, scipy.linalg' 2>/dev/null || "$folder/bin/python3" -m pip install --quiet 'numpy==2.*' 'scipy==1.*' 'PyWavelets==1.*' >&2
echo "$folder/bin/python3"
