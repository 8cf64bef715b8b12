"""Time an epoch over image files that need more memory than they may take: a Markdown table by where pixels come from.

Files are those of an archive of JPEG bytes, or made up. Run from the repository root:
    python -m tests.benchmarks.bench_images --archive ham10000_jpeg_200x150.npz --image-size 128
    python -m tests.benchmarks.bench_images --images 200 --side 2048 --image-size 224
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from common.config import build
from common.data import load_dataset
from common.data.images import decode_all
from common.data.images.encoded import FileImages
from common.data.images.source import ArrayImages, ImageSource

_BATCH = 32


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, help="an .npz with jpeg_… and offset_…; default: made-up photographs")
    parser.add_argument("--images", type=int, help="of the archive, or to make up; default: all, or 500")
    parser.add_argument("--side", type=int, default=1024, help="pixels of a made-up photograph")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--memory", type=int, default=64, help="image-memory, MiB")
    return parser.parse_args(words)


def write_files(options: argparse.Namespace, folder: Path) -> int:
    """Write the files as a data set of one class folder, a tenth of them for testing; return how many."""
    contents = stored(options.archive) if options.archive else made_up(options.images or 500, options.side)
    contents = contents[: options.images]
    for part in ("train", "test"):
        (folder / part / "class").mkdir(parents=True)
    for i, content in enumerate(contents):
        (folder / ("train" if i % 10 else "test") / "class" / f"{i:06}.jpg").write_bytes(content)
    return len(contents)


def stored(path: Path) -> list[bytes]:
    archive = np.load(path)
    found = []
    for key in archive.files:
        if key.startswith("jpeg"):
            data, offsets = archive[key], archive[key.replace("jpeg", "offset")]
            found += [data[start:end].tobytes() for start, end in itertools.pairwise(offsets)]
    return found


def made_up(number: int, side: int) -> list[bytes]:
    rng, found = np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(number):
            small = Image.fromarray(rng.integers(0, 256, (side // 16, side // 16, 3), dtype=np.uint8))
            small.resize((side, side), Image.Resampling.BICUBIC).save(path := Path(folder) / f"{i}.jpg", quality=90)
            found.append(path.read_bytes())
    return found


def epoch(source: ImageSource) -> float:
    """Return milliseconds an image in batches of shuffled rows."""
    rows = np.random.default_rng(0).permutation(len(source))
    began = time.perf_counter()
    for start in range(0, len(rows), _BATCH):
        source.batch(rows[start : start + _BATCH])
    return 1000 * (time.perf_counter() - began) / len(rows)


def row(name: str, opened: Callable[[], ImageSource]) -> None:
    """Print one line: seconds to open, milliseconds an image of the first epoch and of the second."""
    began = time.perf_counter()
    source = opened()
    seconds = time.perf_counter() - began
    print(f"| {name} | {seconds:.1f} | {epoch(source):.3f} | {epoch(source):.3f} |", flush=True)


def main(words: list[str]) -> None:
    options = arguments(words)
    with tempfile.TemporaryDirectory(prefix="fednc-bench-") as name:
        folder = Path(name)
        number, threads = write_files(options, folder / "data"), decode_all.num_threads()
        experiment = build(
            {"dataset": "image-folder", "data-dir": folder / "data", "image-size": options.image_size}
            | {"image-memory": options.memory, "image-cache": folder / "cache"}
        )
        paths = sorted((folder / "data" / "train").rglob("*.jpg"))

        def files() -> FileImages:
            return FileImages(paths, np.zeros(len(paths), np.int64), options.image_size)

        def opened() -> ImageSource:
            load_dataset.__globals__["_load"].cache_clear()  # as in another process
            return load_dataset(experiment).train

        size = number * 3 * options.image_size**2 / 2**20
        print(f"{number} files, {size:.0f} MiB of pixels, {options.memory} allowed; {threads} threads\n")
        print("| pixels | s to open | ms an image, first epoch | second |\n|---|--:|--:|--:|")
        with mock.patch.object(decode_all, "num_threads", lambda: 1):
            row("decoded for each batch, one thread", files)
        row(f"decoded for each batch, {threads} threads", files)
        row("this data set, first run", opened)
        row("this data set, a later run", opened)
        row("all in memory", lambda: _in_memory(files()))


def _in_memory(source: FileImages) -> ArrayImages:
    return source.in_memory()[0]


if __name__ == "__main__":
    main(sys.argv[1:])
