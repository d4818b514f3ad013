"""MNIST from a folder, the cache or the network, and the 8x8 handwritten digits that come with scikit-learn."""

import contextlib
import errno
import functools
import gzip
import importlib.util
import operator
import os
import stat
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["digits", "mnist"]

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")

FILES = {
    "train-images-idx3-ubyte.gz": (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    "train-labels-idx1-ubyte.gz": (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    "t10k-images-idx3-ubyte.gz": (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    "t10k-labels-idx1-ubyte.gz": (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
}
"""What a mirror must send: bytes and SHA-256, as they were published."""

TIMEOUT = (5, 20)
"""Seconds to connect to a mirror, and between two pieces that it sends."""

MOST_DIGITS = 100_000
"""A file that claims more is not read: its header may lie, and inflated it may fill the memory."""

DIGITS_TO_TRAIN = 1437

_LABELS, _IMAGES = 2049, 2051
_PIECE = 1 << 16


class DataError(RuntimeError):
    """The digits cannot be had; the message says which file, what was found, what was expected and what to do."""


class NoData(DataError):
    """MNIST is not on this machine."""


def mnist(train: bool = True, *, size: int | None = None) -> "tuple[Tensor, Tensor]":
    """The first ``size`` digits of MNIST to train or to test, all without; the caller may write into them.

    Images are float32 (n, 1, 28, 28) from 0 to 1, labels int64 (n,), both on the CPU. Raises ValueError where there are
    not so many digits, NoData where MNIST is not on this machine, and DataError where its files are damaged.
    """
    return _take("MNIST", _load_mnist(), train, size, 255)


def digits(train: bool = True, *, size: int | None = None) -> "tuple[Tensor, Tensor]":
    """The first ``size`` of scikit-learn's 8x8 digits: 1,437 to train, the 360 after them to test.

    Images are float32 (n, 1, 8, 8) from 0 to 1, labels int64 (n,), both on the CPU. Raises ValueError where there are
    not so many digits, and DataError where scikit-learn is not installed.
    """
    return _take("the 8x8 set", _load_digits(), train, size, 16)


def prepare() -> bool:
    """Load both data sets, so that they can be had once this process may open no file; what is wrong is told later.

    While the files are as they were, this costs a few calls to the file system. Returns whether anything was read.
    """
    before = _loaded
    for load in (_load_mnist, _load_digits):
        with contextlib.suppress(DataError):
            load()
    return _loaded is not before


def shut() -> None:
    """From now on the data are those that were loaded: a worker knows no folder and may open no file."""
    global _is_shut
    _is_shut = True


def is_there() -> bool:
    """Whether ``mnist`` would find its files; they are not read."""
    try:
        return bool(_look().files)
    except OSError:
        return False


def count_train() -> int:
    """How many digits of MNIST there are to train; 0 where that cannot be read."""
    try:
        seen = _look()
        return _count_digits(seen.files[1][0]) if seen.files else 0
    except (OSError, _Damaged):
        return 0


def tell_source() -> str:
    """Where MNIST comes from and how many digits it has, in a few words; no file is read past its header."""
    try:
        seen = _look()
        if not seen.files:
            return "MNIST is not on this machine"
        place = "the cache" if seen.is_cache else "the folder that EXPLORER_DATA names"
        train, test = (_count_digits(path) for path, *_ in seen.files[1::2])
    except (OSError, _Damaged):
        return "MNIST is on this machine but cannot be read"
    return f"MNIST from {place}: {train:,} digits to train, {test:,} to test"


class _Download:
    """The one download of this process: whose turn it is, and the bytes that are done."""

    turn = threading.Lock()
    done = 0


def download(on_progress: Callable[[int, int], None] | None = None) -> None:
    """Fetch what the cache lacks of MNIST's four files, telling ``on_progress`` the bytes done and those in all.

    Who comes while another thread downloads waits for it and hears its progress. Raises DataError where no mirror
    answers with the right files or the cache cannot be written; a file is in the cache whole or not at all.
    """
    total = sum(size for size, _ in FILES.values())

    def tell() -> None:
        if on_progress:
            on_progress(min(_Download.done, total), total)

    while not _Download.turn.acquire(timeout=0.1):
        tell()
    try:
        _fetch_all(tell)
    finally:
        _Download.turn.release()


def _fetch_all(tell: Callable[[], None]) -> None:
    folder, mirrors = cache_folder(), list(MIRRORS)
    _Download.done = 0
    try:
        os.makedirs(folder, exist_ok=True)
        for name, (size, _) in FILES.items():
            before = _Download.done
            _fetch(name, folder, mirrors, tell)
            _Download.done = before + size
            tell()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            wrong = f"The disk is full: the cache folder {folder} has no room for MNIST. Free some room"
        else:
            wrong = f"The cache folder {folder} cannot be written ({error.strerror or error}). Make it writable"
        raise DataError(f"{wrong}, or name another folder by EXPLORER_CACHE.") from error


def _fetch(name: str, folder: str, mirrors: list[str], tell: Callable[[], None]) -> None:
    """Have one file in the cache, from the first mirror that sends it; one that does not is asked last from then on."""
    import pooch

    pooch.get_logger().disabled = True
    size, sha256 = FILES[name]
    start, tried = _Download.done, []
    answers: list[Any] = []
    get = pooch.HTTPDownloader(
        timeout=TIMEOUT, chunk_size=_PIECE, hooks={"response": lambda answer, **_: answers.append(answer)}
    )

    def write(url: str, path: str, _: Any) -> None:
        # pooch's temporary file is its user's alone, and it becomes the file that other users read.
        os.chmod(path, 0o644)
        try:
            with open(path, "wb") as file:
                get(url, _Counted(file, size, tell), None)
        finally:
            # pooch leaves the connection open where it fails.
            while answers:
                answers.pop().close()

    for mirror in tuple(mirrors):
        _Download.done = start
        try:
            pooch.retrieve(mirror + name, f"sha256:{sha256}", fname=name, path=folder, downloader=write)
            return
        except (OSError, ValueError) as error:
            # The errors of requests are OSErrors too, but those of the disk have a number; pooch takes it from one.
            if getattr(error, "errno", None) is not None or isinstance(error, PermissionError):
                raise
            tried.append(f"{mirror} {_tell_failure(error)}")
            cause = error
        mirrors.remove(mirror)
        mirrors.append(mirror)
    raise DataError(
        f"MNIST could not be downloaded: for {name}, {' and '.join(tried)}. Try again with a network that reaches "
        "them, or set EXPLORER_DATA to a folder that has the four IDX files."
    ) from cause


class _Counted:
    """A file that counts what a mirror sends, and takes no more than was published."""

    def __init__(self, file: BinaryIO, size: int, tell: Callable[[], None]) -> None:
        self._file, self._left, self._tell = file, size, tell

    def write(self, piece: bytes) -> None:
        self._left -= len(piece)
        if self._left < 0:
            raise ValueError("more bytes than the file has")
        self._file.write(piece)
        _Download.done += len(piece)
        self._tell()

    def flush(self) -> None:
        self._file.flush()


def _tell_failure(error: Exception) -> str:
    if not isinstance(error, OSError):
        return "sent another file than the published one (wrong SHA-256)"
    answer = getattr(error, "response", None)
    return f"gave no answer ({type(error).__name__})" if answer is None else f"answered {answer.status_code}"


def cache_folder() -> str:
    """Where downloads are kept: the folder of EXPLORER_CACHE, else the user's cache."""
    return os.path.abspath(os.environ.get("EXPLORER_CACHE") or _usual_cache())


@functools.cache
def _usual_cache() -> str:
    import pooch

    return str(pooch.os_cache("autograd-explorer"))


@dataclass(frozen=True, slots=True)
class _Seen:
    """The four files as a look at the folders found them: path, bytes, time of change, inode; or none."""

    folders: tuple[str, ...]
    files: tuple[tuple[str, int, int, int], ...] = ()

    @property
    def is_cache(self) -> bool:
        return os.path.dirname(self.files[0][0]) == self.folders[-1]


@dataclass(frozen=True, slots=True)
class _Loaded:
    """Images and labels to train, images and labels to test, as bytes; or what is ``wrong`` with their files."""

    seen: _Seen
    arrays: tuple[np.ndarray, ...] = ()
    wrong: str = ""


class _Damaged(Exception):
    """Files that are not what their names say."""

    def __init__(self, paths: tuple[str, ...], expected: str, found: str) -> None:
        self.paths = paths
        verb = "are" if len(paths) > 1 else "is"
        super().__init__(f"{' and '.join(paths)} {verb} damaged or not of MNIST: expected {expected}, found {found}.")


_loaded: _Loaded | None = None
_is_shut = False


def _load_mnist() -> tuple[np.ndarray, ...]:
    """The four arrays of MNIST, read again where the files changed."""
    global _loaded
    try:
        if _is_shut and _loaded is not None:
            raise PermissionError("no file is looked at any more")
        seen = _look()
        if _loaded is None or _loaded.seen != seen:
            _loaded = _read(seen) if seen.files else _Loaded(seen)
    except OSError as error:
        # A worker may open no file: it has what was loaded before.
        if _loaded is None:
            raise DataError(f"MNIST cannot be read: {error}. Let this user read it, or set EXPLORER_DATA.") from error
    if _loaded.wrong:
        raise DataError(_loaded.wrong)
    if not _loaded.arrays:
        raise NoData(
            f"MNIST is not on this machine: its four files are not in {' and not in '.join(_loaded.seen.folders)}. "
            "Download it (python -m explorer.datasets), or set EXPLORER_DATA to a folder that has the four IDX files."
        )
    return _loaded.arrays


def _look() -> _Seen:
    """The files of EXPLORER_DATA where all four are there, else those of the cache. Raises OSError."""
    named = os.environ.get("EXPLORER_DATA")
    folders = ((os.path.abspath(named),) if named else ()) + (cache_folder(),)
    for folder in folders:
        files = tuple(filter(None, (_find_file(folder, name) for name in FILES)))
        if len(files) == len(FILES):
            return _Seen(folders, files)
    return _Seen(folders)


def _find_file(folder: str, name: str) -> tuple[str, int, int, int] | None:
    for path in (os.path.join(folder, name), os.path.join(folder, name.removesuffix(".gz"))):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found = os.stat(path)
            if stat.S_ISREG(found.st_mode):
                return path, found.st_size, found.st_mtime_ns, found.st_ino
    return None


def _read(seen: _Seen) -> _Loaded:
    """Read all four files or none; a bad one of the cache is set aside, so that a download fetches it anew."""
    paths = [path for path, *_ in seen.files]
    try:
        arrays = tuple(_read_file(path) for path in paths)
        for images, labels in (0, 1), (2, 3):
            if len(arrays[images]) != len(arrays[labels]):
                found = f"{len(arrays[images]):,} and {len(arrays[labels]):,}"
                raise _Damaged((paths[images], paths[labels]), "one label for each image", found)
        return _Loaded(seen, arrays)
    except _Damaged as damage:
        if not seen.is_cache:
            advice = "Put the right file there, or set EXPLORER_DATA to another folder."
        elif all([_set_aside(file) for file in seen.files if file[0] in damage.paths]):
            advice = "It was set aside (.bad): download MNIST again."
        else:
            advice = "Remove it, then download MNIST again."
        after = _look()
        return _Loaded(seen if after.files else after, wrong=f"{damage} {advice}")


def _set_aside(file: tuple[str, int, int, int]) -> bool:
    """Rename a bad file; one that a download replaced in the meantime stays."""
    path = file[0]
    with contextlib.suppress(OSError):
        if _find_file(*os.path.split(path)) == file:
            os.replace(path, f"{path}.bad")
        return True
    return False


def _read_file(path: str) -> np.ndarray:
    """The images (n, 28, 28) or labels (n,) of an IDX file as bytes. Raises _Damaged, and OSError."""
    with _open(path) as file:
        shape = _read_shape(file, path)
        wanted = int(np.prod(shape))
        # One byte more, by which a file that is too long is known and gzip comes to its checksum.
        found = file.read(wanted + 1)
    if len(found) != wanted:
        raise _Damaged(
            (path,), f"{wanted:,} bytes for {shape[0]:,} digits", "more" if len(found) > wanted else f"{len(found):,}"
        )
    array = np.frombuffer(found, np.uint8).reshape(shape)
    if len(shape) == 1 and array.max() > 9:
        raise _Damaged((path,), "labels from 0 to 9", f"{array.max()}")
    return array


def _count_digits(path: str) -> int:
    with _open(path) as file:
        return _read_shape(file, path)[0]


@contextlib.contextmanager
def _open(path: str) -> Iterator[BinaryIO]:
    try:
        with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
            yield file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _Damaged((path,), "a whole gzip file", str(error)) from error


def _read_shape(file: BinaryIO, path: str) -> tuple[int, ...]:
    """The header of an IDX file: a magic number, the count, and for images their height and width."""
    magic, dimensions = (_IMAGES, (28, 28)) if "images" in os.path.basename(path) else (_LABELS, ())
    header = file.read(8 + 4 * len(dimensions))
    if len(header) != 8 + 4 * len(dimensions):
        raise _Damaged((path,), f"a header of {8 + 4 * len(dimensions)} bytes", f"{len(header)}")
    found, count, *size = struct.unpack(f">{len(header) // 4}I", header)
    if found != magic:
        raise _Damaged((path,), f"the magic number {magic}", f"{found}")
    if tuple(size) != dimensions:
        raise _Damaged((path,), "images of 28 x 28", " x ".join(map(str, size)))
    if not 1 <= count <= MOST_DIGITS:
        raise _Damaged((path,), f"from 1 to {MOST_DIGITS:,} digits", f"{count:,} in its header")
    return (count, *dimensions)


@functools.cache
def _load_digits() -> tuple[np.ndarray, ...]:
    # Importing sklearn takes a second; its file of digits is all that is wanted.
    package = importlib.util.find_spec("sklearn")
    if package is None:
        raise DataError("The 8x8 digits come with scikit-learn, which is not installed: pip install scikit-learn.")
    path = os.path.join(os.path.dirname(package.origin), "datasets", "data", "digits.csv.gz")
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            table = np.loadtxt(file, np.uint8, delimiter=",").reshape(-1, 65)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"The 8x8 digits cannot be read from {path}: {error}. Install scikit-learn again.") from error
    images, labels, n = table[:, :64].reshape(-1, 8, 8), table[:, 64], DIGITS_TO_TRAIN
    return images[:n], labels[:n], images[n:], labels[n:]


def _take(
    name: str, arrays: tuple[np.ndarray, ...], train: bool, size: int | None, largest: int
) -> "tuple[Tensor, Tensor]":
    import torch

    if not isinstance(train, bool):
        raise TypeError(f"train must be True or False, got {train!r}; a number of digits is size={train!r}")
    images, labels = arrays[:2] if train else arrays[2:]
    if size is not None and not 1 <= operator.index(size) <= len(images):
        part = "train" if train else "test"
        raise ValueError(f"size must be from 1 to {len(images):,}, the digits to {part} of {name}; got {size}")
    pixels = images[:size, None].astype(np.float32)
    pixels /= largest
    return torch.from_numpy(pixels), torch.from_numpy(labels[:size].astype(np.int64))


def _print_progress(done: int, total: int) -> None:
    print(f"\rMNIST: {done / 1e6:.1f} of {total / 1e6:.1f} MB", end="", file=sys.stderr, flush=True)


def main() -> int:
    """Download MNIST and print the folder where it lies; 1 where that fails."""
    try:
        download(_print_progress)
    except DataError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(file=sys.stderr)
    print(cache_folder())
    return 0


if __name__ == "__main__":
    sys.exit(main())
