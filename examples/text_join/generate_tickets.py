"""Make messages of a shop's customers: the same ones on every machine, as JSON Lines.

    python generate_tickets.py COUNT > tickets.jsonl

Each is {"id", "customer": {"name", "country"}, "topic", "text"}. The texts have what real ones have and what breaks
careless programs: accents, other scripts, emoji, quotes, backslashes, tabs and line breaks within the text, slips of
the keyboard, words of other topics.
"""

import json
import random
import sys
from collections.abc import Iterator
from typing import Any

TOPICS = {
    "billing": (
        "invoice charged twice card refund amount payment bank statement price tax receipt fee overcharged currency",
        ["I was charged {n} € for order {o}", "the invoice of {o} is wrong", "why is there a fee on my statement?"],
    ),
    "delivery": (
        "parcel courier late tracking address shipped depot neighbour doorstep customs delay van package signature",
        ["where is parcel {o}?", "tracking says delivered but nothing came", "the courier left it in the rain"],
    ),
    "returns": (
        "return exchange size label unworn box sent back replacement colour fit zip torn warranty policy voucher",
        ["I want to return {o}", "the size does not fit", "which label do I need to send {n} items back?"],
    ),
    "account": (
        "password login email profile delete newsletter verification code username locked settings privacy session",
        ["I can't log in since {n} days", "please delete my account", "the verification code never arrives"],
    ),
    "technical": (
        "app crashes screen update button error browser loading page freeze checkout version cookie wifi bug",
        ["the app crashes at checkout", "error {n} when I press the button", "the page of {o} keeps loading"],
    ),
}
NAMES = ["Zoë", "Jürgen", "Nguyễn", "Олена", "李娜", "Amélie", "O'Brien", 'Bob "the shop" Ross', "José\\María"]
COUNTRIES = ["DE", "FR", "VN", "UA", "CN", "IE", "TR", "ES"]
TAILS = [
    "",
    " Thanks!",
    " 😡",
    " 🙏🏽",
    '\nSent from my "phone"',
    "\n\n--\nregards",
    "\t(urgent)",
    " c:\\temp\\log.txt",
    " {x}",
]


def tickets(count: int, seed: int = 7) -> Iterator[dict[str, Any]]:
    """Yield that many messages."""
    draw = random.Random(seed)
    every = [word for words, _ in TOPICS.values() for word in words.split()]
    for number in range(count):
        topic = draw.choice(list(TOPICS))
        words, sentences = TOPICS[topic]
        chosen = draw.choices(words.split(), k=draw.randint(3, 9)) + draw.choices(every, k=draw.randint(0, 3))
        chosen = [slip(word, draw) if draw.random() < 0.08 else word for word in chosen]
        sentence = draw.choice(sentences).format(n=draw.randint(2, 99), o=f"#{draw.randint(10_000, 99_999)}")
        text = f"{sentence} … {' '.join(chosen)}.{draw.choice(TAILS)}"
        customer = {"name": draw.choice(NAMES), "country": draw.choice(COUNTRIES)}
        yield {"id": f"T{number:06}", "customer": customer, "topic": topic, "text": text}


def slip(word: str, draw: random.Random) -> str:
    """Return a word with two letters exchanged."""
    place = draw.randrange(len(word) - 1)
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


if __name__ == "__main__":
    for ticket in tickets(int(sys.argv[1])):
        print(json.dumps(ticket, ensure_ascii=False))
