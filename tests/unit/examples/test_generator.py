"""The reviews of the movie example: repeatable, of the promised schema and shape, and broken in the promised ways."""

import gzip
import re
from collections import Counter
from pathlib import Path

from examples.movie_clusters.generate_reviews import COLUMNS, GENRES, Shape, review_lines, write_reviews

SMALL = Shape(products=200, keen_users=60, casual_users=600, broken_share=0.02)


def _whole_reviews(shape: Shape) -> list[dict[str, str]]:
    return [
        dict(zip(COLUMNS, line[:-1].split("\t"), strict=True))
        for line, is_broken in review_lines(shape, seed=1)
        if not is_broken
    ]


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    """Two runs write the same bytes; another seed writes others."""
    for name, seed in (("a.gz", 1), ("b.gz", 1), ("c.gz", 2)):
        write_reviews(tmp_path / name, shape=SMALL, seed=seed)
    first = (tmp_path / "a.gz").read_bytes()
    assert first == (tmp_path / "b.gz").read_bytes()
    assert first != (tmp_path / "c.gz").read_bytes()


def test_the_file_is_a_gzip_table_with_the_columns_of_amazon(tmp_path: Path) -> None:
    """The first line names the fifteen columns, and the summary counts the lines after it."""
    path = tmp_path / "reviews.tsv.gz"
    summary = write_reviews(path, shape=SMALL)
    header, *lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    assert header.split("\t") == list(COLUMNS)
    assert len(COLUMNS) == 15
    assert len(lines) == summary.lines
    assert 0 < summary.broken_lines < 0.05 * summary.lines


def test_whole_lines_hold_what_their_columns_promise() -> None:
    """Ids have Amazon's form, stars are 1 to 5, helpful votes are votes, and a line ends in a date."""
    reviews = _whole_reviews(SMALL)
    assert len({review["review_id"] for review in reviews}) == len(reviews)
    for review in reviews:
        assert re.fullmatch(r"B[0-9A-F]{9}", review["product_id"])
        assert re.fullmatch(r"[1-5]", review["star_rating"])
        assert int(review["helpful_votes"]) <= int(review["total_votes"])
        assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", review["review_date"])
        assert re.search(r"\(([^()]+)\)$", review["product_title"])[1] in GENRES  # type: ignore[index]


def test_a_broken_line_has_another_width_or_no_date_at_its_end() -> None:
    """So a reader that skips long lines, and drops those without a date, keeps exactly the whole ones."""
    broken = [line for line, is_broken in review_lines(SMALL, seed=1) if is_broken]
    widths = {len(line[:-1].split("\t")) for line in broken}
    assert {min(widths) < len(COLUMNS), max(widths) > len(COLUMNS), len(COLUMNS) in widths} == {True}
    for line in broken:
        fields = line[:-1].split("\t")
        assert len(fields) > len(COLUMNS) or len(fields) < len(COLUMNS) or not fields[-1]


def test_reviews_have_a_long_tail_on_both_sides() -> None:
    """A few products and users have many reviews; half of the users have one or two."""
    reviews = _whole_reviews(Shape(products=400, keen_users=100, casual_users=1500))
    per_product = sorted(Counter(review["product_id"] for review in reviews).values(), reverse=True)
    per_user = sorted(Counter(review["customer_id"] for review in reviews).values(), reverse=True)
    assert sum(per_product[: len(per_product) // 10]) > 0.25 * len(reviews)
    assert per_user[0] >= 30
    assert per_user[len(per_user) // 2] <= 2


def test_keen_users_have_a_taste() -> None:
    """Most of a keen user's reviews are of one genre, and it is rated higher than the others."""
    by_user: dict[str, list[tuple[str, int]]] = {}
    for review in _whole_reviews(Shape(products=2000, keen_users=60, casual_users=0)):
        genre = review["product_title"].rpartition("(")[2].rstrip(")")
        by_user.setdefault(review["customer_id"], []).append((genre, int(review["star_rating"])))
    liked: list[int] = []
    others: list[int] = []
    for reviews in by_user.values():
        favourite, count = Counter(genre for genre, _ in reviews).most_common(1)[0]
        assert count > 0.5 * len(reviews)
        liked += [stars for genre, stars in reviews if genre == favourite]
        others += [stars for genre, stars in reviews if genre != favourite]
    assert sum(liked) / len(liked) > sum(others) / len(others) + 1
