"""The digits are whole or not there, each failure says what to do, and a confined process still has them."""

import builtins
import errno
import functools
import gzip
import hashlib
import http.server
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from explorer import datasets
from explorer.datasets import DataError, NoData

ROOT = Path(__file__).resolve().parents[1]
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = NAMES = list(datasets.FILES)


def idx(array: np.ndarray) -> bytes:
    """An array of bytes in the IDX format."""
    return struct.pack(f">{1 + array.ndim}I", 2048 + array.ndim, *array.shape) + array.tobytes()


def small_mnist() -> dict[str, bytes]:
    """Twelve made digits to train and five to test, as the four inflated files."""
    random = np.random.default_rng(0)
    return {
        name: idx(random.integers(0, 256, (count, 28, 28), np.uint8) if is_images else np.arange(count, dtype=np.uint8))
        for (count, is_images), name in zip([(9, True), (9, False), (5, True), (5, False)], NAMES, strict=True)
    }


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Put them there as gzip."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(gzip.compress(content))


def refuse(*_: Any, **__: Any) -> None:
    """What opening a file, or looking at it, does in a confined process."""
    raise PermissionError(errno.EACCES, "Permission denied")


def contents_of(folder: Path) -> set[str]:
    """The names in a folder; none where it does not exist."""
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no EXPLORER_DATA, nothing loaded."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("EXPLORER_CACHE", str(folder))
    monkeypatch.delenv("EXPLORER_DATA", raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(datasets, "_loaded", None)
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small MNIST, named by EXPLORER_DATA."""
    named = tmp_path / "data"
    write_files(named, small_mnist())
    monkeypatch.setenv("EXPLORER_DATA", str(named))
    return named


class Mirror:
    """A web server on this machine: ``files`` is what it sends, ``asked`` counts what it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.pause = 0.0
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2]
                mirror.asked[name] += 1
                time.sleep(mirror.pause)
                content = mirror.files.get(name)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/mnist/"
        self._thread = threading.Thread(target=functools.partial(self._server.serve_forever, 0.01), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Mirror, Mirror]]:
    """Two mirrors that send a small MNIST, and its sizes and SHA-256 as the published ones."""
    made = Mirror(), Mirror()
    files = {name: gzip.compress(content) for name, content in small_mnist().items()}
    for mirror in made:
        mirror.files = dict(files)
    monkeypatch.setattr(datasets, "MIRRORS", tuple(mirror.address for mirror in made))
    published = {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items()}
    monkeypatch.setattr(datasets, "FILES", published)
    yield made
    for mirror in made:
        mirror.close()


def closed_port() -> str:
    """An address where nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{found.getsockname()[1]}/"


# What a program gets.


def test_real_digits_are_the_bytes_of_their_files(shared_mnist: Path) -> None:
    for train, part in ((True, "train"), (False, "t10k")):
        images, labels = datasets.mnist(train)
        assert (images.shape, images.dtype) == ((10_000, 1, 28, 28), torch.float32)
        assert (labels.shape, labels.dtype) == ((10_000,), torch.int64)
        raw = np.frombuffer(
            gzip.decompress((shared_mnist / f"{part}-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8
        )
        assert torch.equal(images.flatten(), torch.tensor(raw) / 255)
        raw = gzip.decompress((shared_mnist / f"{part}-labels-idx1-ubyte.gz").read_bytes())[8:]
        assert labels.tolist() == list(raw)
        assert (images.min(), images.max()) == (0, 1)
    assert datasets.tell_source() == (
        "MNIST from the folder that EXPLORER_DATA names: 10,000 digits to train, 10,000 to test"
    )


def test_published_hashes_are_those_of_the_original_files(shared_mnist: Path) -> None:
    for name in (TEST_IMAGES, TEST_LABELS):
        content = (shared_mnist / name).read_bytes()
        assert datasets.FILES[name] == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("train", [True, False])
def test_small_digits_are_those_of_scikit_learn(train: bool) -> None:
    bunch = pytest.importorskip("sklearn.datasets").load_digits()
    part = slice(None, 1437) if train else slice(1437, None)
    images, labels = datasets.digits(train)
    assert torch.equal(images, torch.tensor(bunch.images[part, None] / 16, dtype=torch.float32))
    assert torch.equal(labels, torch.tensor(bunch.target[part]))
    assert len(labels) == (1437 if train else 360)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)


def test_size_takes_the_first_digits(folder: Path) -> None:
    for take in (datasets.mnist, datasets.digits):
        images, labels = take(size=4)
        assert torch.equal(images, take()[0][:4])
        assert torch.equal(labels, take()[1][:4])
    assert len(datasets.mnist(False, size=5)[1]) == 5


@pytest.mark.parametrize("size", [0, -1, 10])
def test_size_that_is_not_there_is_an_error_that_says_how_many_are(folder: Path, size: int) -> None:
    with pytest.raises(ValueError, match=rf"size must be from 1 to 9, the digits to train of MNIST; got {size}"):
        datasets.mnist(size=size)
    with pytest.raises(ValueError, match=r"from 1 to 360, the digits to test of the 8x8 set; got 361"):
        datasets.digits(False, size=361)


def test_number_of_digits_in_place_of_train_is_an_error(folder: Path) -> None:
    with pytest.raises(TypeError, match="a number of digits is size=1000"):
        datasets.mnist(1000)


def test_each_call_gives_tensors_of_its_own(folder: Path) -> None:
    for take in (datasets.mnist, datasets.digits):
        images, labels = take(size=3)
        kept = images.clone(), labels.clone()
        images.fill_(7)
        labels.fill_(7)
        again = take(size=3)
        assert torch.equal(again[0], kept[0])
        assert torch.equal(again[1], kept[1])


def test_digits_are_on_the_cpu_whatever_the_default_device(folder: Path) -> None:
    with torch.device("meta"):
        tensors = *datasets.mnist(), *datasets.digits()
    assert {tensor.device.type for tensor in tensors} == {"cpu"}


# Where it comes from.


def test_nothing_there_is_an_error_that_says_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not datasets.is_there()
    assert datasets.tell_source() == "MNIST is not on this machine"
    with pytest.raises(NoData, match=r"python -m explorer\.datasets.*set EXPLORER_DATA") as caught:
        datasets.mnist()
    assert str(cache) in str(caught.value)
    monkeypatch.setenv("EXPLORER_DATA", "/no/such/folder")
    with pytest.raises(NoData, match="not in /no/such/folder and not in"):
        datasets.mnist()
    assert len(datasets.digits()[1]) == 1437


def test_folder_is_taken_before_the_cache(folder: Path, cache: Path) -> None:
    other = {name: content for name, content in small_mnist().items()}
    other[TEST_IMAGES], other[TEST_LABELS] = idx(np.zeros((2, 28, 28), np.uint8)), idx(np.zeros(2, np.uint8))
    write_files(cache, other)
    assert len(datasets.mnist(False)[1]) == 5
    (folder / TRAIN_LABELS).unlink()
    assert len(datasets.mnist(False)[1]) == 2
    assert datasets.tell_source() == "MNIST from the cache: 9 digits to train, 2 to test"


def test_files_need_not_be_compressed(folder: Path) -> None:
    for name, content in small_mnist().items():
        (folder / name).unlink()
        (folder / name.removesuffix(".gz")).write_bytes(content)
    assert datasets.is_there()
    assert len(datasets.mnist()[1]) == 9


def test_files_that_change_are_read_again_and_others_are_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read = datasets._read_file
    monkeypatch.setattr(datasets, "_read_file", lambda path: reads.append(path) or read(path))
    datasets.prepare()
    datasets.prepare()
    assert len(datasets.mnist()[1]) == 9
    assert len(reads) == 4
    write_files(folder, {TEST_IMAGES: idx(np.ones((1, 28, 28), np.uint8)), TEST_LABELS: idx(np.ones(1, np.uint8))})
    assert datasets.mnist(False)[1].tolist() == [1]
    assert len(reads) == 8


def test_files_that_appear_are_found(cache: Path) -> None:
    datasets.prepare()
    with pytest.raises(NoData):
        datasets.mnist()
    write_files(cache, small_mnist())
    assert len(datasets.mnist()[1]) == 9


# Files that are not what they should be.

GOOD = small_mnist()
NINE_IMAGES = GOOD[TRAIN_IMAGES]
DAMAGE = {
    "truncated gzip": (TRAIN_IMAGES, gzip.compress(NINE_IMAGES)[:-900], "a whole gzip file"),
    "wrong checksum": (TRAIN_IMAGES, gzip.compress(NINE_IMAGES)[:-8] + bytes(8), "a whole gzip file, found CRC"),
    "text": (TEST_LABELS, b"<html>404</html>", "a whole gzip file, found Not a gzipped file"),
    "empty": (TEST_LABELS, b"", "a header of 8 bytes, found 0"),
    "broken stream": (TEST_IMAGES, gzip.compress(NINE_IMAGES)[:40] + bytes(500), "a whole gzip file"),
    "labels for images": (TRAIN_IMAGES, gzip.compress(GOOD[TRAIN_LABELS]), "a header of 16 bytes, found 17|2051"),
    "images for labels": (TRAIN_LABELS, gzip.compress(NINE_IMAGES), "the magic number 2049, found 2051"),
    "other size": (TEST_IMAGES, gzip.compress(idx(np.zeros((5, 32, 32), np.uint8))), "28 x 28, found 32 x 32"),
    "too short": (TRAIN_IMAGES, gzip.compress(NINE_IMAGES[:-1]), "7,056 bytes for 9 digits, found 7,055"),
    "too long": (TRAIN_IMAGES, gzip.compress(NINE_IMAGES + b"\0"), "7,056 bytes for 9 digits, found more"),
    "no digits": (TEST_LABELS, gzip.compress(idx(np.zeros(0, np.uint8))), "from 1 to 100,000 digits, found 0"),
    "label of 10": (TEST_LABELS, gzip.compress(idx(np.full(5, 10, np.uint8))), "labels from 0 to 9, found 10"),
    "a label too few": (TEST_LABELS, gzip.compress(idx(np.zeros(4, np.uint8))), "one label for each image, found 5"),
    "lying header": (TEST_LABELS, gzip.compress(struct.pack(">2I", 2049, 4_000_000_000)), "100,000 digits, found 4"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_file_of_the_folder_is_told_and_left_alone(folder: Path, damage: str) -> None:
    name, content, said = DAMAGE[damage]
    (folder / name).write_bytes(content)
    datasets.prepare()
    for train in (True, False):
        with pytest.raises(DataError, match=said) as caught:
            datasets.mnist(train)
        assert not isinstance(caught.value, NoData)
        assert str(folder / name) in str(caught.value)
        assert "set EXPLORER_DATA to another folder" in str(caught.value)
    assert (folder / name).read_bytes() == content
    assert contents_of(folder) == set(NAMES)
    write_files(folder, small_mnist())
    assert len(datasets.mnist()[1]) == 9


@pytest.mark.parametrize("damage", ["truncated gzip", "text", "label of 10"])
def test_damaged_file_of_the_cache_is_set_aside_and_fetched_anew(
    cache: Path, mirrors: tuple[Mirror, Mirror], damage: str
) -> None:
    name, content, said = DAMAGE[damage]
    write_files(cache, small_mnist())
    (cache / name).write_bytes(content)
    datasets.prepare()
    assert contents_of(cache) == {*NAMES, f"{name}.bad"} - {name}
    assert (cache / f"{name}.bad").read_bytes() == content
    assert not datasets.is_there()
    for _ in range(2):
        with pytest.raises(DataError, match=f"{said}.*set aside .*download MNIST again"):
            datasets.mnist()
    datasets.download()
    assert len(datasets.mnist()[1]) == 9
    assert mirrors[0].asked[name] == 1


def test_images_and_labels_that_do_not_belong_together_are_both_set_aside(cache: Path) -> None:
    name, content, said = DAMAGE["a label too few"]
    write_files(cache, small_mnist())
    (cache / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        datasets.mnist()
    assert contents_of(cache) == {TRAIN_IMAGES, TRAIN_LABELS, f"{TEST_IMAGES}.bad", f"{TEST_LABELS}.bad"}


def test_damaged_file_that_cannot_be_renamed_is_to_be_removed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(cache, small_mnist())
    (cache / TRAIN_LABELS).write_bytes(b"")
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DataError, match="Remove it, then download MNIST again"):
        datasets.mnist()


def test_file_that_a_download_replaced_in_the_meantime_stays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(cache, small_mnist())
    (cache / TRAIN_LABELS).write_bytes(b"")
    read = datasets._read_file

    def replace_and_read(path: str) -> np.ndarray:
        try:
            return read(path)
        except datasets._Damaged:
            write_files(cache, small_mnist())
            raise

    monkeypatch.setattr(datasets, "_read_file", replace_and_read)
    datasets.prepare()
    assert contents_of(cache) == set(NAMES)
    assert len(datasets.mnist()[1]) == 9


def test_gzip_bomb_is_not_inflated(folder: Path) -> None:
    """300 MB of noughts behind a header of nine digits, and behind one of more digits than are read."""
    code = """
import resource
from explorer import datasets
with open("/proc/self/statm") as file:
    held = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (100 << 20),) * 2)
datasets.prepare()
print(datasets._loaded.wrong)
"""
    if sys.platform != "linux":
        pytest.skip("the memory is bounded and looked up as on Linux")
    noughts = gzip.compress(bytes(10_000_000), 1) * 30
    for count, said in ((9, "found more"), (60_000_000, "60,000,000 in its header")):
        (folder / TRAIN_IMAGES).write_bytes(gzip.compress(struct.pack(">4I", 2051, count, 28, 28)) + noughts)
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert said in done.stdout, done.stderr


# Downloads.


def test_download_fetches_four_files_and_tells_its_progress(
    cache: Path, mirrors: tuple[Mirror, Mirror], capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[tuple[int, int]] = []
    datasets.download(lambda done, total: told.append((done, total)))
    assert contents_of(cache) == set(NAMES)
    assert mirrors[0].asked == Counter(NAMES)
    assert not mirrors[1].asked
    total = sum(len(content) for content in mirrors[0].files.values())
    assert {total for _, total in told} == {total}
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert datasets.is_there()
    assert datasets.tell_source() == "MNIST from the cache: 9 digits to train, 5 to test"
    assert datasets.mnist(False)[1].tolist() == [0, 1, 2, 3, 4]
    assert {(cache / name).stat().st_mode & 0o777 for name in NAMES} == {0o644}
    assert capfd.readouterr() == ("", "")


def test_download_fetches_only_what_the_cache_lacks(cache: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    datasets.download()
    (cache / TEST_LABELS).unlink()
    (cache / TRAIN_LABELS).write_bytes(b"other")
    mirrors[0].asked.clear()
    datasets.download()
    assert mirrors[0].asked == Counter([TRAIN_LABELS, TEST_LABELS])


@pytest.mark.parametrize("content", [b"another file", bytes(100_000), None], ids=["other", "longer", "404"])
def test_next_mirror_is_asked_where_the_first_sends_another_file(
    cache: Path, mirrors: tuple[Mirror, Mirror], content: bytes | None
) -> None:
    mirrors[0].files = dict.fromkeys(NAMES, content)
    datasets.download()
    assert mirrors[1].asked == Counter(NAMES)
    assert mirrors[0].asked == Counter([TRAIN_IMAGES]), "a mirror that failed is asked last"
    assert contents_of(cache) == set(NAMES)


def test_mirror_that_sends_more_than_was_published_does_not_fill_the_disk(
    cache: Path, mirrors: tuple[Mirror, Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    monkeypatch.setattr(datasets._Counted, "flush", lambda self: written.append(self._file.tell()))
    mirrors[0].files = dict.fromkeys(NAMES, bytes(1_000_000))
    datasets.download()
    assert max(written) == max(size for size, _ in datasets.FILES.values())


def test_wrong_hash_from_every_mirror_leaves_nothing_of_the_file(cache: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    for mirror in mirrors:
        mirror.files[TEST_IMAGES] = mirror.files[TEST_IMAGES][::-1]
    with pytest.raises(DataError, match=rf"{TEST_IMAGES}, .*wrong SHA-256\) and .*wrong SHA-256\).*EXPLORER_DATA"):
        datasets.download()
    assert contents_of(cache) == {TRAIN_IMAGES, TRAIN_LABELS}
    with pytest.raises(NoData):
        datasets.mnist()


def test_no_network_is_an_error_that_says_what_was_tried(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = closed_port(), closed_port()
    monkeypatch.setattr(datasets, "MIRRORS", tried)
    with pytest.raises(DataError, match=r"could not be downloaded.*no answer.*set EXPLORER_DATA") as caught:
        datasets.download()
    assert all(address in str(caught.value) for address in tried)
    assert contents_of(cache) == set()


def test_mirror_that_falls_silent_is_given_up(
    cache: Path, mirrors: tuple[Mirror, Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "TIMEOUT", (5, 0.4))
    mirrors[0].pause = 0.6
    datasets.download()
    assert mirrors[1].asked == Counter(NAMES)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_disk_that_takes_no_more_is_an_error_and_leaves_no_file(
    cache: Path, mirrors: tuple[Mirror, Mirror], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write = datasets._Counted.write

    def fail_at_last(self: Any, piece: bytes) -> None:
        write(self, piece[:100])
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(datasets._Counted, "write", fail_at_last)
    said = "disk is full: the cache folder" if number == errno.ENOSPC else r"cannot be written \(Permission denied\)"
    with pytest.raises(DataError, match=f"{said}.*EXPLORER_CACHE") as caught:
        datasets.download()
    assert str(cache) in str(caught.value)
    assert contents_of(cache) == set()
    assert not mirrors[1].asked


def test_cache_that_cannot_be_made_is_an_error(cache: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    cache.write_text("a file")
    with pytest.raises(DataError, match=r"cannot be written \(File exists\).*EXPLORER_CACHE"):
        datasets.download()


def test_two_visitors_at_once_share_one_download(cache: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    mirrors[0].pause = 0.1
    told: list[list[tuple[int, int]]] = [[], []]
    failed: list[BaseException] = []

    def visit(who: int) -> None:
        try:
            datasets.download(lambda *progress: told[who].append(progress))
        except BaseException as error:
            failed.append(error)

    visitors = [threading.Thread(target=visit, args=(who,)) for who in (0, 1)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(20)
    assert not failed
    assert mirrors[0].asked == Counter(NAMES)
    assert told[0][-1] == told[1][-1] == (told[0][0][1],) * 2
    assert all(any(0 < done < total for done, total in heard) for heard in told), "both see it grow"


def test_visitor_who_leaves_hands_the_download_on(cache: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    class Left(BaseException):
        pass

    def leave(done: int, total: int) -> None:
        raise Left

    with pytest.raises(Left):
        datasets.download(leave)
    assert contents_of(cache) == set()
    datasets.download()
    assert contents_of(cache) == set(NAMES)


def test_two_processes_at_once_both_end_well(cache: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    mirrors[0].pause = 0.05
    code = f"""
from explorer import datasets
datasets.MIRRORS, datasets.FILES = {datasets.MIRRORS!r}, {datasets.FILES!r}
datasets.download()
"""
    both = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert contents_of(cache) == set(NAMES)
    assert len(datasets.mnist()[1]) == 9


def test_command_line_downloads_and_prints_the_folder(
    cache: Path, mirrors: tuple[Mirror, Mirror], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert datasets.main() == 0
    out, progress = capsys.readouterr()
    assert out == f"{cache}\n"
    assert progress.startswith("\rMNIST: 0.0 of 0.0 MB")
    monkeypatch.setattr(datasets, "MIRRORS", (closed_port(),))
    (cache / TEST_LABELS).unlink()
    assert datasets.main() == 1
    assert "could not be downloaded" in capsys.readouterr().err


# Processes.


def run_fresh(code: str) -> None:
    """Run it in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_server_that_imports_it_loads_no_library() -> None:
    run_fresh("import sys, explorer.datasets; assert not {'torch', 'sklearn', 'pooch', 'requests'} & {*sys.modules}")


def test_confined_process_has_what_was_loaded_before(folder: Path) -> None:
    run_fresh("""
import builtins, io, os, torch
from explorer import datasets
datasets.prepare()
def refuse(*_, **__):
    raise PermissionError(13, "Permission denied")
builtins.open = io.open = os.open = os.stat = os.scandir = refuse
assert len(datasets.mnist()[1]) == 9
assert datasets.mnist(False, size=2)[0].shape == (2, 1, 28, 28)
assert len(datasets.digits()[1]) == 1437
""")


def test_confined_process_keeps_what_was_loaded_when_the_files_change(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets.prepare()
    os.utime(folder / TRAIN_IMAGES, (1, 1))
    with monkeypatch.context() as confined:
        confined.setattr(builtins, "open", refuse)
        assert len(datasets.mnist()[1]) == 9


def test_confined_process_is_told_what_was_wrong_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / TEST_LABELS).write_bytes(b"")
    datasets.prepare()
    with monkeypatch.context() as confined:
        confined.setattr(os, "stat", refuse)
        confined.setattr(builtins, "open", refuse)
        with pytest.raises(DataError, match="a header of 8 bytes, found 0"):
            datasets.mnist()


def test_folder_that_may_not_be_read_is_an_error_and_no_failure_of_prepare(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "_open", refuse)
    datasets.prepare()
    with pytest.raises(DataError, match=r"MNIST cannot be read: .*Permission denied"):
        datasets.mnist()
    assert datasets.tell_source() == "MNIST is on this machine but cannot be read"


def test_what_is_kept_is_one_byte_for_each_pixel(folder: Path) -> None:
    datasets.prepare()
    images, labels, *_ = datasets._load_mnist()
    assert (images.nbytes, labels.nbytes) == (9 * 784, 9)
