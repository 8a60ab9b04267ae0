"""A run over families: every arm on every shape, within the time there is."""

import sys
import time

import catalog
import results as schema
from clock import interleaved
from family import OURS

# Of a family's time that arms which compile or tune may take to do so.
SLOW_PART = 0.3


class Run:
    def __init__(self, options, library, backend):
        self.options, self.library, self.backend = options, library, backend
        self.results = schema.header(backend, options.seed, options.budget)
        device = self.results["device"]
        self.peaks = device and catalog.peaks(device["name"])
        self.failed = 0

    def skip(self, what, reason):
        self.results["skipped"].append({"what": what, "reason": str(reason)})

    def write(self):
        if self.options.output:
            schema.write(self.results, self.options.output)

    def copy_bandwidth(self):
        nbytes = 1 << (31 if self.backend.queue_name.startswith("cuda") else 26)
        copy = self.backend.copier(nbytes)
        runner = self.backend.clock.runner(1, lambda _: copy())
        (times,) = interleaved([runner], 1, 3)
        rate = nbytes / times["median_ns"] * 1e9
        self.results["copies"].append({"queue": self.backend.queue_name, "bytes": nbytes, "bytes_per_second": rate})

    def family(self, family, seconds):
        end, slow_left = time.monotonic() + seconds, SLOW_PART * seconds
        arms = self.present(family)
        everything = self.options.shapes == "all" or (self.options.shapes is None and self.backend.queue_name.startswith("cuda"))
        longest = 0.0
        for entry in family.shapes():
            if entry.set != "small" and not everything:
                continue
            begin = time.monotonic()
            if end - begin < longest:
                self.skip(f"{entry.name} {entry.types}", f"no time left of {seconds:.0f} s")
                continue
            slow = self.shape(family, entry, [arm for arm in arms if entry.operation in arm.operations], slow_left)
            slow_left -= slow
            longest = max(longest, time.monotonic() - begin - slow)
            self.write()

    def present(self, family):
        """The arms that can take part, and in the results why the others cannot. One name can stand for several, of different operations."""
        arms, absent = [], {}
        for arm in family.arms:
            reason = arm.absent(self.backend)
            if reason is None:
                arms.append(arm)
            else:
                absent.setdefault((arm.name, reason), []).extend(arm.operations)
        for (name, reason), operations in absent.items():
            what = ", ".join(operation.removeprefix(f"{family.name}.") for operation in dict.fromkeys(operations))
            self.results["absent"].append({"what": f"{name} ({family.name}: {what})", "reason": reason})
            print(f"absent: {name}: {reason}")
        return arms

    def refuse_wrong(self, arm, problem, error):
        """A wrong result is no competitor, and no speed."""
        limit = (problem.tolerance if arm.name == OURS else problem.peers_tolerance)(problem.entry)
        if error is not None and not (error["relative"] is not None and error["relative"] <= limit):
            raise ArithmeticError(f"its error is {error['relative']} of the largest value, expected at most {limit:.2e}")

    def shape(self, family, entry, arms, slow_left):
        """All arms on one shape; returns the seconds that slow arms took to prepare."""
        what = f"{entry.name} {entry.types}"
        kind = family.problems[entry.operation]
        whole = kind.work(entry)
        copies, cache = self.backend.rotation(whole[0])
        problem = kind(entry, self.backend, self.library, copies)
        ready, slow = [], 0.0
        for arm in arms:
            reason = arm.unsuited(problem)
            if reason is None and arm.slow and slow_left - slow <= 0:
                reason = "no time left to compile"
            if reason is not None:
                self.skip(f"{arm.name} for {what}", reason)
                continue
            begin = time.monotonic()
            try:
                run = arm.prepare(problem)
                made = run(0)
                error = problem.error(arm.outputs(problem, made)) if arm.whole else None
                self.refuse_wrong(arm, problem, error)
                for copy in range(1, copies):
                    run(copy)
                eager = self.backend.clock.eager_ns(copies, run)
                ready.append((arm, self.backend.clock.runner(copies, run), eager, error))
            except Exception as error:  # Peers are not ours: one that fails is left out, with its reason.
                self.failed += arm.name == OURS
                self.skip(f"{arm.name} for {what}", f"{type(error).__name__}: {error}")
                print(f"{what}: {arm.name}: {type(error).__name__}: {error}", file=sys.stderr)
            if arm.slow:
                slow += time.monotonic() - begin
        times = interleaved([runner for _, runner, _, _ in ready], copies, self.options.rounds)
        ours = next((measured["median_ns"] for (arm, *_), measured in zip(ready, times) if arm.name == OURS), None)
        for (arm, _, eager, error), measured in zip(ready, times):
            nbytes, flops = arm.work(problem, whole)
            row = {
                "family": family.name,
                "operation": entry.operation,
                "shape": entry.name,
                "arm": arm.name,
                "kernel": getattr(arm, "kernel", ""),
                "types": entry.types,
                "extents": entry.extents,
                "queue": self.backend.queue_name,
                "cache": cache,
                "clock": self.backend.clock.name,
                **measured,
                "eager_ns": eager,
                "bytes": nbytes,
                "flops": flops,
                "floor": catalog.floor(self.peaks, nbytes, flops, entry.element_types[0]),
                "error": error,
            }
            row["percent_of_floor"] = row["floor"] and 100 * row["floor"]["ns"] / row["median_ns"]
            self.results["rows"].append(row)
            print(line(row, ours))
        return slow


def line(row, ours):
    """A row for people: time, how many times as long as ours, part of the floor, error."""
    ratio = f"{row['median_ns'] / ours:8.3f}" if ours else " " * 8
    percent = f"{row['percent_of_floor']:6.1f} %" if row["percent_of_floor"] else " " * 8
    error = f"{row['error']['relative']:.2e}" if row["error"] and row["error"]["relative"] is not None else ""
    return f"{row['shape']:40} {row['types']:8} {row['arm']:26} {row['median_ns'] * 1e-3:12.2f} µs {ratio} {percent} {error}"
