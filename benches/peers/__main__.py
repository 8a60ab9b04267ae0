"""This library beside its peers, on the same data in the same process: `python3 benches/peers --library libpeft_kernels.so`."""

import argparse
import json
import sys
import tempfile
import time
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
# What gather.py has brought along, unpacked for as long as the program runs.
UNPACKED = tempfile.TemporaryDirectory()
for archive in sorted((HERE / "gathered").glob("*.zip")):
    zipfile.ZipFile(archive).extractall(UNPACKED.name)
sys.path.append(UNPACKED.name)

import backends  # noqa: E402
import results as schema  # noqa: E402
from family import OURS, load  # noqa: E402
from library import Library, LibraryError  # noqa: E402
from runner import Run  # noqa: E402


def arguments(families):
    parser = argparse.ArgumentParser(prog="peers", description=__doc__)
    parser.add_argument("--library", type=Path, help="the shared library, which `peft-kernels-tools shared` builds")
    parser.add_argument("--family", action="append", choices=sorted(families), help="this family only; can be given several times")
    parser.add_argument("--backend", default="auto", choices=["auto", "cuda", "torch-cpu", "numpy"], help="whose memory; the last two run the emulator")
    parser.add_argument("--shapes", choices=["small", "all"], help="all, on a device only; default there, else small")
    parser.add_argument("--budget", type=float, default=480.0, help="seconds in all, shared by the families")
    parser.add_argument("--rounds", type=int, default=5, help="of each row, at least 3")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="the results, written after every shape")
    parser.add_argument("--validate", type=Path, metavar="RESULTS", help="checks a file of results against the schema, and nothing else")
    parsed = parser.parse_args()
    if parsed.library is None and parsed.validate is None:
        parser.error("--library is missing")
    if parsed.rounds < 3 or parsed.budget <= 0:
        parser.error("at least 3 rounds, and a budget above 0 seconds")
    return parsed


def main():
    families = load()
    options = arguments(families)
    if options.validate:
        schema.validate(json.loads(options.validate.read_text()), schema.schema())
        return 0
    library = Library(options.library.resolve())
    backend = backends.choose(options.backend, options.seed)
    if options.shapes == "all" and not backend.queue_name.startswith("cuda"):
        raise SystemExit("peers: the emulator runs the small shapes only")
    queue = backend.queue()
    if not library.has(queue.kind):
        raise SystemExit(f"{options.library} was built without kernels for {backend.queue_name}")
    library.call("pk_prepare", queue)
    run = Run(options, library, backend)
    run.copy_bandwidth()
    chosen = [families[name] for name in families if not options.family or name in options.family]
    end = time.monotonic() + options.budget
    for i, family in enumerate(chosen):
        run.family(family, (end - time.monotonic()) / (len(chosen) - i))
    run.write()
    rows = run.results["rows"]
    print(f"\n{len(rows)} rows, {len(run.results['skipped'])} skipped, {len(run.results['absent'])} arms absent, {run.failed} failures of ours")
    return 1 if run.failed or not any(row["arm"] == OURS for row in rows) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LibraryError as error:
        sys.exit(f"peers: {error}")
