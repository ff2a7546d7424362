"""`raypref export`: a run's model as a Hugging Face folder, with a card that says where it comes from."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jinja2
import tyro
from rich.console import Console

from raypref.config.model import PretrainedModel
from raypref.errors import UserError
from raypref.models.folders import TRAINED_ON
from raypref.stages.identity import training_part
from raypref.storage.store import MANIFEST

CARD = jinja2.Environment(autoescape=False, trim_blocks=True, keep_trailing_newline=True).from_string(
    """\
---
library_name: {{ "peft" if adapter else "transformers" }}
{% if base %}
base_model: {{ base }}
{% endif %}
pipeline_tag: text-generation
tags: [recommendation, preference-optimization, raypref]
---

# {{ address }}

A causal language model that answers with the title of the item a user wants next, given their history and a list of
candidates. Made by raypref; {{ method }}.

## Data

{{ data.source }}: {{ data.users }} users, {{ data.items }} items, {{ data.interactions }} interactions;
{{ data.train_examples }}/{{ data.validation_examples }}/{{ data.test_examples }} training/validation/test examples.
Cut by:

```json
{{ cut }}
```

The licence of these data, and that of the base model, may bind what you do with the weights: GroupLens' MovieLens, for
one, allows no commercial use without permission. Check both before you publish.

## Metrics

{{ metrics or "This model was not evaluated." }}

## Training

```json
{{ training }}
```

## Use

Prompt: title lines as in the training data's prompts (`raypref data show` prints some, `raypref recommend --prompt-to`
writes one), ending with `Answer:` and a line break. Generate greedily; the first line is the answer.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
{% if adapter %}
from peft import PeftModel
{% endif %}

folder = "."  # where this card lies, or the model's name on the hub
tokenizer = AutoTokenizer.from_pretrained(folder)
{% if adapter %}
base = AutoModelForCausalLM.from_pretrained("{{ base }}")
model = PeftModel.from_pretrained(base, folder)
{% else %}
model = AutoModelForCausalLM.from_pretrained(folder)
{% endif %}
prompt = tokenizer(open("prompt.txt").read(), return_tensors="pt")
answer = model.generate(**prompt)[0, prompt["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True).strip().splitlines()[0])
```

Software: {{ versions }}; git {{ git }}.
"""
)


@dataclass
class Export:
    """Write a run's model as a Hugging Face folder: safetensors, tokenizer, generation config, model card."""

    run: tyro.conf.Positional[Path]
    """The run's align or sft folder, <root>/align/NAME (an evaluate folder stands for the model it evaluated)."""
    to: Path
    """The folder to write; it must not hold anything yet."""
    merge: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Merge the LoRA adapter into its base, so that one folder is the whole model."""
    adapter: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write the LoRA adapter alone (what is done without --merge); refused where all weights were trained."""
    base: str | None = None
    """The adapter's base model, a name or folder, where the run's own was a local folder."""


def export(options: Export, console: Console) -> Path:
    """The folder written; nothing is left where it fails.

    Raises:
        UserError: no model lies there, the base of an adapter is not known, or the folder is in use.
    """
    stage, manifest = _model_stage(options.run.expanduser().absolute())
    if options.merge and options.adapter:
        raise UserError("an adapter is merged, or written alone", where="--merge, --adapter", hint="give one of them")
    root = stage.parent.parent
    inputs = {name: root / address for name, address in manifest["inputs"].items()}
    _refuse_other_forms(stage, inputs)
    sft = manifest if stage.parent.name == "sft" else _manifest(inputs["sft"])
    model = sft["config"]["model"]
    adapter = (stage / "model" / "adapter_config.json").is_file()
    base = options.base or model.get("path") or _base_here(model, inputs)
    if options.adapter and not adapter:
        raise UserError("this run trained all weights: there is no adapter", where=str(stage), hint="drop --adapter")
    if adapter and base is None:
        raise UserError("the adapter's base was a local folder", where=str(stage), hint="name it by --base")
    if options.to.exists() and any(options.to.iterdir()):
        raise UserError("there are files already", where=str(options.to), hint="choose another folder by --to")
    partial = options.to.with_name(f".{options.to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write_model(stage, inputs["tokenize"], model, base, adapter and options.merge, partial)
        seen = training_part(_manifest(inputs["prepare"])["config"])
        (partial / TRAINED_ON).write_text(json.dumps(seen, indent=1) + "\n")
        card = CARD.render(**_facts(stage, manifest, inputs, base, adapter and not options.merge))
        (partial / "README.md").write_text(card)
        if options.to.exists():
            options.to.rmdir()
        partial.rename(options.to)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    console.print(f"{'adapter' if adapter and not options.merge else 'model'} written to {options.to}", soft_wrap=True)
    return options.to


def _model_stage(folder: Path) -> tuple[Path, dict[str, Any]]:
    manifest = _manifest(folder)
    if folder.parent.name == "evaluate":
        folder = folder.parent.parent / manifest["inputs"]["model"]
        manifest = _manifest(folder)
    if not (folder / "model").is_dir():
        raise UserError(
            "no model lies there",
            where=str(folder),
            hint="give a run's folder: <root>/align/NAME, sft/NAME or evaluate/NAME",
        )
    return folder, manifest


def _refuse_other_forms(stage: Path, inputs: dict[str, Path]) -> None:
    """A model that transformers alone would run otherwise, or that gives no titles, is no use to others."""
    from raypref.models.behaviour import FILE

    why = "it reads behavioural tokens, which transformers does not know" if (stage / "model" / FILE).is_file() else ""
    why = why if "prepare" in inputs else "it answers Yes or No, not with a title"
    if why:
        raise UserError(f"this model can't be exported: {why}", where=str(stage), hint="export an sft or align stage")


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        raise UserError(
            "no finished stage lies there", where=str(folder), hint="`raypref run --dry-run` prints a run's folders"
        ) from None
    return found


def _base_here(model: dict[str, Any], inputs: dict[str, Path]) -> str | None:
    """Where the run's base lies if that is known: the folder of its adapted model; `raypref-tiny`, if it was that."""
    from raypref.models.folders import SHIPPED, SHIPPED_FOLDER
    from raypref.stages.identity import model_content

    if "adapt" in inputs:
        return str(inputs["adapt"] / "model")
    return SHIPPED if model.get("content") == model_content(SHIPPED_FOLDER) else None


def _write_model(stage: Path, tokenized: Path, config: dict[str, Any], base: str | None, merge: bool, to: Path) -> None:
    from transformers import GenerationConfig

    from raypref.models import backbone

    tokenizer = backbone.load_tokenizer(tokenized / "tokenizer")
    if merge:
        own = {key: value for key, value in config.items() if key not in ("content", "kind")}
        lora = PretrainedModel.model_validate(own | {"path": base})
        merged: Any = backbone.restore(lora, tokenizer, stage / "model")
        backbone.untie_adapted(merged)
        merged.merge_and_unload().save_pretrained(to)
    else:
        shutil.copytree(stage / "model", to)
        _name_base(to / "adapter_config.json", base)
    tokenizer.save_pretrained(to)
    GenerationConfig(
        do_sample=False, max_new_tokens=64, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(to)  # fmt: skip


def _name_base(config: Path, base: str | None) -> None:
    """What peft loads the base from: its name, not the place where this machine had it."""
    if config.is_file():
        content = json.loads(config.read_text()) | {"base_model_name_or_path": base}
        config.write_text(json.dumps(content, indent=2, sort_keys=True))


def _facts(
    stage: Path, manifest: dict[str, Any], inputs: dict[str, Path], base: str | None, adapter: bool
) -> dict[str, Any]:
    address = f"{stage.parent.name}/{stage.name}"
    metrics: dict[str, Any] = {}
    for evaluated in sorted((stage.parent.parent / "evaluate").glob(f"*/{MANIFEST}")):
        about = json.loads(evaluated.read_text())
        if about["inputs"].get("model") == address:
            metrics |= {split: about["facts"][split] for split in ("validation", "test") if split in about["facts"]}
    objective = manifest["config"]["training"].get("objective")
    return {
        "address": address,
        "adapter": adapter,
        "base": base,
        "method": f"aligned by {objective['name']}" if objective else "supervised fine-tuning",
        "data": json.loads((inputs["prepare"] / "facts.json").read_text()),
        "cut": json.dumps(_manifest(inputs["prepare"])["config"], indent=2),
        "training": json.dumps(manifest["config"]["training"], indent=2),
        "metrics": _table(metrics),
        "versions": ", ".join(f"{k} {v}" for k, v in manifest["provenance"]["versions"].items()),
        "git": manifest["provenance"]["git"],
    }


def _table(metrics: dict[str, dict[str, float]]) -> str:
    if not metrics:
        return ""
    names = [name for name in next(iter(metrics.values())) if name != "examples"]
    lines = ["| split | users | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for split, values in metrics.items():
        shown = (f"{values[name]:.3f}" if name in values else "" for name in names)
        lines.append(f"| {split} | {values['examples']} | " + " | ".join(shown) + " |")
    return "\n".join(lines)
