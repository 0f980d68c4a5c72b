"""What lies beside exported weights so that they can be served: how to decode, a start script, an Ollama Modelfile."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SENTINEL = "\u2402CONTENT\u2403"  # stands for a turn's content while a template is taken apart


def generation_config(tokenizer: Any, stops: Sequence[int], base: Any) -> Any:
    """How the evaluated model decoded: greedily, to any of the tokens it was trained to stop at.

    Args:
        tokenizer: the model's.
        stops: last tokens of the training rows.
        base: the base's own `GenerationConfig`.
    """
    from transformers import GenerationConfig

    named = base.eos_token_id if isinstance(base.eos_token_id, list) else [base.eos_token_id]
    ids = {i for i in (*stops, *named, tokenizer.eos_token_id) if i is not None}
    return GenerationConfig(
        eos_token_id=sorted(ids),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        do_sample=False,
    )


def serve_script(name: str, *, adapter_rank: int | None, base: str, refused: bool = False) -> str:
    """A shell script that serves the folder it lies in, on this machine only.

    Args:
        name: under which the model is asked for.
        adapter_rank: `--max-lora-rank` of an adapter beside its base; None for a merged model.
        base: of an adapter: `base` (a folder beside the script) or a hub name with `@revision`.
        refused: whether vLLM refuses this adapter.
    """
    greedy = "--override-generation-config '{\"temperature\": 0}'"  # vLLM samples at 1.0 unless told otherwise
    where = '--host 127.0.0.1 --port "${PORT:-8000}"'
    model, _, revision = base.partition("@")
    if adapter_rank is None:
        vllm = f"exec vllm serve . --served-model-name {name} --dtype bfloat16 {where} {greedy}"
        transformers = f'exec "${{TRANSFORMERS:-transformers}}" serve . {where}'
    else:
        source = f"{shlex.quote(model)} --revision {revision} --tokenizer ." if revision else model
        vllm = (
            f"exec vllm serve {source} --enable-lora --max-lora-rank {adapter_rank} --lora-modules {name}=. "
            f"--dtype bfloat16 --generation-config . {where} {greedy}"
        )
        transformers = 'echo "transformers serve takes whole models: tamis export RUN --to merged" >&2; exit 2'
    if refused:
        vllm = 'echo "vLLM refuses this adapter (README.md says why): tamis export RUN --to merged" >&2; exit 2'
    return "\n".join(
        [
            "#!/bin/sh",
            "# An OpenAI-compatible server on this machine:",
            "#   sh serve.sh                 vLLM (GPU)",
            "#   sh serve.sh transformers    transformers serve (any machine)",
            "# PORT chooses the port, 8000 if unset. What is asked must be worded as in training: see README.md.",
            "set -eu",
            'cd "$(dirname "$0")"',
            'case "${1:-vllm}" in',
            f"  vllm) {vllm} ;;",
            f"  transformers) {transformers} ;;",
            '  *) echo "vllm or transformers, not $1" >&2; exit 2 ;;',
            "esac",
            "",
        ]
    )


def modelfile(tokenizer: Any, stops: Sequence[int], context: int, *, base: str, adapter: bool) -> str:
    """An Ollama Modelfile. Ollama reads Llama, Mistral, Gemma and Phi weights as safetensors, others as GGUF only.

    The chat template is written in Ollama's own language where it can be: `ollama_template`.
    """
    lines = [f"FROM {base}"]
    if adapter:
        lines.append("ADAPTER .")
    if template := ollama_template(tokenizer):
        lines.append(f'TEMPLATE """{template}"""')
    else:
        lines.append("# The chat template cannot be written in Ollama's language; compare what Ollama makes of it")
        lines.append("# (ollama show --template) with chat_template.jinja before use.")
    lines += [f"PARAMETER stop {json.dumps(t, ensure_ascii=False)}" for t in _texts(tokenizer, stops)]
    lines += ["PARAMETER temperature 0", f"PARAMETER num_ctx {context}", ""]
    return "\n".join(lines)


def ollama_template(tokenizer: Any) -> str | None:
    """The chat template in Go's template language, as Ollama wants it.

    Found by rendering: what stands before and behind a turn of each role, and what stands in front where there is no
    system turn. None where a conversation put together from these pieces is not what the template renders, that is,
    where the template does more than wrap turns; and where it holds quotes or braces that Go would read.
    """
    try:
        wraps = _wraps(tokenizer)
        if wraps is None or not _wraps_suffice(tokenizer, wraps):
            return None
    except Exception:  # Jinja errors and whatever a template raises by hand, such as for a role it does not know
        return None
    head = wraps["head"]
    pieces = (*(piece for role in ROLES for piece in wraps[role]), head, wraps["tail"])
    if any(mark in piece for piece in pieces for mark in ("{{", "}}", '"""')):
        return None
    bodies = [f'eq .Role "{role}" }}}}{wraps[role][0]}{{{{ .Content }}}}{wraps[role][1]}' for role in ROLES]
    turns = "{{ if " + "{{ else if ".join(bodies) + "{{ end }}"
    default = f"{{{{ if not .System }}}}{head}{{{{ end }}}}" if head else ""
    return f"{default}{{{{ range .Messages }}}}{turns}{{{{ end }}}}{wraps['tail']}"


ROLES = ("system", "user", "assistant")


def _render(tokenizer: Any, turns: Sequence[tuple[str, str]], *, prompt: bool) -> str:
    """A conversation by the template; without the token that begins a text where the tokenizer adds that itself."""
    messages = [{"role": role, "content": text} for role, text in turns]
    text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt))
    adds = tokenizer.bos_token and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    return text.removeprefix(tokenizer.bos_token) if adds else text


def _wraps(tokenizer: Any) -> dict[str, Any] | None:
    """What a template writes around turns: (before, behind) per role, `head` without a system turn, and `tail`."""

    def render(*roles: str, prompt: bool = False) -> str:
        return _render(tokenizer, [(role, SENTINEL) for role in roles], prompt=prompt)

    asked, answered, again = render("user"), render("user", "assistant"), render("user", "assistant", "user")
    led, prompted = render("system", "user"), render("user", prompt=True)
    if not (answered.startswith(asked) and again.startswith(answered) and prompted.startswith(asked)):
        return None
    user = again[len(answered) :]
    if not asked.endswith(user) or not led.endswith(user):
        return None
    wraps = {
        "system": led[: -len(user)].split(SENTINEL),
        "user": user.split(SENTINEL),
        "assistant": answered[len(asked) :].split(SENTINEL),
        "head": asked[: -len(user)],
        "tail": prompted[len(asked) :],
    }
    return wraps if all(len(wraps[role]) == 2 for role in ROLES) else None


def _wraps_suffice(tokenizer: Any, wraps: dict[str, Any]) -> bool:
    """Whether wrapping turns one by one is all that the template does; but for cutting white space off their ends."""
    turns = [("user", "one"), ("assistant", "two\n\n2"), ("user", "three"), ("assistant", "four"), ("user", "five")]
    for lead in ([("system", "six")], []):
        expected = ("" if lead else wraps["head"]) + "".join(
            wraps[role][0] + text + wraps[role][1] for role, text in [*lead, *turns]
        )
        if _render(tokenizer, [*lead, *turns], prompt=True) != expected + wraps["tail"]:
            return False
    return True


def _texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    return sorted({str(tokenizer.decode([i])) for i in ids} - {""})


def write_executable(path: Path, text: str) -> None:
    """Write a script that can be run."""
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
