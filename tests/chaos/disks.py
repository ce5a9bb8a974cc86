"""What lies on the disks of a run: changed only while nothing that uses it runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from chaos.world import World
    from helpers.postgres import Cluster

SMALL = "24m"


# A store that goes back in time


def save_store(world: World) -> Path:
    """Copies the store as it is on disk, everything that writes to it being down."""
    copy = world.folder / "older-store"
    shutil.rmtree(copy, ignore_errors=True)
    if world.cluster:
        with _standing_still(world.cluster):
            shutil.copytree(world.cluster.folder / "data", copy, copy_function=_copied)
        return copy
    copy.mkdir()
    for file in world.data.glob("store.sqlite*"):
        shutil.copy2(file, copy / file.name)
    return copy


def restore_store(world: World, copy: Path) -> None:
    """Puts an older copy of the store in place."""
    if world.cluster:
        with _standing_still(world.cluster):
            data = world.cluster.folder / "data"
            owner = data.stat()
            shutil.rmtree(data)
            shutil.copytree(copy, data, copy_function=_copied)
            for path in (data, *data.rglob("*")):
                os.chown(path, owner.st_uid, owner.st_gid)
        return
    for file in world.data.glob("store.sqlite*"):
        file.unlink()
    for file in copy.iterdir():
        shutil.copy2(file, world.data / file.name)


@contextlib.contextmanager
def _standing_still(cluster: Cluster) -> Iterator[None]:
    cluster.stop("fast")
    try:
        yield
    finally:
        cluster.start()


def _copied(source: str, target: str) -> str:
    return str(shutil.copy2(source, target))


# A folder that is copied while it is in use


def copy_folder(folder: Path) -> Path:
    """Copies an agent's folder as somebody does who does not stop it; returns the copy."""
    number = len(list(folder.parent.glob(f"{folder.name}.copy-*")))
    copy = folder.with_name(f"{folder.name}.copy-{number}")
    # What went while it was copied is not in the copy.
    with contextlib.suppress(shutil.Error):
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("news"))
    return copy


# A disk that loses what was not synced


def lose_pages(folder: Path) -> int:
    """Makes an agent's journal what a power loss may leave of it; returns how many bytes went."""
    journal = folder / "journal"
    previous = journal.with_name("journal.previous")
    if previous.exists():
        previous.replace(journal)
    durable = 0
    with contextlib.suppress(FileNotFoundError):
        for line in journal.with_name("journal.durable").read_text().splitlines():
            inode, size = map(int, line.split())
            if inode == journal.stat().st_ino:
                durable = size
    lost = journal.stat().st_size - durable
    if lost > 0:
        os.truncate(journal, durable)
    return lost


# A disk that is full


def mount_small(folder: Path) -> None:
    """Gives a folder a file system of its own, which is soon full."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ("mount", "-t", "tmpfs", "-o", f"size={SMALL}", "chaos", str(folder))
    subprocess.run(mount, check=True, capture_output=True)


def keep_small(folders: Iterable[Path]) -> None:
    """Keeps what lies on small file systems, and ends those."""
    for folder in folders:
        if not folder.is_mount():
            continue
        kept = folder.with_name(f"{folder.name}.kept")
        shutil.copytree(folder, kept, ignore=shutil.ignore_patterns("news"))
        subprocess.run(("umount", "-l", str(folder)), check=True)
        shutil.rmtree(folder)
        kept.rename(folder)


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Leaves no byte free on a folder's file system for as long as the context lasts."""
    filling = folder / "filling"
    with contextlib.suppress(OSError), filling.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    try:
        yield
    finally:
        filling.unlink()


def mount_refused() -> str:
    """Returns why a small file system cannot be made here; empty when it can."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            mount_small(Path(folder))
        except (OSError, subprocess.CalledProcessError):
            return "this account may not mount the small file systems that fill up"
        subprocess.run(("umount", "-l", folder), check=True)
    return ""
