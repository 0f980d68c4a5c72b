"""The language model in this process: every shortcut gives the answers of the long way."""

import dataclasses

import pytest

torch = pytest.importorskip("torch")

from tamis.evaluate import local, prompting  # noqa: E402
from tamis.evaluate.local import LabelTree, Runner, common_prefix  # noqa: E402
from tamis.evaluate.systems import Setting, Workshop  # noqa: E402
from tamis.evaluate.task import Reader, items_of  # noqa: E402
from tamis.recipe import Recipe  # noqa: E402
from tamis.run import Run  # noqa: E402


@pytest.fixture
def setting(tmp_path, tiny_model, eval_table, train_table):
    def make(**task):
        told = {"kind": "classify", "template": "Message: {prompt}\nIntent:", "max_tokens": 24, **task}
        recipe = Recipe.check(
            {
                "name": "x",
                "data": {"path": "x"},
                "model": str(tiny_model),
                "train": {"method": "lora", "quantisation": "none"},
                "evaluate": {"task": told, "batch": 8},
            }
        )
        items = items_of(eval_table(24), recipe.evaluate.task)
        return Setting(Run(tmp_path), recipe, "main", items, Reader.of(recipe.evaluate.task, items), train_table(24))

    return make


def made(setting, name="base"):
    system = Workshop(setting).make(name)
    system.prepare(setting.items)
    return system


def test_greedy_answers_are_those_of_transformers_generate(setting):
    given = setting()
    system = made(given)
    ours = [r.output for r in system.answer(given.items[:8]).replies]

    theirs = []
    for item in given.items[:8]:
        ids = torch.tensor([system.ids[item.id]])
        stops = sorted(system.engine.stop_ids)
        out = system.engine.model.generate(ids, max_new_tokens=24, do_sample=False, eos_token_id=stops)
        theirs.append(system.engine.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))

    assert ours == theirs
    assert len(set(ours)) > 1


@pytest.mark.usefixtures("exact_arithmetic")
def test_a_shared_prefix_changes_no_answer_and_no_likelihood(setting):
    given = setting(system="You sort the mail of a shop.")
    system = made(given)
    assert len(system.runner.prefix) >= local.MIN_PREFIX
    with_prefix = system.answer(given.items[:8]).replies
    system.runner = Runner(system.engine, False, [])
    without = system.answer(given.items[:8]).replies

    assert [r.output for r in with_prefix] == [r.output for r in without]
    assert [r.nll for r in with_prefix] == pytest.approx([r.nll for r in without], abs=1e-4)


@pytest.mark.usefixtures("exact_arithmetic")
def test_batches_of_one_and_of_eight_agree(setting):
    given = setting()
    system = made(given)
    together = system.answer(given.items[:8]).replies
    alone = [system.answer([i]).replies[0] for i in given.items[:8]]

    assert [r.output for r in together] == [r.output for r in alone]
    assert [r.nll for r in together] == pytest.approx([r.nll for r in alone], abs=1e-4)


@pytest.mark.usefixtures("exact_arithmetic")
def test_the_likelihood_is_that_of_the_reference_with_its_stop_token_and_of_nothing_else(setting):
    given = setting()
    system = made(given)
    reply, item = system.answer(given.items[:1]).replies[0], given.items[0]
    prompt = system.ids[item.id]
    answer = system.engine.tokens(f"{item.expected}<|end|>")
    with torch.inference_mode():
        logp = system.engine.model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    expected = -sum(float(logp[len(prompt) - 1 + i, t]) for i, t in enumerate(answer))

    assert reply.nll == pytest.approx(expected, abs=1e-4)
    assert reply.nll_tokens == len(answer)
    assert reply.nll_bytes == len(item.expected)


@pytest.mark.usefixtures("exact_arithmetic")
def test_long_references_are_scored_in_pieces_with_the_same_result(setting, monkeypatch):
    given = setting()
    system = made(given)
    whole = [r.nll for r in system.answer(given.items[:8]).replies]
    for size in (1, 3, 5):
        monkeypatch.setattr(local, "REFERENCE_CHUNK", size)
        assert [r.nll for r in system.answer(given.items[:8]).replies] == pytest.approx(whole, abs=1e-4)


@pytest.mark.usefixtures("exact_arithmetic")
@pytest.mark.parametrize("chunk", [2, 32])
def test_an_answer_does_not_see_the_reference_read_behind_its_prompt(setting, monkeypatch, chunk):
    monkeypatch.setattr(local, "REFERENCE_CHUNK", chunk)
    given = setting(system="You sort the mail of a shop.")
    system = made(given)
    unasked = [dataclasses.replace(i, expected=None) for i in given.items[:8]]

    with_reference = system.answer(given.items[:8]).replies
    without = system.answer(unasked).replies

    assert [r.output for r in with_reference] == [r.output for r in without]
    assert all(r.nll is not None for r in with_reference)
    assert all(r.nll is None for r in without)


@pytest.mark.usefixtures("exact_arithmetic")
def test_a_cache_that_forgets_is_read_twice_with_the_same_result(setting, monkeypatch):
    given = setting()
    system = made(given)
    together = system.answer(given.items[:8]).replies
    monkeypatch.setattr(local, "_croppable", lambda cache: False)
    apart = system.answer(given.items[:8]).replies

    assert [r.output for r in together] == [r.output for r in apart]
    assert [r.nll for r in together] == pytest.approx([r.nll for r in apart], abs=1e-4)


@pytest.mark.usefixtures("exact_arithmetic")
def test_label_likelihoods_in_one_pass_are_those_of_one_pass_each(setting):
    given = setting()
    best = made(given, "base-best")
    suffixes = [best._suffix(i) for i in given.items[:3]]
    with torch.inference_mode():
        ours = best.tree.scores(best.runner, suffixes)
        for row, item in enumerate(given.items[:3]):
            prompt = best.ids[item.id]
            for column, label in enumerate(best.tree.sequences):
                logp = best.engine.model(torch.tensor([prompt + label])).logits[0].log_softmax(-1)
                total = sum(float(logp[len(prompt) - 1 + i, t]) for i, t in enumerate(label))
                assert float(ours[row, column]) == pytest.approx(total, abs=1e-3)


def test_a_label_that_begins_another_is_closed_by_the_stop_token():
    tree = LabelTree.of([[5], [5, 6], [5, 7, 8], [9]], stop=1)

    assert tree.sequences == [[5, 1], [5, 6], [5, 7, 8], [9]]
    assert tree.nodes == [(-1, 5), (0, 7)]
    assert tree.paths == [[(-1, 5), (0, 1)], [(-1, 5), (0, 6)], [(-1, 5), (0, 7), (1, 8)], [(-1, 9)]]


def test_the_base_at_its_best_always_answers_with_a_label_and_sees_labels_and_examples(setting):
    given = setting()
    best = made(given, "base-best")
    replies = best.answer(given.items[:8]).replies

    assert {r.output for r in replies} <= set(given.reader.labels)
    assert "track order, " in replies[0].prompt or ", track order" in replies[0].prompt
    assert len(best.shots) == 4  # one of each label
    assert not {t.id for t in best.tuning} & {i.id for i in given.items}
    assert best.about()["decoding"]["strategy"] == "label likelihood"


def test_without_labels_the_base_at_its_best_answers_freely_after_examples(setting):
    given = setting(kind="generate", max_tokens=5)
    best = made(given, "base-best")
    reply = best.answer(given.items[:2]).replies[0]

    assert reply.prompt.count("<|assistant|>") == len(best.shots) + 1
    assert reply.output_tokens <= 5


def test_a_label_that_cannot_fit_into_an_answer_is_an_error(setting):
    from tamis.errors import RecipeError

    with pytest.raises(RecipeError, match="answers have 2") as caught:
        made(setting(max_tokens=2))
    assert "evaluate.task.max_tokens" in str(caught.value)


def test_a_timed_request_gives_times_in_order(setting):
    given = setting()
    timing = made(given).timed(given.items[0])

    assert 0 < timing.first_s <= timing.last_s
    assert timing.prompt_tokens > 0
    assert timing.ok


@pytest.mark.parametrize(
    ("prompts", "prefix"),
    [
        ([[*range(20), 1], [*range(20), 2, 3]], list(range(20))),
        ([[*range(20)], [*range(20)]], list(range(19))),  # something must be left to ask
        ([[1, 2, 3], [1, 2, 4]], []),  # too short to be worth it
        ([[*range(20)], [5, *range(20)]], []),
    ],
)
def test_the_common_prefix(prompts, prefix):
    assert common_prefix(prompts) == prefix


def test_the_stop_token_is_the_templates(setting):
    engine = made(setting()).engine

    assert prompting.stop_token(engine.tokenizer) == "<|end|>"
    assert engine.tokenizer.eos_token_id in engine.stop_ids


@pytest.fixture
def adapter(tmp_path, tiny_model):
    """A LoRA adapter that Tamis did not train."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_model), LoraConfig(r=4, target_modules="all-linear")
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    folder = tmp_path / "foreign"
    model.save_pretrained(folder)
    return folder


def test_base_and_tuned_share_one_load_and_differ(setting, adapter, tiny_model):
    from tamis.recipe import SystemSpec

    given = setting()
    with Workshop(given) as workshop:
        tuned = workshop.make(SystemSpec(name="theirs", model=str(tiny_model), adapter=str(adapter)))
        tuned.prepare(given.items)
        said = [r.output for r in tuned.answer(given.items[:8]).replies]
        base = local.Plain(tuned.engine, given, tuned=False)
        base.prepare(given.items)
        plain = [r.output for r in base.answer(given.items[:8]).replies]

    assert tuned.about()["adapter"]["alive"] is True
    assert said != plain
    assert plain == [r.output for r in made(given).answer(given.items[:8]).replies]


@pytest.mark.parametrize("as_tuned", [True, False])
def test_a_batch_reads_the_output_head_once(setting, adapter, tiny_model, as_tuned):
    """And not one copy per prompt, as torch does with a frozen head and a slice: 8 times as slow, 1.8 GB for 135M."""
    from tamis.recipe import SystemSpec

    given = setting()
    with Workshop(given) as workshop:
        system = workshop.make(SystemSpec(name="theirs", model=str(tiny_model), adapter=str(adapter)))
        system.tuned = as_tuned
        system.prepare(given.items)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as seen:
            system.answer(given.items[:8])
    vocabulary = system.engine.model.config.vocab_size
    products = [e for e in seen.events() if e.name in ("aten::mm", "aten::bmm", "aten::addmm")]
    with_head = [e.name for e in products if any(vocabulary in shape for shape in e.input_shapes)]

    assert with_head
    assert set(with_head) == {"aten::mm"}


@pytest.mark.usefixtures("exact_arithmetic")
def test_four_bit_weights_unpacked_once_give_the_same_logits(tiny_model):
    pytest.importorskip("bitsandbytes")
    from tamis.models import load_model, resolve

    ids = torch.randint(6, 50, (2, 12))
    with torch.inference_mode():
        packed = load_model(resolve(str(tiny_model)), "nf4", device="cpu")(ids).logits
        dense = load_model(resolve(str(tiny_model)), "nf4", device="cpu", unpacked=True)(ids).logits

    assert torch.equal(packed, dense)
