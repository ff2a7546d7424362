"""Steam, the release of SASRec (Kang and McAuley, 2018): reviews and games as Python literals, one a line."""

from __future__ import annotations

import pyarrow.compute as pc

from raypref.config.sources import SteamSource
from raypref.data.schema import Log
from raypref.data.sources.files import find, first_there
from raypref.data.sources.join import log_of_files
from raypref.data.sources.records import literal_lines
from raypref.data.sources.rows import INTERACTION_ROWS, ITEM_ROWS, Sink


def read_steam(config: SteamSource) -> Log:
    """Play hours become counts; the date of the review is the time."""
    folder = find(config.path, "Steam")
    reviews = first_there(folder, ["steam_reviews.json.gz", "steam_reviews.json"])
    games = first_there(folder, ["steam_games.json.gz", "steam_games.json"])
    interactions = Sink(reviews, config.max_bad_lines, INTERACTION_ROWS)
    for rows in literal_lines(reviews, {"username": "text", "product_id": "text", "hours": "number", "date": "text"}):
        interactions.add(
            rows,
            user_id=rows.text_of("username", "username"),
            item_id=rows.text_of("product_id", "product_id"),
            count=rows.optional_number_of("hours", "hours", 0),
            timestamp=rows.dates_of("date", "%Y-%m-%d"),
        )
    items = Sink(games, config.max_bad_lines, ITEM_ROWS)
    for rows in literal_lines(games, {"id": "text", "app_name": "text", "title": "text"}):
        rows.columns["title"] = pc.coalesce(rows.columns["app_name"], rows.columns["title"])
        items.add(rows, item_id=rows.text_of("id", "id"), title=rows.title_of("title", "name"))
    return log_of_files("steam", "game", config.max_bad_lines, interactions.finish(), items.finish())
