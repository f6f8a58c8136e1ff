"""What instructions without files do to an image."""

from typing import Any

import pytest

from millrace.images.parser import parse_dockerfile
from millrace.images.recorded import BadRecord
from millrace.images.stages import find_needed, find_stray_arguments, find_target, global_arguments
from millrace.images.state import BuildState, apply
from millrace.images.substitution import BadWord
from millrace.ports.images import ImageConfig


def build(lines: str, **given: str) -> BuildState:
    """Carry out the instructions of a Dockerfile with one stage."""
    dockerfile = parse_dockerfile(lines)
    before = global_arguments(dockerfile, given, file="Dockerfile")
    state = BuildState(base="debian", config=ImageConfig(environment={"PATH": "/bin"}, command=("bash",)))
    for instruction in dockerfile.stages[0].instructions:
        assert apply(state, instruction, given=given, before_from=before)
    return state


def test_variables_of_one_line_see_the_old_values() -> None:
    """As Docker has it: they are set together."""
    state = build("FROM debian\nENV a=old\nENV a=new b=$a PATH=/x:$PATH")
    assert state.config.environment == {"PATH": "/x:/bin", "a": "new", "b": "old"}


def test_arguments_are_seen_where_they_are_declared() -> None:
    """ENV wins over them, values given over defaults, those before FROM only where they are named again."""
    state = build("ARG a=1\nARG b=2\nFROM debian\nARG a\nARG c=${a}3\nENV d=4\nARG d=5", c="given")
    assert state.arguments == {"a": "1", "c": "given", "d": "5"}
    assert (state.expand("$a$b$d"), state.run_environment()["d"]) == ("14", "4")


def test_an_entry_point_resets_an_inherited_command() -> None:
    """But not the stage's own."""
    assert build('FROM debian\nENTRYPOINT ["x"]').config.command == ()
    assert build('FROM debian\nCMD ["y"]\nENTRYPOINT ["x"]').config.command == ("y",)


def test_text_commands_get_the_shell() -> None:
    """The one that SHELL names last."""
    state = build('FROM debian\nENTRYPOINT a b\nSHELL ["/bin/bash", "-ec"]\nCMD c')
    assert state.config.entry_point == ("/bin/sh", "-c", "a b")
    assert state.config.command == ("/bin/bash", "-ec", "c")


def test_a_variable_without_name_is_refused() -> None:
    """It could not be handed to any program."""
    with pytest.raises(BadWord, match="must not be empty"):
        build("FROM debian\nENV $nothing=x")


def test_ports_and_signals_are_checked_with_their_variables_filled_in() -> None:
    """They are recorded."""
    config = build("FROM debian\nARG P=80\nEXPOSE $P/tcp 90\nSTOPSIGNAL SIGINT").config
    assert (config.exposed_ports, config.stop_signal) == (("80/tcp", "90"), "SIGINT")
    for line in ("EXPOSE $P/tcp", "STOPSIGNAL $P"):
        with pytest.raises(BadRecord):
            build(f"FROM debian\nARG P=99999\n{line}")


@pytest.mark.parametrize(
    ("text", "path"), [("x", "/srv/x"), ("/x/", "/x/"), ("..", "/"), (".", "/srv"), ("./", "/srv/"), ("/", "/")]
)
def test_relative_paths_stand_below_workdir(text: str, path: str) -> None:
    """A slash at the end is kept: it says that a folder is meant."""
    state = BuildState(base="debian", config=ImageConfig(working_directory="/srv"))
    assert state.path(text) == path


STAGES = "FROM debian AS a\nFROM debian AS b\nCOPY --from=a x y\nFROM a AS c\nFROM debian\nCOPY --from=b x y\n"


@pytest.mark.parametrize(("target", "needed"), [(None, [0, 1, 3]), ("C", [0, 2]), ("0", [0])])
def test_only_needed_stages_are_built(target: str | None, needed: list[int]) -> None:
    """Those that the target stands on or copies from."""
    dockerfile = parse_dockerfile(STAGES)
    found: Any = find_needed(dockerfile, find_target(dockerfile, target, file="Dockerfile"))
    assert [stage.index for stage in found] == needed


def test_arguments_that_nothing_takes_are_found() -> None:
    """But for the proxies', which need no ARG."""
    dockerfile = parse_dockerfile("ARG a\nFROM debian\nARG b")
    assert find_stray_arguments(dockerfile, {"a": "", "b": "", "c": "", "http_proxy": ""}) == ["c"]
