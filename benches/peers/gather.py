"""Brings along what a machine with a GPU and PyTorch may lack: `python3 benches/peers/gather.py`.

Fills benches/peers/gathered, which git ignores, with the parts of wheels that the peers need, one packed archive each; what is installed is found before them. The pinned versions are those of the report.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "gathered"
LIMIT = 35 << 20
# Name, version, and which files of the wheel.
WHEELS = [
    ("peft", "0.21.2", ["peft/"]),
    ("axolotl", "0.21.0", ["axolotl/__init__.py", "axolotl/kernels/"]),
    ("sglang", "0.5.23", ["sglang/kernels/ops/lora/dense/"]),
    ("bitsandbytes", "0.50.2", ["*.py", "bitsandbytes/libbitsandbytes_cpu.so", "bitsandbytes/libbitsandbytes_cuda130.so", "bitsandbytes/libbitsandbytes_cuda132.so"]),
    ("opacus", "1.6.0", ["opacus/"]),
    ("opt_einsum", "3.4.0", ["opt_einsum/"]),
    ("PyWavelets", "1.9.0", ["pywt/"]),
    ("ptwt", "1.0.1", ["ptwt/"]),
    ("pytorch_wavelets", "1.3.0", ["pytorch_wavelets/"]),
    ("tokenspeed-fast-hadamard-transform", "1.1.0.post20260920", ["fast_hadamard_transform"]),
]


def wanted(file, patterns):
    """Whether a file of a wheel is one of those: it begins so, or ends so after a star. Nobody runs the tests."""
    if "/tests/" in file or file.endswith("/"):
        return False
    return any(file.endswith(pattern[1:]) if pattern.startswith("*") else file.startswith(pattern) for pattern in patterns)


def download(name, version, python, into):
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--python-version", python]
    for platform in ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux_2_24_x86_64", "manylinux2014_x86_64", "any"):
        command += ["--platform", platform]
    subprocess.run([*command, "--dest", str(into), f"{name}=={version}"], check=True)
    return next(Path(into).glob("*.whl"))


def main():
    parser = argparse.ArgumentParser(prog="gather", description=__doc__)
    parser.add_argument("--python", default="3.12", help="of the machine with the GPU")
    parser.add_argument("--output", type=Path, default=FOLDER)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    gathered = {}
    for name, version, patterns in WHEELS:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                wheel = download(name, version, options.python, scratch)
            except subprocess.CalledProcessError:
                print(f"{name} {version} cannot be had: its arm will be absent", file=sys.stderr)
                continue
            packed = zipfile.ZipFile(options.output / f"{name}.zip", "w", zipfile.ZIP_LZMA)
            with zipfile.ZipFile(wheel) as archive, packed:
                files = [file for file in archive.namelist() if wanted(file, patterns)]
                for file in files:
                    packed.writestr(file, archive.read(file))
            gathered[name] = version
            print(f"{name} {version}: {len(files)} files")
    (options.output / "versions.json").write_text(json.dumps(gathered))
    size = sum(file.stat().st_size for file in options.output.iterdir())
    print(f"{options.output}: {size / 2**20:.1f} MiB")
    if size > LIMIT:
        raise SystemExit(f"more than {LIMIT >> 20} MiB")


if __name__ == "__main__":
    main()
