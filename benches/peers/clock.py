"""How long calls take: on a device by events around replays of a graph, on the host by the wall clock."""

import statistics
import time

# Seconds that a round should take, as far as one call does not take longer.
ROUND = 0.02


class WallClock:
    name = "wall"

    def runner(self, copies, run):
        """What runs every copy `loops` times, and returns the seconds."""

        def elapsed(loops):
            begin = time.perf_counter()
            for _ in range(loops):
                for copy in range(copies):
                    run(copy)
            return time.perf_counter() - begin

        return elapsed

    def eager_ns(self, _copies, _run):
        """The clock of every row is that of eager calls."""
        return None


class GraphClock:
    name = "device"

    def __init__(self, torch):
        self.torch = torch

    def runner(self, copies, run):
        """Captures one call on every copy into a graph. What the calls return stays alive with it."""
        cuda = self.torch.cuda
        # Before a capture everything must have been loaded, tuned and allocated, on the stream that it is captured on.
        for _ in range(3):
            run(0)
        cuda.synchronize()
        graph = cuda.CUDAGraph()
        with cuda.graph(graph, stream=cuda.current_stream()):
            kept = [run(copy) for copy in range(copies)]

        def elapsed(loops, _kept=kept):
            begin, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
            begin.record()
            for _ in range(loops):
                graph.replay()
            end.record()
            end.synchronize()
            return begin.elapsed_time(end) * 1e-3

        return elapsed

    def eager_ns(self, copies, run):
        """Wall time of a call without a graph, host included: the median of three rounds over all copies."""
        rounds = []
        for _ in range(3):
            self.torch.cuda.synchronize()
            begin = time.perf_counter()
            for copy in range(copies):
                run(copy)
            self.torch.cuda.synchronize()
            rounds.append((time.perf_counter() - begin) / copies * 1e9)
        return statistics.median(rounds)


def interleaved(runners, copies, rounds):
    """The times of one call of each arm, in ns. Arms take turns, so that a change of the device's pace meets all of them."""
    loops = []
    for runner in runners:
        runner(1)
        loops.append(min(max(int(ROUND / max(runner(1), 1e-7)), 1), 100_000))
    times = [[] for _ in runners]
    for _ in range(rounds):
        for runner, count, samples in zip(runners, loops, times):
            samples.append(runner(count) / (count * copies) * 1e9)
    return [
        {"median_ns": statistics.median(samples), "lowest_ns": min(samples), "highest_ns": max(samples), "rounds": rounds}
        for samples in times
    ]
