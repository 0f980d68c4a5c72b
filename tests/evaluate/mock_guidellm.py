"""GuideLLM's mock server with its answers written beforehand: `python mock_guidellm.py mock-server --port ...`.

GuideLLM 0.8.1 sleeps until the first token is due and only then makes a generator of fake text for the answer (0.7 ms,
benchmarks/timing.md). What is measured here is the measuring, so the server shall keep to the delays it was given.
"""

import functools
import runpy

from guidellm.mock_server.handlers import chat_completions

chat_completions.create_fake_tokens_str = functools.cache(chat_completions.create_fake_tokens_str)

if __name__ == "__main__":
    runpy.run_module("guidellm", run_name="__main__", alter_sys=False)
