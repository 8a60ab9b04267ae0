"""The schema of results, which Rust's benches share: benches/results.schema.json."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path

import abi
from catalog import BENCHES, peaks

TYPES = {"object": dict, "array": list, "string": str, "number": (int, float), "integer": int, "null": type(None)}


class SchemaError(Exception):
    """Results that are not what the schema says."""


def schema():
    return json.loads((BENCHES / "results.schema.json").read_text())


def validate(value, rule, path="results"):
    """As much of JSON Schema as the schema uses."""
    kinds = rule.get("type")
    if kinds is not None:
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if isinstance(value, bool) or not any(isinstance(value, TYPES[kind]) for kind in kinds):
            raise SchemaError(f"{path} is {value!r}, expected {' or '.join(kinds)}")
    if "const" in rule and value != rule["const"]:
        raise SchemaError(f"{path} is {value!r}, expected {rule['const']!r}")
    if "enum" in rule and value not in rule["enum"]:
        raise SchemaError(f"{path} is {value!r}, expected one of {rule['enum']}")
    if "minimum" in rule and value < rule["minimum"]:
        raise SchemaError(f"{path} is {value!r}, expected at least {rule['minimum']}")
    if isinstance(value, dict):
        known, more = rule.get("properties", {}), rule.get("additionalProperties", True)
        for name in rule.get("required", []):
            if name not in value:
                raise SchemaError(f"{path} has no {name}")
        for name, part in value.items():
            if name not in known and more is False:
                raise SchemaError(f"{path} has {name}, which the schema does not know")
            validate(part, known.get(name, more if isinstance(more, dict) else {}), f"{path}.{name}")
    if isinstance(value, list):
        for i, part in enumerate(value):
            validate(part, rule.get("items", {}), f"{path}[{i}]")


def commit():
    """What was said, or that of the repository that this file is in."""
    said = os.environ.get("PEFT_KERNELS_COMMIT")
    if said is not None:
        return said

    def git(*arguments):
        command = ["git", "-C", str(BENCHES), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        modified = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-modified" if modified else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def host():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} cores"


def versions():
    """Of the peers' packages: those installed, then those that gather.py brought along."""
    gathered = BENCHES / "peers" / "gathered" / "versions.json"
    found = json.loads(gathered.read_text()) if gathered.is_file() else {}
    for name in ("triton", "peft", "axolotl", "sglang", "bitsandbytes", "opacus", "ptwt", "pytorch_wavelets", "PyWavelets", "scipy", "fast_hadamard_transform"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


def header(backend, seed, budget):
    """Results without a row yet."""
    device = backend.device()
    if device is not None:
        known = peaks(device["name"])
        device = {**device, "label": known and known["label"]}
    return {
        "schema": 1,
        "program": "benches/peers",
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit(),
        "library": f"ABI {abi.PK_ABI_VERSION}",
        "host": host(),
        "device": device,
        "software": {"python": platform.python_version(), **versions(), **backend.software()},
        "seed": seed,
        "budget_s": budget,
        "copies": [],
        "rows": [],
        "skipped": [],
        "absent": [],
    }


def write(results, path):
    """One row a line, so that differences can be read. Whole or not at all, so that a run that is cut short leaves what it had."""
    validate(results, schema())
    lists = ("rows", "skipped", "absent")
    head = {name: part for name, part in results.items() if name not in lists}
    text = json.dumps(head, indent=2)[:-2]
    for name in lists:
        lines = ",\n    ".join(json.dumps(part, allow_nan=False) for part in results[name])
        text += f',\n  "{name}": ' + (f"[\n    {lines}\n  ]" if lines else "[]")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text + "\n}\n")
    part.replace(path)
