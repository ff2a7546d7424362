"""A small log, written as each raw format's publisher writes it, quirks and all."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd

from raypref.config import sources as config
from raypref.config.sources import FileSource

USERS, ITEMS, LENGTH = 12, 30, 10
START = 1_300_000_000


def events(seed: int = 0) -> list[tuple[int, int, int, int]]:
    """(user, item, rating, time) of every interaction, users and items from 1, in no order of time."""
    rng = random.Random(seed)
    rows = [
        (user, item, rng.randint(1, 5), START + 86_400 * rng.randint(0, 1000))
        for user in range(1, USERS + 1)
        for item in rng.sample(range(1, ITEMS + 1), LENGTH)
    ]
    rng.shuffle(rows)
    return rows


def title(item: int) -> str:
    """Titles with a comma, an accent, an ampersand; items 1 and 2 share one."""
    return {1: "Twins", 2: "Twins", 3: "Léon & Mathilda", 4: "Me, Myself"}.get(item, f"Item number {item}")


def _write(path: Path, lines: list[str], encoding: str = "utf-8", end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = (end.join(lines) + end).encode(encoding)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def ml_100k(folder: Path) -> FileSource:
    _write(folder / "u.data", [f"{u}\t{i}\t{r}\t{t}" for u, i, r, t in events()])
    flags = "|".join("0" * 19)
    movies = [f"{i}|{title(i)} (1995)|01-Jan-1995||http://x/{i}|{flags}" for i in range(1, ITEMS + 1)]
    _write(folder / "u.item", movies, "latin-1")
    return config.MovieLens100KSource(path=folder)


def ml_dat(folder: Path) -> FileSource:
    _write(folder / "ratings.dat", [f"{u}::{i}::{r}::{t}" for u, i, r, t in events()])
    movies = [f"{i}::{title(i)}, The ({1900 + i})::Comedy|Drama" for i in range(1, ITEMS + 1)]
    movies += ["98::Amélie (2001)::Romance", "99::Tampopo: Ramen (1985)::Comedy"]
    _write(folder / "movies.dat", movies, "latin-1")
    return config.MovieLensSource(path=folder)


def ml_csv(folder: Path) -> FileSource:
    rows = [f"{u},{i},{r - 0.5 if u % 2 else float(r)},{t}" for u, i, r, t in events()]
    _write(folder / "ratings.csv", ["userId,movieId,rating,timestamp", *rows], end="\r\n")
    movies = [
        f'{i},"{title(i)} ({1900 + i})",Comedy'
        if "," in title(i)
        else f"{i},{title(i)} ({1900 + i}),(no genres listed)"
        for i in range(1, ITEMS + 1)
    ]
    _write(folder / "movies.csv", ["movieId,title,genres", *movies, '77,"The ""Great"" One (1999)",Drama'], end="\r\n")
    return config.MovieLensSource(path=folder)


def amazon_2018(folder: Path) -> FileSource:
    reviews = [
        {
            "overall": float(r),
            "verified": True,
            "reviewTime": "11 9, 2012",
            "reviewerID": f"A{u:03d}",
            "asin": f"B{i:09d}",
            "style": {"Format:": " DVD"},
            "reviewText": 'Fun, "really"\nyes',
            "unixReviewTime": t,
        }
        for u, i, r, t in events()
    ]
    _write(folder / "Movies_and_TV_5.json.gz", [json.dumps(r) for r in reviews])
    products = [
        {"category": ["Movies"], "title": title(i).replace("&", "&amp;"), "asin": f"B{i:09d}", "also_buy": []}
        for i in range(1, ITEMS + 1)
    ]
    _write(folder / "meta_Movies_and_TV.json.gz", [json.dumps(p) for p in [*products, products[5]]])
    return config.Amazon2018Source(path=folder)


def amazon_2023(folder: Path) -> FileSource:
    reviews = [
        {"rating": float(r), "title": "ok", "images": [], "asin": "X", "parent_asin": f"B{i}", "user_id": f"AE{u}"}
        | {"timestamp": t * 1000 + 687, "helpful_vote": 0, "verified_purchase": True}
        for u, i, r, t in events()
    ]
    _write(folder / "Pet_Supplies.jsonl.gz", [json.dumps(r) for r in reviews])
    products = [{"main_category": "Pets", "title": title(i), "parent_asin": f"B{i}"} for i in range(1, ITEMS + 1)]
    _write(folder / "meta_Pet_Supplies.jsonl.gz", [json.dumps(p, ensure_ascii=False) for p in products])
    return config.Amazon2023Source(path=folder, category="Pet_Supplies")


def steam(folder: Path) -> FileSource:
    reviews = [
        f"{{u'username': u'player {u}', u'hours': {r * 1.5}, u'products': 41, u'product_id': u'{i}', "
        f"u'page_order': 0, u'date': u'{_day(t)}', u'text': u'It\\'s \\u2665 C:\\games', u'early_access': False}}"
        for u, i, r, t in events()
    ]
    _write(folder / "steam_reviews.json.gz", reviews)
    games = [{"publisher": "x", "genres": ["Indie"], "app_name": title(i), "id": str(i)} for i in range(1, ITEMS + 1)]
    _write(folder / "steam_games.json.gz", [repr(g) for g in games])
    return config.SteamSource(path=folder)


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d")


def beeradvocate(folder: Path) -> FileSource:
    lines = []
    for u, i, r, t in events():
        lines += [
            f"beer/name: {title(i)}",
            f"beer/beerId: {i}",
            "beer/brewerId: 10325",
            "beer/ABV: 5.00",
            "beer/style: Hefeweizen",
            "review/appearance: 2.5",
            "review/aroma: 2",
            "review/palate: 1.5",
            "review/taste: 1.5",
            f"review/overall: {r}",
            f"review/time: {t}",
            f"review/profileName: drinker{u}",
            "review/text: A lot of foam.\tBut: a lot.",
            "",
        ]
    _write(folder / "beeradvocate.txt.gz", lines)
    return config.BeerAdvocateSource(path=folder / "beeradvocate.txt.gz")


def lastfm_1k(folder: Path) -> FileSource:
    plays = []
    for u, i, r, t in events():
        artist_id = "" if i % 3 == 0 else f"mbid-{i}"
        for play in range(r):
            when = datetime.fromtimestamp(t + 300 * play, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
            plays.append(f'user_{u:06d}\t{when}\t{artist_id}\t{title(i)} {i}\t\tSong "{play}"')
    _write(folder / "plays.tsv", plays)
    return config.LastFM1KSource(path=folder / "plays.tsv")


def hetrec(folder: Path) -> FileSource:
    _write(
        folder / "user_artists.dat", ["userID\tartistID\tweight", *(f"{u}\t{i}\t{r * 100}" for u, i, r, _ in events())]
    )
    artists = [f"{i}\t{title(i)}\thttp://www.last.fm/{i}\thttp://pic/{i}" for i in range(1, ITEMS + 1)]
    _write(folder / "artists.dat", ["id\tname\turl\tpictureURL", *artists], end="\r\n")
    return config.HetrecLastFMSource(path=folder)


def goodreads(folder: Path) -> FileSource:
    rows = [
        {"user_id": f"u{u}", "book_id": str(i), "is_read": r > 1, "rating": r if u > 1 else 0}
        | {"date_added": datetime.fromtimestamp(t - 7 * 3600, timezone.utc).strftime("%a %b %d %H:%M:%S -0700 %Y")}
        | {"read_at": "", "review_id": "x"}
        for u, i, r, t in events()
    ]
    _write(folder / "goodreads_interactions_poetry.json.gz", [json.dumps(row) for row in rows])
    books = [{"book_id": str(i), "title": title(i), "authors": [{"author_id": "1"}]} for i in range(1, ITEMS + 1)]
    _write(folder / "goodreads_books_poetry.json.gz", [json.dumps(book) for book in books])
    return config.GoodreadsSource(path=folder, genre="poetry")


def recbole(folder: Path) -> FileSource:
    rows = [f"{u}\t{i}\t{r}\t{t}" for u, i, r, t in events()]
    _write(folder / "x.inter", ["user_id:token\titem_id:token\trating:float\ttimestamp:float", *rows])
    items = [f"{i}\t{title(i)}\t1995" for i in range(1, ITEMS + 1)]
    _write(folder / "x.item", ["item_id:token\tmovie_title:token_seq\trelease_year:token", *items])
    return config.RecBoleSource(path=folder)


def csv_file(folder: Path) -> FileSource:
    rows = [
        f'{u},"{i}",{r},"{title(i)}",{datetime.fromtimestamp(t, timezone.utc).isoformat()}' for u, i, r, t in events()
    ]
    _write(folder / "mine.csv", ["user,item,rating,title,timestamp", *rows])
    return config.CsvSource(path=folder / "mine.csv")


def parquet_file(folder: Path) -> FileSource:
    rows = [(u, i, float(r), f"{title(i)}", pd.Timestamp(t, unit="s")) for u, i, r, t in events()]
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=["user", "item", "rating", "title", "timestamp"]).to_parquet(folder / "mine.parquet")
    return config.CsvSource(path=folder / "mine.parquet")


def sequences() -> dict[int, list[int]]:
    """Items of each user in order of time."""
    result: dict[int, list[int]] = {}
    for u, i, _, _ in sorted(events(), key=lambda e: (e[0], e[3])):
        result.setdefault(u, []).append(i)
    return result


def sdpo_json(folder: Path) -> FileSource:
    rng = random.Random(1)
    folder.mkdir(parents=True, exist_ok=True)
    for end, users in (("train", range(1, 9)), ("val", range(9, 11)), ("test", range(11, 13))):
        rows = []
        for user in users:
            items = [f"{title(i)} {i}" for i in sequences()[user]]
            for cut in range(3, len(items)):
                others = [f"{title(i)} {i}" for i in range(1, ITEMS + 1) if f"{title(i)} {i}" not in items]
                listed = [*rng.sample(others, 7), items[cut]]
                rng.shuffle(listed)
                history = "::".join(items[max(0, cut - 5) : cut])
                rows.append({"historyList": history, "itemList": listed, "trueSelection": items[cut]})
        (folder / f"x-{end}.json").write_text(json.dumps(rows, indent=4))
    return config.SDPOJsonSource(path=folder)


def llara(folder: Path) -> FileSource:
    folder.mkdir(parents=True, exist_ok=True)
    for name, users in (("train_data", range(1, 9)), ("Val_data", range(9, 11)), ("Test_data", range(11, 13))):
        rows = []
        for user in users:
            items = [i - 1 for i in sequences()[user]]
            for cut in range(3, len(items)):
                rows.append((items[:cut] + [ITEMS] * (10 - cut), cut, items[cut]))
        frame = pd.DataFrame(
            {"seq": [r[0] for r in rows], "len_seq": [r[1] for r in rows], "next": [r[2] for r in rows]}
        )
        frame.columns = pd.Index(frame.columns, dtype=object)  # as pandas wrote it when these frames were made
        frame.to_pickle(folder / f"{name}.df", protocol=4)
    _write(folder / "id2name.txt", [f"{i - 1}::{title(i)} {i}" for i in range(1, ITEMS + 1)])
    return config.LLaRASource(path=folder)


FORMATS: dict[str, Callable[[Path], FileSource]] = {
    "ml-100k": ml_100k,
    "ml-dat": ml_dat,
    "ml-csv": ml_csv,
    "amazon-2018": amazon_2018,
    "amazon-2023": amazon_2023,
    "steam": steam,
    "beeradvocate": beeradvocate,
    "lastfm-1k": lastfm_1k,
    "hetrec": hetrec,
    "goodreads": goodreads,
    "recbole": recbole,
    "csv": csv_file,
    "parquet": parquet_file,
    "sdpo-json": sdpo_json,
    "llara": llara,
}
