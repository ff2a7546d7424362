"""A title is one text from file to answer: what is accepted can be answered by any kind of tokenizer, or is counted."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from raypref.config.data import PromptConfig
from raypref.config.sources import CsvSource
from raypref.data.behavioural_tokens import MARK, HybridTokenizer, add_mark
from raypref.data.canonical import unique_titles
from raypref.data.encoding import answerable, check_answerable, decode, encode_prompts, encode_titles
from raypref.data.prompts import PromptRenderer
from raypref.data.schema import Log
from raypref.data.sources import SOURCES
from raypref.data.sources.movie_titles import cleaned
from raypref.data.title_text import first_line, normalized, normalized_column
from raypref.data.tokens import ExampleTokenizer
from raypref.errors import UserError
from raypref.evaluation.decoding import match_contains, match_strict
from raypref.models.backbone import load_tokenizer, train_tokenizer
from raypref.models.folders import SHIPPED_FOLDER

BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
RENDER = PromptRenderer(PromptConfig(), "movie", True)
# What files hold: letters of all scripts with their marks, breaks, controls, no-break spaces, names of special tokens.
PIECES = st.one_of(
    st.characters(exclude_categories=("Cs",)),
    st.sampled_from([*BREAKS, "\x00", "\u00a0", "\u3000", "\u200b", "\ufeff", "e\u0301", "\u212a", "\ufb01", "\u2581"]),
    st.sampled_from(["</s>", "<s>", "<pad>", "<|eot_id|>", "<unk>", "[SEP]", " , ", " n't", "Answer:", " | Rating: 5"]),
)
TEXTS = st.lists(PIECES, max_size=8).map("".join)


def byte_level() -> PreTrainedTokenizerBase:
    return train_tokenizer(["Crimson Harbor\n", "Café\n"], 300)


def begins_and_ends() -> PreTrainedTokenizerBase:
    """Byte-level, with a begin token before a text and an end token behind it."""
    tokenizer = train_tokenizer(["Crimson Harbor\n"], 300)
    special = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("<s>", "</s>")]
    core = tokenizer.backend_tokenizer
    core.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=special)
    return tokenizer


def pieces() -> PreTrainedTokenizerBase:
    """Unigram with the special tokens in its vocabulary, `▁` for spaces and bytes for what it does not know."""
    words = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("\u2581", -2.0), ("\n", -2.0)]
    words += [(chr(c), -3.0) for c in range(33, 127)] + [(f"<0x{b:02X}>", -9.0) for b in range(256)]
    tokenizer = Tokenizer(models.Unigram(words, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def lower_case() -> PreTrainedTokenizerBase:
    """WordPiece of letters and digits alone, in lower case: most titles are beyond it."""
    letters = [chr(c) for c in [*range(48, 58), *range(97, 123)]]
    words = ["[UNK]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="[SEP]", unk_token="[UNK]")


TOKENIZERS = {
    "shipped": lambda: load_tokenizer(SHIPPED_FOLDER),
    "byte-level": byte_level,
    "begins and ends": begins_and_ends,
    "pieces": pieces,
    "lower case": lower_case,
}
MADE = {name: make() for name, make in TOKENIZERS.items()}


def write(file: Path, titles: Sequence[str]) -> CsvSource:
    """One user a title; quoted as the csv module does it."""
    with file.open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out)
        table.writerow(["user", "item", "rating", "timestamp", "title"])
        table.writerows([f"u{i}", f"i{i}", 5, 1_600_000_000 + i, title] for i, title in enumerate(titles))
    return CsvSource(path=file, max_bad_lines=1.0)


@given(TEXTS)
@settings(deadline=None)
def test_the_form_is_one_line_composed_and_stays_as_it_is(text: str) -> None:
    title = normalized(text)
    assert normalized(title) == title == unicodedata.normalize("NFC", title).strip()
    assert len(title.splitlines()) <= 1
    assert "  " not in title
    assert not any(unicodedata.category(c) == "Cc" or (c.isspace() and c != " ") for c in title)
    assert "".join(title.split()) == "".join(c for c in normalized(text) if not c.isspace())


@given(st.lists(TEXTS, max_size=5))
@settings(deadline=None)
def test_a_column_gets_the_form_of_each_text(texts: list[str]) -> None:
    assert normalized_column(pa.array([*texts, None], pa.string())).to_pylist() == [*map(normalized, texts), None]


@given(st.lists(TEXTS, min_size=1, max_size=6))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_is_accepted_can_be_answered(tmp_path: Path, texts: list[str]) -> None:
    # The file's own breaks inside quotes are the reader's business; here a title comes on one line.
    source = write(tmp_path / "x.csv", [text.translate({10: " ", 13: " "}) for text in [*texts, "Known"]])
    log = SOURCES["csv"](source)
    titles = log.items["title"].to_pylist()
    assert sum(f.accepted + f.rejected for f in log.files) == sum(f.lines for f in log.files)
    assert len(set(titles)) == len(titles)
    assert titles == [normalized(title) for title in titles]
    for name, tokenizer in MADE.items():
        said = answerable(tokenizer, titles)
        ids = encode_titles(tokenizer, titles)
        if name not in ("pieces", "lower case"):
            assert said.all()
        assert said.tolist() == [first_line(text) == t for text, t in zip(decode(tokenizer, ids), titles)]
        for i in np.flatnonzero(said):  # and no other candidate is named by it
            assert match_strict(first_line(decode(tokenizer, [ids[i]])[0]), titles) == i
            assert tokenizer.eos_token_id not in ids[i]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_names_of_special_tokens_are_text(name: str) -> None:
    tokenizer = MADE[name]
    titles = [f"Broken {token} x" for token in tokenizer.all_special_tokens]
    special = set(tokenizer.all_special_ids)
    for title, ids, said in zip(titles, encode_titles(tokenizer, titles), answerable(tokenizer, titles)):
        assert not said or not special & set(ids), title
    if "level" in name or name == "shipped":
        assert not special & {token for ids in encode_titles(tokenizer, titles) for token in ids}
        (prompt,) = encode_prompts(tokenizer, [RENDER(0, titles, [5.0] * len(titles), titles)])
        assert not special & set(prompt)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_prompt_has_what_the_tokenizer_puts_before_it_and_not_what_it_puts_behind(name: str) -> None:
    tokenizer = MADE[name]
    (ids,) = encode_prompts(tokenizer, ["Answer:\n"])
    plain = tokenizer("Answer:\n", add_special_tokens=False)["input_ids"]
    begin = [tokenizer.bos_token_id] if name == "begins and ends" else []
    assert ids == [*begin, *plain]


def test_titles_of_one_composed_form_are_one_title(tmp_path: Path) -> None:
    log: Log = SOURCES["csv"](
        write(tmp_path / "x.csv", ["Cafe\u0301", "Caf\u00e9", "\u212aing", "King", "A\u2028B", "A B"])
    )
    assert log.items["title"].to_pylist() == [
        "Café [i0]", "Café [i1]", "King [i2]", "King [i3]", "A B [i4]", "A B [i5]",
    ]  # fmt: skip


def test_a_title_of_which_nothing_is_left_is_refused_as_empty(tmp_path: Path) -> None:
    log: Log = SOURCES["csv"](write(tmp_path / "x.csv", ["\x01\u2028\x7f", "\u00a0", "Known"]))
    assert log.items["title"].to_pylist() == ["Known"]
    assert log.rejected["reason"].to_pylist() == ["title is empty", "title is empty"]


def test_ids_that_are_alike_in_that_form_still_tell_titles_apart() -> None:
    titles = unique_titles(pa.array(["T", "T", "T"]), pa.array(["a\u00a0b", "a b", "c"])).to_pylist()
    assert titles == ["T [0]", "T [1]", "T [2]"]


def test_answers_are_compared_in_the_form_of_titles() -> None:
    titles = ["Café Noir", "King"]
    assert match_strict("Cafe\u0301\u00a0 Noir", titles) == 0
    assert match_strict("\u212aing", titles) == 1
    assert match_contains("the CAFE\u0301 NOIR!", titles) == 0


def test_titles_beyond_a_tokenizer_are_refused_by_name_or_counted() -> None:
    plain = [f"title {i}" for i in range(199)]
    assert check_answerable(MADE["lower case"], plain) == ""
    line = check_answerable(MADE["lower case"], [*plain, "Capital"])
    assert line == "1 of 200 titles can't be said with the model's tokens: 'Capital'"
    with pytest.raises(UserError, match=r"3 of 5 titles can't be said .*'Capital', '東京', 'a-b'") as refused:
        check_answerable(MADE["lower case"], ["one", "two", "Capital", "東京", "a-b"])
    assert "--model.kind scratch" in refused.value.hint
    assert check_answerable(MADE["byte-level"], ["one", "two", "Capital", "東京", "a-b"]) == ""  # what the hint gives


def test_a_title_may_hold_the_name_of_llaras_mark() -> None:
    tokenizer = byte_level()
    titles = ["Lucky <|item|> Forger", f"Broken{MARK}Prairie", "Hill"]
    titles = [normalized(title) for title in titles]
    add_mark(tokenizer)
    table = pa.table(
        {
            "example": [0],
            "history": pa.array([[0, 1]], pa.list_(pa.int32())),
            "history_rating": pa.array([[5.0, 4.0]], pa.list_(pa.float32())),
            "candidates": pa.array([[2, 1, 0]], pa.list_(pa.int32())),
        }
    )
    (row,) = HybridTokenizer(tokenizer, RENDER, titles, 1024)(table).to_pylist()
    first = len(tokenizer)
    assert [token - first for token in row["prompt_ids"] if token >= first] == [0, 1, 2, 1, 0]
    texts = ExampleTokenizer(tokenizer, RENDER, titles, 1024)(table).to_pylist()[0]
    assert [token for token in row["prompt_ids"] if token < first] == texts["prompt_ids"]


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Die, Mommie, Die (2003)", "Die, Mommie, Die"),
        ("Tin Drum, The (Blechtrommel, Die) (1979)", "The Tin Drum"),
        ("Welle, Die (2008)", "Die Welle"),
        ("Birdman: Or (The Unexpected Virtue of Ignorance) (2014)", "Birdman: Or (The Unexpected Virtue of Ignorance)"),
        ("Avventura, L' (Adventure, The) (1960)", "L'Avventura"),
        ("Third Man, The (1949)", "The Third Man"),
        ("Postman, The (Postino, Il) (1994)", "The Postman"),
        ("(500) Days of Summer (2009)", "(500) Days of Summer"),
        ("1984 (1984)", "1984"),
    ],
)
def test_movie_titles_are_as_people_write_them(title: str, expected: str) -> None:
    assert cleaned([title]) == [expected]
