"""What an exception means."""

import errno
import os

import pytest

from lorasweep.core.errors import ConfigError, DatasetError, Problem
from lorasweep.core.records import Status
from lorasweep.sweep.retry import is_disk_full, one_line, status_of


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError(Problem("adapter.dim", "must be >= 1")), Status.INVALID),
        (DatasetError(Problem("0001.png", "is broken")), Status.INVALID),
        (MemoryError(), Status.OUT_OF_MEMORY),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), Status.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: out of memory"), Status.OUT_OF_MEMORY),
        (
            RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            Status.OUT_OF_MEMORY,
        ),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), Status.CRASHED),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), Status.CRASHED),
        (ValueError("out of memory"), Status.CRASHED),
        (KeyError("lr"), Status.CRASHED),
    ],
)
def test_whose_fault_it_was(error, status):
    assert status_of(error) is status


def test_torchs_own_allocators_are_known():
    torch = pytest.importorskip("torch")
    assert status_of(torch.OutOfMemoryError("CUDA out of memory")) is Status.OUT_OF_MEMORY
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert status_of(caught.value) is Status.OUT_OF_MEMORY


def test_a_full_disk_is_seen_through_what_was_raised_from_it():
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    outer = RuntimeError("could not save")
    outer.__cause__ = full
    assert is_disk_full(full) and is_disk_full(outer)
    assert is_disk_full(RuntimeError("IoError(Os { code: 28, message: No space left on device })"))
    assert is_disk_full(OSError(errno.EFBIG, os.strerror(errno.EFBIG)))
    assert is_disk_full(RuntimeError("I/O error: File too large (os error 27)"))
    assert not is_disk_full(OSError(errno.EACCES, os.strerror(errno.EACCES)))


def test_safetensors_says_disk_full_in_words_that_are_known(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    np = pytest.importorskip("numpy")
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with pytest.raises(Exception) as caught:  # noqa: B017 - safetensors' own class has no public name
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(numpy.save({"x": np.zeros(4)}))
    assert is_disk_full(caught.value)


def test_one_line_is_one_line():
    assert one_line(ValueError("\n first \n second")) == "ValueError: first"
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert one_line(ConfigError([Problem("a", "x"), Problem("b", "y")])) == "a  x; b  y"
