"""The slow tests, each file in a pytest process of its own: `python tests/slow.py`.

Now and then one process for many files ended without a word, and what it had not run yet was lost. A process that ends
before pytest has counted its tests is said to have died, and its file is run once more; a test that fails is not.
"""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "slow and not release"]
COUNTED = re.compile(r"^=*\s*((?:\d+|no) \w+.* in [\d.]+s.*?)\s*=*$", re.MULTILINE)
"""the last line of pytest, which a process that died does not write"""


def main() -> int:
    """Run every file that has slow tests, as many at a time as there are processors; 0 if all passed."""
    files, began, failed = files_by_tests(), time.monotonic(), []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = {pool.submit(run, file): file for file in files}
        try:
            for number, each in enumerate(as_completed(runs), start=1):
                passed, told = each.result()
                failed += [] if passed else [runs[each]]
                print(f"[{number}/{len(files)}] {runs[each]}: {told}", flush=True)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)  # those that run were told by the terminal, too
            raise
    print(f"{len(files) - len(failed)} of {len(files)} files passed in {time.monotonic() - began:.0f} s")
    for file in failed:
        print(f"failed: {file}")
    return int(bool(failed))


def files_by_tests() -> list[str]:
    """The files that have slow tests, those with the most of them first, so that none begins last and takes longest."""
    told = subprocess.run([*PYTEST, "--collect-only", "-o", "addopts=-q"], cwd=ROOT, capture_output=True, text=True)
    counts = Counter(line.split("::")[0] for line in told.stdout.splitlines() if "::" in line)
    if told.returncode != 0 or not counts:
        raise SystemExit(f"{told.stdout}{told.stderr}\nno slow test was found")
    return [file for file, _ in counts.most_common()]


def run(file: str) -> tuple[bool, str]:
    """Whether the tests of a file passed, and what is to be said of them."""
    status, printed = once(file)
    died = ""
    if not COUNTED.search(printed):
        died = f"its process died with status {status} after\n{printed}\nand again: "
        status, printed = once(file)
    counted = COUNTED.findall(printed)
    if status == 0 and counted:
        return True, f"{died}{counted[-1]}"
    return False, f"{died}status {status}\n{printed}"


def once(file: str) -> tuple[int, str]:
    """The status of pytest for one file, and all that it printed."""
    done = subprocess.run(
        [*PYTEST, "--durations", "3", file], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    return done.returncode, done.stdout


if __name__ == "__main__":
    sys.exit(main())
