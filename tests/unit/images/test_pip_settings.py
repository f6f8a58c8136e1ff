"""Which of the building user's settings the pip of a RUN gets."""

import os
from pathlib import Path

import pytest

from millrace.images.pip_settings import find_pip_settings


def test_variables_of_pip_and_proxies_are_handed_on(tmp_path: Path) -> None:
    """Nothing else of the environment is, credentials least of all."""
    environ = {"PIP_INDEX_URL": "https://index.example/simple", "https_proxy": "p", "AWS_SECRET_ACCESS_KEY": "s"}
    settings = find_pip_settings({**environ, "HOME": "x"}, home=tmp_path)
    assert {"PIP_INDEX_URL", "https_proxy"} <= set(settings.environment)
    assert not {"AWS_SECRET_ACCESS_KEY", "HOME"} & set(settings.environment)


def test_the_users_file_is_lent_with_the_folders_that_it_names(tmp_path: Path) -> None:
    """The wheels of an index stand beside it; what is not there is not lent."""
    wheels, index = tmp_path / "wheels", tmp_path / "mirror" / "simple"
    for folder in (wheels, index, tmp_path / ".config/pip"):
        folder.mkdir(parents=True)
    file = tmp_path / ".config/pip/pip.conf"
    file.write_text(f"[global]\nindex-url = file://{index}\nfind-links =\n  {wheels}\n  {tmp_path}/none\n")
    settings = find_pip_settings({}, home=tmp_path)
    assert settings.environment["PIP_CONFIG_FILE"] == str(file)
    assert {file, wheels, index.parent} <= set(settings.read_only)
    assert tmp_path / "none" not in settings.read_only


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter any home")
def test_a_home_that_may_not_be_entered_has_no_settings(tmp_path: Path) -> None:
    """As that of another user whose environment is still set."""
    home = tmp_path / "home"
    (home / ".config/pip").mkdir(parents=True)
    home.chmod(0)
    assert "PIP_CONFIG_FILE" not in find_pip_settings({}, home=home).environment
