"""Dockerfiles as people write them, and everything that they get wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.images.instructions import Copy, Environment, Run, SetCommand, SetEntryPoint
from millrace.images.parser import parse_dockerfile
from millrace.images.problems import DockerfileError

SCIKIT = r"""# syntax=docker/dockerfile:1
ARG PYTHON=3.11
FROM public.ecr.aws/docker/library/python:${PYTHON}-slim AS build

RUN apt-get -y update && apt-get install -y --no-install-recommends \
         wget \
         # the server in front
         nginx \

         ca-certificates \
    && rm -rf /var/lib/apt/lists/*

ENV PYTHONUNBUFFERED=TRUE PATH="/opt/program:${PATH}"
COPY --chown=1000:1000 ["decision trees", "/opt/program"]
WORKDIR /opt/program
ENTRYPOINT ["python", "serve.py"]
CMD echo "no exec form"
"""


def test_a_real_dockerfile_is_read() -> None:
    """Continued lines with comments and empty lines in them, JSON forms, several pairs."""
    [stage] = parse_dockerfile(SCIKIT).stages
    assert (stage.base.image, stage.name, stage.base.line) == (
        "public.ecr.aws/docker/library/python:${PYTHON}-slim",
        "build",
        3,
    )
    run, environment, copy, _, entry_point, command = stage.instructions
    assert isinstance(run, Run) and run.line == 5 and run.command.is_shell
    assert " ".join(run.command.words[0].split()) == (
        "apt-get -y update && apt-get install -y --no-install-recommends wget nginx ca-certificates "
        "&& rm -rf /var/lib/apt/lists/*"
    )
    assert isinstance(environment, Environment)
    assert environment.pairs == (("PYTHONUNBUFFERED", "TRUE"), ("PATH", '"/opt/program:${PATH}"'))
    assert isinstance(copy, Copy)
    assert (copy.sources, copy.destination, copy.owner) == (("decision trees",), "/opt/program", "1000:1000")
    assert isinstance(entry_point, SetEntryPoint) and entry_point.command.words == ("python", "serve.py")
    assert isinstance(command, SetCommand) and command.command.words == ('echo "no exec form"',)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("RUN true", 1, "the first instruction must be FROM"),
        ("", 1, "there is no FROM"),
        ("FROM debian\n\nONBUILD RUN x", 3, "ONBUILD is not supported"),
        ("FROM debian\nADD https://a/b /c", 2, "ADD of a URL is not supported"),
        ("FROM debian\nRUN --mount=type=secret,id=x pip install y", 2, "of type secret is not supported: fetch"),
        ("FROM debian\nRUN --mount=target=/x true", 2, "of type bind is not supported: COPY"),
        ("FROM debian\nRUN --mount=type=cache,target=/x,from=y true", 2, "does not take from"),
        ("FROM debian\nRUN --mount=type=cache true", 2, "needs one target"),
        ("FROM debian\nCOPY --link=2 a b", 2, "COPY --link must be true or false"),
        ("FROM debian\nRUN <<EOF\nFROM nothing\nEOF\nCOPY a b", 2, "heredocs (<<EOF) are not supported"),
        ("FROM debian\nCOPY a b c", 2, "several sources need a destination that ends in /, got c"),
        ("FROM debian\nCOPY --from= a b", 2, "--from needs the name"),
        ("FROM debian\nENV a=${x#y}", 2, "${x#...} is not supported"),
        ("FROM ${x%y}", 1, "${x%...} is not supported"),
        ("FROM debian\nEXPOSE $P 99999/foo", 2, "must be tcp, udp or sctp"),
        ("FROM debian\nSTOPSIGNAL FOO", 2, "STOPSIGNAL takes"),
        ("FROM debian\nCOPY only", 2, "COPY needs at least one source and a destination"),
        ("FROM debian\nRUNN x", 2, "unknown instruction RUNN"),
        ("FROM debian\nENV a", 2, "ENV must be name=value"),
        ("FROM debian\nSHELL bash -c", 2, "SHELL must be a JSON list"),
        ("FROM debian\nCOPY --from=1 a b", 2, "there is no earlier stage of that number"),
        ("FROM a as x\nFROM b AS X", 2, "two stages are called 'x'"),
        ("FROM a b", 1, "FROM must be"),
        ("FROM debian\nRUN", 2, "RUN needs an argument"),
        ("FROM debian\nENV a='b", 2, "without end"),
        ("FROM debian\nRUN x\0y", 2, "NUL"),
        ('FROM debian\nRUN ["\\u0000"]', 2, "NUL"),
        ("# escape=x\nFROM debian", 1, "the escape directive must be"),
    ],
)
def test_what_cannot_be_built_is_refused_by_its_line(text: str, line: int, words: str) -> None:
    """Each problem tells its line and what is wrong with it."""
    with pytest.raises(DockerfileError) as caught:
        parse_dockerfile(text, file="Other")
    [problem] = caught.value.problems
    assert problem.line == line
    assert words in problem.message
    assert str(caught.value).startswith(f"Other:{line}: ")


def test_all_problems_are_told_at_once() -> None:
    """So that a Dockerfile is mended in one go."""
    with pytest.raises(DockerfileError) as caught:
        parse_dockerfile("FROM debian\nONBUILD RUN x\nRUN true\nCOPY one\n")
    assert [problem.line for problem in caught.value.problems] == [2, 4]


@pytest.mark.parametrize(
    "line",
    [
        "COPY a b $TO",
        "COPY a b ./",
        "ADD --link a b",
        "COPY --link=false a b",
        "WORKDIR ${x:?must be given}",
        "EXPOSE $P",
        "STOPSIGNAL $S",
        "COPY a b '.'",
    ],
)
def test_what_may_turn_out_well_is_left_to_the_build(line: str) -> None:
    """Such as what depends on variables, and flags without effect."""
    assert parse_dockerfile(f"FROM debian\n{line}").stages


def test_white_space_in_commands_stays() -> None:
    """Only what stands around the keyword goes; a tab after it ends it too."""
    [stage] = parse_dockerfile("FROM debian\nRUN\tprintf  'a\tb'  \nENV\tname\tits value").stages
    run, environment = stage.instructions
    assert isinstance(run, Run) and run.command.words == ("printf  'a\tb'",)
    assert isinstance(environment, Environment) and environment.pairs == (("name", "its value"),)


def test_a_backtick_can_be_the_escape() -> None:
    """As the directive at the top says."""
    [stage] = parse_dockerfile("# escape=`\nFROM debian\nRUN a `\n b\\\nCMD c").stages
    run, _ = stage.instructions
    assert isinstance(run, Run) and run.command.words[0].split() == ["a", "b\\"]


KEYWORDS = st.sampled_from(
    ["FROM", "RUN", "COPY", "ADD", "ENV", "ARG", "LABEL", "CMD", "SHELL", "USER", "WORKDIR", "VOLUME", "#", "ONBUILD"]
)
WORDS = st.lists(
    st.sampled_from(
        ["--from=²", "--from=9", "a=b", '"', "'", "\\", "\\\n", "$x", "${x", "[", '["a"]', "<<E", "\0", "=", "é"]
    )
    | st.text(max_size=8)
)
LINES = st.lists(st.tuples(KEYWORDS, WORDS).map(lambda it: f"{it[0]} {' '.join(it[1])}"), max_size=8).map("\n".join)


@given(LINES | st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever a file holds, the answer is stages, or problems in lines that the file has."""
    try:
        assert parse_dockerfile(text).stages
    except DockerfileError as exc:
        lines = text.replace("\r\n", "\n").count("\n") + 1
        assert exc.problems
        assert all(1 <= problem.line <= lines for problem in exc.problems)
