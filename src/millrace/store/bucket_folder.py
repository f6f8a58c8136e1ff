"""Keep one bucket's files in its folder: open, install and remove them by key.

Objects lie at their plain paths in the bucket's folder. All else that belongs to the bucket lies in its *private*
folder on the same file system, so that a rename between the two is atomic:

    tmp/        files being written, locked by their writers; a name here is never an object. Where the file system
                spreads folders, they are in folders of this one (draft_folders)
    drafts/     the same, but they outlive their writers (kept_draft)
    spare/      files that replaced objects have left, empty, to be written again (recycled_files); locked, too
    alt/        objects at alternate paths (key_paths)
    meta/       sidecars (facts)
    uploads/    multipart uploads
    config/     bucket configurations
    locks/      files to lock, one for each of 256 groups of keys

No path is followed through a symlink: folders are opened one by one, each in the one before, with O_NOFOLLOW. An object
is installed or removed under an exclusive lock of its key's group. The lock makes "only if it does not exist" and the
move between a plain and an alternate place atomic across processes; readers need no lock, for they look at the plain
place first and an object is only ever replaced by rename.
"""

# Paths are bytes here, as keys are, and pathlib knows only text.
# ruff: noqa: PTH103, PTH106, PTH112, PTH114, PTH116, PTH118

import errno
import fcntl
import os
import secrets
import shutil
import stat as stat_bits
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from millrace.ports.objects import NoSuchBucket, ObjectStoreError
from millrace.store.draft_folders import DraftFolders
from millrace.store.facts import FactsStore
from millrace.store.file_exchange import exchange
from millrace.store.key_paths import alternate_segments, plain_segments

__all__ = ["BucketFolder", "Installed", "MadeOf", "OpenFile"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# O_NONBLOCK: opening a named pipe that somebody put there must not wait for its other end.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.EISDIR})
_TAKEN = frozenset({errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
_IS_FOLDER = frozenset({errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST})
_LOCK_GROUPS = 256
_QUICKLY_FREED_BYTES = 1024 * 1024
"""Up to this many bytes of a replaced file are freed in less time than a hop to a thread takes."""
_RACES = 1000
"""Times that a write makes its folder anew when deletes keep pruning it; each time another process made progress."""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """An object's file, opened for reading; whoever gets it closes the descriptor."""

    descriptor: int
    stat: os.stat_result
    path: bytes


@dataclass(frozen=True, slots=True)
class Installed:
    """What `install_at_once` has done."""

    folder: int
    """The open folder of the object, which the caller syncs and closes."""
    replaced_is_kept: bool
    """Whether the temporary name is now that of the file that was replaced."""


MadeOf = tuple[str, str, str, bytes | None, bool, bool, bool]
"""What a BucketFolder was made of, in the order of its parameters."""


class BucketFolder:
    """The files of one bucket."""

    def __init__(
        self,
        name: str,
        folder: Path,
        private: Path,
        *,
        reserved: bytes | None = None,
        follow_file_links: bool = False,
        use_attributes: bool = True,
        durable: bool = True,
    ) -> None:
        """
        Args:
            name: The bucket's name, for errors.
            folder: Where objects lie.
            private: Where all else lies; made when first needed.
            reserved: A name in `folder` that is no object: the private folder, where it lies inside.
            follow_file_links: Take symlinks to files for objects. For folders that the user named as input.
            use_attributes: Keep facts in extended attributes where they fit.
            durable: Make sure that an installed object survives a power failure.
        """
        self.made_of: MadeOf = (
            name,
            str(folder),
            str(private),
            reserved,
            follow_file_links,
            use_attributes,
            durable,
        )
        self.name = name
        self.folder = os.fsencode(folder)
        self.private = private
        self.reserved = reserved
        self.follow_file_links = follow_file_links
        self.facts = FactsStore(private / "meta", use_attributes=use_attributes)
        self.alternates = os.fsencode(private / "alt")
        self.spares = os.fsencode(private / "spare")
        self._temporaries = DraftFolders(os.fsencode(private / "tmp"))
        self.drafts = os.fsencode(private / "drafts")
        self._locks = os.fsencode(private / "locks")
        self.durable = durable
        self._shared_lock = reserved is not None
        self.file_flags = _FILE & ~os.O_NOFOLLOW if follow_file_links else _FILE

    @classmethod
    def again(cls, made_of: "MadeOf") -> "BucketFolder":
        """Return the same as another one was, in another process."""
        name, folder, private, reserved, follow_file_links, use_attributes, durable = made_of
        return cls(
            name,
            Path(folder),
            Path(private),
            reserved=reserved,
            follow_file_links=follow_file_links,
            use_attributes=use_attributes,
            durable=durable,
        )

    def exists(self) -> bool:
        """Tell whether the bucket is there."""
        try:
            return stat_bits.S_ISDIR(os.stat(self.folder).st_mode)
        except OSError:
            return False

    def find(self, key: bytes) -> OpenFile | None:
        """Open the file of a key, or return None if there is no such object."""
        plain = plain_segments(key, reserved=self.reserved)
        found = None if plain is None else self._open(self.folder, plain)
        return found or self._open(self.alternates, alternate_segments(key))

    def temporary(self, folder: Path | None = None) -> tuple[int, bytes]:
        """Make a file to write to, locked as long as its writer lives; return descriptor and path."""
        if folder is None:
            descriptor, path = self._temporaries.make()
        else:
            inside = os.fsencode(folder)
            os.makedirs(inside, exist_ok=True)
            path = b"%b/%b" % (inside, secrets.token_hex(12).encode())
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor, path

    def open_drafts(self, count: int) -> int:
        """Open the folder for some number of files that the caller makes, under names that nobody else can have."""
        return self._temporaries.open(count)

    @contextmanager
    def lock(self, key: bytes) -> Iterator[None]:
        """Keep others from installing or removing the key, in this and in other processes."""
        descriptor = self._open_lock(key)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def install(self, temporary: bytes, key: bytes, *, guard: Callable[[], None]) -> None:
        """Make a finished file the object of a key, replacing an older one.

        Args:
            temporary: A file made by `temporary`, its facts attached.
            key: The object's key.
            guard: Called when nobody else can change the object; it raises to refuse.

        Raises:
            NoSuchBucket: The bucket is not there, or no longer.
        """
        plain = plain_segments(key, reserved=self.reserved)
        alternate = alternate_segments(key)
        with self.lock(key):
            guard()
            parent = None if plain is None else self._rename(temporary, self.folder, plain)
            if parent is not None:
                self._unlink(self.alternates, alternate)
            else:
                if not self.exists():
                    raise NoSuchBucket(self.name)
                os.makedirs(self.alternates, exist_ok=True)
                parent = self._rename(temporary, self.alternates, alternate)
        if parent is None:
            raise ObjectStoreError(f"{self.name}/{key!r}", "neither its plain nor its alternate place can be written")
        try:
            if self.durable:
                os.fsync(parent)
        finally:
            os.close(parent)

    def install_at_once(
        self, temporary: bytes, key: bytes, *, guard: Callable[[], None], keep: bool
    ) -> Installed | None:
        """Do as `install`, but for the sync, where nothing has to be waited for.

        Args:
            temporary: A file made by `temporary`, its facts attached.
            key: The object's key.
            guard: Called when nobody else can change the object; it raises to refuse.
            keep: Leave a small file that is replaced under the temporary name, rather than free it.

        Returns:
            None, nothing being done, where `install` is to be called from a thread: another one holds the lock, a
            folder has to be made, what is replaced takes long to free, or the plain place is taken.
        """
        plain = plain_segments(key, reserved=self.reserved)
        if plain is None:
            return None
        try:
            parent = self._open_folder(self.folder, plain[:-1])
        except OSError:
            return None
        try:
            exchanged = self.install_into(parent, temporary, key, plain[-1], guard=guard, keep=keep)
        except BaseException:
            os.close(parent)
            raise
        if exchanged is None:
            os.close(parent)
            return None
        return Installed(parent, exchanged)

    def open_parent(self, above: Sequence[bytes], *, make: bool = False) -> int:
        """Open the folder of plain places below folders of these names, to `install_into`."""
        return self._open_folder(self.folder, above, make=make)

    def install_into(
        self, parent: int, temporary: bytes, key: bytes, name: bytes, *, guard: Callable[[], None], keep: bool = False
    ) -> bool | None:
        """Do as `install_at_once` in a folder that is open; return whether the replaced file is kept, None as there."""
        with self.lock_at_once(key) as is_locked:
            if not is_locked:
                return None
            guard()
            old = self._sidecar_owner(parent, name)
            try:
                if old is not None and old.st_size > _QUICKLY_FREED_BYTES:
                    return None
                is_file = old is not None and stat_bits.S_ISREG(old.st_mode)
                exchanged = keep and is_file and exchange(temporary, parent, name)
                if not exchanged:
                    os.rename(temporary, name, dst_dir_fd=parent)
            except OSError:
                return None
            if old is not None:
                self.facts.forget(old)
            if self.has_alternates():
                self._unlink(self.alternates, alternate_segments(key))
            return exchanged

    def lock_group(self, key: bytes) -> int:
        """Return which lock is a key's: whoever holds it for one key holds it for all of its group."""
        return 0 if self._shared_lock else zlib.crc32(key) % _LOCK_GROUPS

    @contextmanager
    def lock_at_once(self, key: bytes) -> Iterator[bool]:
        """Do as `lock` if nobody else has it; yield whether that is so."""
        descriptor = self._open_lock(key)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)

    def has_alternates(self) -> bool:
        """Tell whether any key may have an alternate place; of a key that is locked nobody else makes one."""
        return os.path.isdir(self.alternates)

    def install_locked(
        self, parent: int, drafts: int, draft: bytes, key: bytes, name: bytes, *, has_alternates: bool
    ) -> bool:
        """Do as `install_into` from an open folder, for a key whose lock is held; return False where that is None."""
        old = self._sidecar_owner(parent, name)
        if old is not None and old.st_size > _QUICKLY_FREED_BYTES:
            return False
        try:
            os.rename(draft, name, src_dir_fd=drafts, dst_dir_fd=parent)
        except OSError:
            return False
        if old is not None:
            self.facts.forget(old)
        if has_alternates:
            self._unlink(self.alternates, alternate_segments(key))
        return True

    def remove(self, key: bytes, *, guard: Callable[[], None]) -> bool:
        """Remove the object of a key, and folders that it leaves empty; return whether it was there.

        `guard` is called when nobody else can change the object; it raises to refuse.
        """
        plain = plain_segments(key, reserved=self.reserved)
        with self.lock(key):
            guard()
            # The alternate first: were it the other way round, a reader between the two would see an older object.
            was_alternate = self._unlink(self.alternates, alternate_segments(key))
            return (plain is not None and self._unlink(self.folder, plain)) or was_alternate

    def clear(self) -> bool:
        """Remove the bucket's folder with whatever empty folders are in it; return False if it holds a file."""
        for top, folders in ((self.folder, [self.folder]), (self.alternates, [self.alternates])):
            for path, names, files in os.walk(top):
                if files or any(os.path.islink(os.path.join(path, name)) for name in names):
                    return False
                folders.extend(os.path.join(path, name) for name in names)
            for path in reversed(folders):
                if path != self.folder:
                    with suppress(OSError):
                        os.rmdir(path)
        try:
            os.rmdir(self.folder)
        except FileNotFoundError:
            raise NoSuchBucket(self.name) from None
        except OSError as error:
            if error.errno in _IS_FOLDER:
                return False
            raise
        shutil.rmtree(self.private, ignore_errors=True)
        return True

    def _open(self, base: bytes, segments: Sequence[bytes]) -> OpenFile | None:
        try:
            if len(segments) == 1:
                descriptor = os.open(b"%b/%b" % (base, segments[0]), self.file_flags)
            else:
                parent = self._open_folder(base, segments[:-1])
                try:
                    descriptor = os.open(segments[-1], self.file_flags, dir_fd=parent)
                finally:
                    os.close(parent)
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise
        stat = os.fstat(descriptor)
        if not stat_bits.S_ISREG(stat.st_mode):
            os.close(descriptor)
            return None
        return OpenFile(descriptor, stat, b"/".join((base, *segments)))

    def _open_folder(self, base: bytes, names: Sequence[bytes], *, make: bool = False) -> int:
        if not names:
            return os.open(base, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # O_NOFOLLOW is about the last name of a path: the base, which is ours, need not be opened by itself.
            descriptor = os.open(b"%b/%b" % (base, names[0]), _FOLDER)
            names = names[1:]
        except FileNotFoundError:
            if not make:
                raise
            descriptor = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
        for name in names:
            try:
                try:
                    inner = os.open(name, _FOLDER, dir_fd=descriptor)
                except FileNotFoundError:
                    if not make:
                        raise
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=descriptor)
                    if self.durable:
                        os.fsync(descriptor)
                    inner = os.open(name, _FOLDER, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = inner
        return descriptor

    def _rename(self, temporary: bytes, base: bytes, segments: Sequence[bytes]) -> int | None:
        """Move a file to its place; return its folder's descriptor, or None if the place is taken by something else."""
        for _ in range(_RACES):
            try:
                parent = self._open_folder(base, segments[:-1], make=True)
            except OSError as error:
                if error.errno in _TAKEN:
                    return None
                if error.errno != errno.ENOENT:
                    raise
                if not self.exists():
                    raise NoSuchBucket(self.name) from None
                continue  # a delete pruned the folder that we had just made
            try:
                old = self._sidecar_owner(parent, segments[-1])
                os.rename(temporary, segments[-1], dst_dir_fd=parent)
            except OSError as error:
                try:
                    if error.errno == errno.ENOENT:
                        os.stat(temporary)  # it is the folder that is gone, not our own file
                        continue
                    if error.errno not in _IS_FOLDER:
                        raise
                    try:
                        os.rmdir(segments[-1], dir_fd=parent)  # an empty folder is nobody's object
                    except FileNotFoundError:
                        continue
                    except OSError:
                        return None
                finally:
                    os.close(parent)
            else:
                if old is not None:
                    self.facts.forget(old)
                return parent
        raise ObjectStoreError(self.name, f"the folder of {b'/'.join(segments)!r} was removed {_RACES} times")

    def _unlink(self, base: bytes, segments: Sequence[bytes]) -> bool:
        try:
            parent = self._open_folder(base, segments[:-1])
        except OSError as error:
            if error.errno in _NOT_THERE:
                return False
            raise
        try:
            old = os.stat(segments[-1], dir_fd=parent, follow_symlinks=False)
            if stat_bits.S_ISDIR(old.st_mode):
                return False
            os.unlink(segments[-1], dir_fd=parent)
        except OSError as error:
            if error.errno in _NOT_THERE:
                return False
            raise
        finally:
            os.close(parent)
        self.facts.forget(old)
        for depth in range(len(segments) - 1, 0, -1):
            try:
                os.rmdir(b"/".join((base, *segments[:depth])))
            except FileNotFoundError:
                continue  # another delete pruned it; its parent may still be ours to prune
            except OSError:
                break
        return True

    def _sidecar_owner(self, parent: int, name: bytes) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=parent, follow_symlinks=False)
        except OSError:
            return None

    def _open_lock(self, key: bytes) -> int:
        if self._shared_lock:  # a user's own folder gets no lock files: one lock, on the folder
            try:
                return self._open_folder(self.folder, ())
            except FileNotFoundError:
                raise NoSuchBucket(self.name) from None
        path = b"%b/%02x" % (self._locks, zlib.crc32(key) % _LOCK_GROUPS)
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            if not self.exists():
                raise NoSuchBucket(self.name) from None
            os.makedirs(self._locks, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
