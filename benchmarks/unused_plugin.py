"""What the plugin costs a pytest run that does not use it: one trivial test, with the plugin and with `-p no:`.

    python benchmarks/unused_plugin.py [--rounds 40] [--python .venv/bin/python] [--limit 30] [--json]

Measure with an environment that has the core dependencies and no more, as `make demo` makes it; what else is
installed there (xdist) runs in both cases. `control` is without the plugin once more: its difference is the noise.
CPU time (user and system) of the whole process is printed beside the time on the wall, since others may be at work.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import in_turn, median, parser, report, spread

WITHOUT = ["-p", "no:celery_chaos"]


def run(python: str, folder: Path, options: list[str]) -> tuple[float, float]:
    """Milliseconds on the wall and of CPU."""
    argv = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(folder)]
    begin = time.monotonic()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"pytest exited with {process.returncode}"
    return (time.monotonic() - begin) * 1000, (used.ru_utime + used.ru_stime) * 1000


def main() -> int:
    options = parser(__doc__, rounds=40, limit=30, unit="ms")
    options.add_argument("--python", default=sys.executable, help="of the environment to measure (default: this one)")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-bench-") as name:
        folder = Path(name)
        (folder / "test_trivial.py").write_text("def test_trivial():\n    assert True\n")
        (folder / "pytest.ini").write_text("[pytest]\n")
        case = functools.partial(run, asked.python, folder)
        found = in_turn(
            {
                "with": functools.partial(case, []),
                "without": functools.partial(case, WITHOUT),
                "control": functools.partial(case, WITHOUT),
            },
            asked.rounds,
            warm=2,
        )
    lines = [f"{'ms':8} {'wall':>7} {'middle half':>12} {'cpu':>7} {'middle half':>12}   medians of {asked.rounds}"]
    for row, values in found.items():
        wall, cpu = ([value[index] for value in values] for index in (0, 1))
        lines.append(f"{row:8} {median(wall):7.1f} {spread(wall):>12} {median(cpu):7.1f} {spread(cpu):>12}")
    # Differences within each round, then their median: a busy minute then falls on neither side.
    added, noise = (
        [median([a[index] - b[index] for a, b in zip(found[one], found[other], strict=True)]) for index in (0, 1)]
        for one, other in (("with", "without"), ("control", "without"))
    )
    base = median([value[1] for value in found["without"] + found["control"]])
    lines.append(
        f"the unused plugin adds {added[0]:.1f} ms on the wall, {added[1]:.1f} ms of CPU (ratio "
        f"{1 + added[1] / base:.3f}); goal {asked.limit:g} ms"
    )
    lines.append(f"noise of this run: {noise[0]:+.1f} ms on the wall, {noise[1]:+.1f} ms of CPU")
    report(asked, lines, {"added_ms": added[0], "added_cpu_ms": added[1], "noise_ms": noise[0]})
    return int(added[1] > asked.limit)


if __name__ == "__main__":
    sys.exit(main())
