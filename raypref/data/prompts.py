"""From an example to text: RecPO's figure 5, in several wordings and for several kinds of item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raypref.config.data import PromptConfig
from raypref.data.splitting import LIKED


@dataclass(frozen=True)
class Words:
    """How a domain speaks of its items."""

    title: str
    done: str  # "viewing" in "viewing history"
    do: str  # "watch" in "watch next"


DOMAINS = {
    "movie": Words("movie", "viewing", "watch"),
    "book": Words("book", "reading", "read"),
    "music": Words("artist", "listening", "listen to"),
    "game": Words("game", "playing", "play"),
    "beer": Words("beer", "drinking", "drink"),
    "product": Words("product", "purchase", "buy"),
}

# (before the history, before the candidates); {rated} and {rate} are empty where a prompt shows no ratings,
# {among} and {these} where it lists no candidates.
TEMPLATES = (
    (
        "Analyzing the user's logged {title} {done}{rated} records:",
        "select the title they'd most likely {do} next{rate}{among}:",
    ),
    (
        "Given the user's recent {done}{rated} history:",
        "recommend a {title} they'll likely {do} next{rate}{among}:",
    ),
    (
        "Leverage the user's {title} {done}{rated} history:",
        "predict their next{favored} choice{these}:",
    ),
)
# Asked instead of a template's second part where the least fitting item is wanted (RecPO 5.3 gives no wording).
LEAST = (
    "select the title they'd least likely {do} next{among}:",
    "name the {title} they'll least likely {do} next{among}:",
    "predict their least favored choice{these}:",
)
ANSWER = "Answer:\n"
RATING = " | Rating: "


class PromptRenderer:
    """Renders prompts for one catalog. A title always stands at a line's start, in the prompt as in the answer."""

    def __init__(self, config: PromptConfig, domain: str, liked_targets: bool) -> None:
        """`liked_targets`: the task asks for an item rated 4 or 5, not just for the next one."""
        words = DOMAINS[domain]
        listed = config.candidates == "listed"
        fill = {
            "title": words.title,
            "done": words.done,
            "do": words.do,
            "rated": "{rated}",  # known only when the history is
            "rate": " and highly rate (4 to 5)" if liked_targets else "",
            "favored": " highly-rated (4 to 5)" if liked_targets else "",
            "among": " from following candidates" if listed else "",
            "these": " from these candidates" if listed else "",
        }
        self.config = config
        self.templates = [(a.format(**fill), b.format(**fill)) for a, b in TEMPLATES[: config.templates]]
        self.least = [text.format(**fill) for text in LEAST[: config.templates]]

    def __call__(
        self,
        template: int,
        history: Sequence[str],
        ratings: Sequence[float],
        candidates: Sequence[str],
        drop: int = 0,
        least: bool = False,
    ) -> str:
        """The prompt, up to and with `Answer:`.

        Args:
            template: any number; taken modulo the number of templates in use.
            history: titles, oldest first. ratings: of each, 1 to 5, NaN where there is none.
            candidates: titles in the order shown; not shown where the config says so.
            drop: how many of the oldest history lines to leave out.
            least: ask for the least fitting item.
        """
        task = self.templates[template % len(self.templates)][1]
        task = self.least[template % len(self.templates)] if least else task
        before, *lines = self.history(template, history, ratings)
        shown = candidates if self.config.candidates == "listed" else ()
        return "\n".join([before, *lines[drop:], task, *shown, ANSWER])

    def history(self, template: int, history: Sequence[str], ratings: Sequence[float]) -> list[str]:
        """The prompt's first lines: what the history is, and its items, oldest first."""
        lines, rated = history_lines(self.config, history, ratings)
        return [self.templates[template % len(self.templates)][0].format(rated=rated), *lines]


def history_lines(config: PromptConfig, history: Sequence[str], ratings: Sequence[float]) -> tuple[list[str], str]:
    """A line for each item of a history that a prompt shows; and what the prompt adds if one of them has a rating."""
    shown = list(zip(history, ratings))
    if config.items == "filtered":
        shown = [(title, rating) for title, rating in shown if not rating < LIKED]
    rated = [config.ratings and rating == rating for _, rating in shown]
    lines = [f"{title}{RATING}{rating:g}" if told else title for told, (title, rating) in zip(rated, shown)]
    return lines, " and rating" if any(rated) else ""
