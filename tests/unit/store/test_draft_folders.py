"""Making new files where the file system finds room for them at once."""

import os
import shutil
from pathlib import Path

from millrace.store.draft_folders import DRAFT_FOLDERS, DraftFolders, spreads_folders


def make(folders: DraftFolders, count: int) -> list[Path]:
    """Make files and close them."""
    paths = []
    for _ in range(count):
        descriptor, path = folders.make()
        os.close(descriptor)
        paths.append(Path(os.fsdecode(path)))
    return paths


def test_files_have_names_of_their_own_within_the_folder(tmp_path: Path) -> None:
    """Many files are made in few folders of a folder, which is made when first needed."""
    top = tmp_path / "private" / "tmp"
    paths = make(DraftFolders(os.fsencode(top)), 600)
    assert len(set(paths)) == 600
    assert all(path.is_file() and path.is_relative_to(top) for path in paths)
    folders = [path for path in top.rglob("*") if path.is_dir()]
    assert len(folders) <= DRAFT_FOLDERS


def test_folders_are_used_only_where_they_are_spread(tmp_path: Path) -> None:
    """A file system that does not spread folders gets all files in one."""
    top = tmp_path / "tmp"
    (path,) = make(DraftFolders(os.fsencode(top)), 1)
    assert (path.parent == top) is not spreads_folders(os.fsencode(top))


def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    """Whoever removes a bucket removes its private folder; a writer of the next bucket of that name makes it anew."""
    folders = DraftFolders(os.fsencode(tmp_path / "tmp"))
    make(folders, 1)
    shutil.rmtree(tmp_path / "tmp")
    (path,) = make(folders, 1)
    assert path.is_file()
