import platform
import subprocess
import sys

import pytest

from posestill.engine import allocator

FAULTS = """
import resource, sys
import torch
from posestill.engine.allocator import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
for _ in range(16):
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 2**24 * 4 // 4096
"""of the tensor, which is 64 MiB"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone can be told")
def test_the_pages_of_a_freed_tensor_serve_the_next_one():
    def faults(way):
        asked = [sys.executable, "-c", FAULTS, way]
        return int(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)

    assert faults("kept") < PAGES / 10 < 5 * PAGES < faults("default")


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    assert not allocator.keep_freed_memory()
