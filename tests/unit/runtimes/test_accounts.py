"""Who an image's USER is."""

from pathlib import Path

import pytest

from millrace.errors import ImageUnavailable
from millrace.runtimes.accounts import find_account


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nshop:x:7:8::/home/shop:/bin/sh\nbroken\n")
    (tmp_path / "etc" / "group").write_text("root:x:0:\nstaff:x:50:\n")
    return tmp_path


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (None, (0, 0, "/root")),
        ("", (0, 0, "/root")),
        ("shop", (7, 8, "/home/shop")),
        ("7", (7, 8, "/home/shop")),
        ("shop:staff", (7, 50, "/home/shop")),
        ("shop:12", (7, 12, "/home/shop")),
        ("1000", (1000, 0, "/")),
        ("1000:staff", (1000, 50, "/")),
    ],
)
def test_users_are_named_by_name_or_number(root: Path, user: str | None, expected: tuple[int, int, str]) -> None:
    """As Docker's USER; a number needs no entry, and has the group 0 then."""
    account = find_account(user, [root])
    assert (account.user, account.group, account.home) == expected


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("bob", "no user 'bob'"),
        ("shop:clerks", "no group 'clerks'"),
        ("²", "no user '²'"),
        ("7:²", "no group '²'"),
    ],
)
def test_names_that_are_not_there_are_told(root: Path, user: str, message: str) -> None:
    """With the instruction as it stands."""
    with pytest.raises(ImageUnavailable, match=rf"USER {user}: .*{message}"):
        find_account(user, [root])


def test_the_highest_layer_that_has_the_file_counts(root: Path, tmp_path: Path) -> None:
    """It hides the files below it."""
    top = tmp_path / "top"
    (top / "etc").mkdir(parents=True)
    (top / "etc" / "passwd").write_text("shop:x:70:80::/srv:/bin/sh\n")
    assert find_account("shop", [top, root]).user == 70
    assert find_account("shop:staff", [top, root]).group == 50


def test_a_link_in_an_image_is_not_followed(root: Path, tmp_path: Path) -> None:
    """It would lead to a file of this machine."""
    top = tmp_path / "top"
    (top / "etc").mkdir(parents=True)
    (top / "etc" / "passwd").symlink_to("/etc/passwd")
    assert find_account("shop", [top, root]).user == 7
