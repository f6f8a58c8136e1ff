"""What FROM python needs of the machine."""

import sys

import pytest

from millrace.images.problems import StepFailed
from millrace.images.running import check_can_make_python


def test_a_python_without_ensurepip_is_told_with_its_package() -> None:
    """Debian packs what makes environments by itself."""
    check_can_make_python(True)
    with pytest.raises(StepFailed, match=rf"install the package python3\.{sys.version_info.minor}-venv"):
        check_can_make_python(False)
