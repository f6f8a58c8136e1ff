"""Write a data set of movie reviews in the Amazon TSV schema: invented, repeatable, and as untidy as real ones.

The public bucket that such notebooks used to read no longer exists, so this makes a data set of the same shape:

- a few products and users have many reviews, most have one or two (a long tail on both sides);
- each keen user has a favourite genre, watches mostly that and rates it higher: the taste groups to be found;
- some lines are broken in the ways that real exports are: a tab inside a text, a line cut short, columns shifted;
- texts hold quotes that are never closed, HTML line breaks and letters beyond ASCII.

Only the standard library is used, and the same seed gives the same bytes on every machine:

    python generate_reviews.py reviews.tsv.gz
"""

import gzip
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate
from pathlib import Path

__all__ = ["COLUMNS", "GENRES", "Shape", "Summary", "review_lines", "write_reviews"]

COLUMNS = (
    "marketplace",
    "customer_id",
    "review_id",
    "product_id",
    "product_parent",
    "product_title",
    "product_category",
    "star_rating",
    "helpful_votes",
    "total_votes",
    "vine",
    "verified_purchase",
    "review_headline",
    "review_body",
    "review_date",
)

GENRES = ("Western", "Science Fiction", "Romance", "Horror", "Animation", "Documentary", "Musical", "War")
"""A title ends in its genre in brackets, so that found groups can be compared with the planted ones."""

_FIRST_WORDS = ("Silent", "Last", "Crimson", "Hidden", "Broken", "Golden", "Midnight", "Distant", "Noël", "Lost")
_SECOND_WORDS = ("River", "Empire", "Garden", "Letter", "Horizon", "Orchard", "Signal", "Waltz", "Frontier", "Winter")
_HEADLINES = {
    1: ("Waste of time", 'So called "classic', "Disappointing"),
    2: ("Not for me", "Below expectations", "Meh"),
    3: ("It's OK", "Average", "Good in parts"),
    4: ("Very good", "Well worth seeing", "Great fun"),
    5: ("Loved it!", "A masterpiece", "Five stars"),
}
_SENTENCES = (
    "The picture quality is fine, and it arrived on time.",
    'My wife said "never again, I watched it twice.',
    "Great cast.<br /><br />The ending surprised me.",
    "The plot drags in the second half, but the score is lovely.",
    "Très bien; better than the remake.",
    "I rented this for the kids and stayed for myself.",
)
_FIRST_DAY = date(2000, 1, 1)
_DAYS = 5700


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """How large and how untidy the data set is."""

    products: int = 3600
    keen_users: int = 2000
    """Users with `least_reviews` reviews or more."""
    least_reviews: int = 25
    casual_users: int = 20_000
    """Users with one to three reviews."""
    favourite_share: float = 0.8
    """Part of a keen user's reviews that are of the favourite genre."""
    broken_share: float = 0.002
    """Part of the lines that are malformed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What was written."""

    lines: int
    """Lines after the header, broken ones included."""
    broken_lines: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Product:
    id: str
    parent: str
    title: str
    genre: int


class _Shelf:
    """Products to pick from, the earlier ones more often: popularity falls like 1 / (rank + 15)."""

    def __init__(self, products: list[_Product]) -> None:
        self._products = products
        self._weights = list(accumulate(1 / (rank + 15) for rank in range(len(products))))

    def pick(self, chance: random.Random) -> _Product:
        return chance.choices(self._products, cum_weights=self._weights)[0]


def write_reviews(path: Path, *, shape: Shape | None = None, seed: int = 7) -> Summary:
    """Write the data set as gzip TSV with a header line."""
    lines = broken = 0
    # No name and no time of writing in the gzip header: the same seed gives the same file.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 4, raw, mtime=0) as packed:
        packed.write(("\t".join(COLUMNS) + "\n").encode())
        for line, is_broken in review_lines(shape or Shape(), seed=seed):
            packed.write(line.encode())
            lines += 1
            broken += is_broken
    return Summary(lines=lines, broken_lines=broken)


def review_lines(shape: Shape, *, seed: int) -> Iterator[tuple[str, bool]]:
    """Yield each line with its newline, and whether it is broken."""
    chance = random.Random(seed)
    products = [_product(number, chance) for number in range(shape.products)]
    everything = _Shelf(products)
    shelves = [_Shelf([it for it in products if it.genre == genre]) for genre in range(len(GENRES))]
    user_ids = chance.sample(range(10_000_000, 60_000_000), shape.keen_users + shape.casual_users)
    number = 0
    for index, user_id in enumerate(user_ids):
        is_keen = index < shape.keen_users
        favourite = chance.randrange(len(GENRES))
        seen: dict[str, int] = {}
        for _ in range(_review_count(shape, is_keen, chance)):
            of_favourite = is_keen and chance.random() < shape.favourite_share
            product = (shelves[favourite] if of_favourite else everything).pick(chance)
            if seen.setdefault(product.id, number) != number and chance.random() < 0.97:
                continue  # seldom does a user review a product again
            line = _line(product, user_id, number, product.genre == favourite, chance)
            number += 1
            is_broken = chance.random() < shape.broken_share
            yield (_broken(line, chance) if is_broken else line), is_broken


def _product(number: int, chance: random.Random) -> _Product:
    genre = chance.randrange(len(GENRES))
    title = f"The {chance.choice(_FIRST_WORDS)} {chance.choice(_SECOND_WORDS)} {number % 90 + 1} ({GENRES[genre]})"
    parent = str(chance.randrange(100_000_000, 999_999_999))
    product_id = f"B{number:05d}{chance.randrange(16**4):04X}"
    return _Product(id=product_id, parent=parent, title=title, genre=genre)


def _review_count(shape: Shape, is_keen: bool, chance: random.Random) -> int:
    if is_keen:
        return shape.least_reviews + min(int(chance.paretovariate(1.2) * 12), 500)
    return chance.choice((1, 1, 1, 2, 3))


def _line(product: _Product, user_id: int, number: int, is_favourite: bool, chance: random.Random) -> str:
    stars = chance.choices((1, 2, 3, 4, 5), (1, 1, 4, 24, 70) if is_favourite else (20, 22, 30, 18, 10))[0]
    votes = int(chance.paretovariate(1.5)) - 1
    fields = (
        "US",
        str(user_id),
        f"R{number:013X}",
        product.id,
        product.parent,
        product.title,
        "Video DVD",
        str(stars),
        str(chance.randint(0, votes)),
        str(votes),
        "N",
        "Y" if chance.random() < 0.7 else "N",
        chance.choice(_HEADLINES[stars]),
        chance.choice(_SENTENCES),
        str(_FIRST_DAY + timedelta(days=chance.randrange(_DAYS))),
    )
    return "\t".join(fields) + "\n"


def _broken(line: str, chance: random.Random) -> str:
    fields = line[:-1].split("\t")
    kind = chance.randrange(3)
    if kind == 0:  # tabs inside the text: too many fields
        fields[13] = fields[13].replace(" ", "\t")
    elif kind == 1:  # cut short: too few fields
        fields = fields[: chance.randrange(1, 8)]
    else:  # the title is missing and all that follows has moved left, with an empty field at the end
        fields = [*fields[:5], *fields[6:], ""]
    return "\t".join(fields) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: generate_reviews.py OUTPUT.tsv.gz")
    written = write_reviews(Path(sys.argv[1]))
    print(f"{written.lines} lines, {written.broken_lines} of them broken")
