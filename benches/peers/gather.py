"""Brings along what a machine with a GPU and PyTorch may lack: `python3 benches/peers/gather.py`.

Fills benches/peers/gathered, which git ignores, with the parts of wheels that the peers need; what is there is found before anything else is asked for. The pinned versions are those of the report.
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
# Name, version, and which files of the wheel: those that begin so.
WHEELS = [
    ("peft", "0.21.2", ["peft/"]),
    ("axolotl", "0.21.0", ["axolotl/__init__.py", "axolotl/kernels/"]),
    ("sglang", "0.5.23", ["sglang/kernels/ops/lora/dense/"]),
]


def download(name, version, python, into):
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--python-version", python]
    for platform in ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux2014_x86_64", "any"):
        command += ["--platform", platform]
    subprocess.run([*command, "--dest", str(into), f"{name}=={version}"], check=True)
    return next(Path(into).glob(f"{name}-*.whl"))


def main():
    parser = argparse.ArgumentParser(prog="gather", description=__doc__)
    parser.add_argument("--python", default="3.12", help="of the machine with the GPU")
    parser.add_argument("--output", type=Path, default=FOLDER)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    gathered = {}
    for name, version, wanted in WHEELS:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                wheel = download(name, version, options.python, scratch)
            except subprocess.CalledProcessError:
                print(f"{name} {version} cannot be had: its arm will be absent", file=sys.stderr)
                continue
            with zipfile.ZipFile(wheel) as archive:
                files = [file for file in archive.namelist() if any(file.startswith(start) for start in wanted)]
                archive.extractall(options.output, files)
            gathered[name] = version
            print(f"{name} {version}: {len(files)} files")
    (options.output / "versions.json").write_text(json.dumps(gathered))
    size = sum(file.stat().st_size for file in options.output.rglob("*") if file.is_file())
    print(f"{options.output}: {size / 2**20:.1f} MiB")
    if size > LIMIT:
        raise SystemExit(f"more than {LIMIT >> 20} MiB")


if __name__ == "__main__":
    main()
