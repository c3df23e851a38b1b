"""Data sets on the Hugging Face hub: ``generate.py push_to_hub=true``."""

from __future__ import annotations

from micota.artifacts.store import MANIFEST, Store
from micota.config import HubConfig
from micota.data.datacard import CARD, CARD_PAGE
from micota.errors import ConfigError
from micota.graph.node import AnyNode

KEY = "push_to_hub=true"


def check_hub() -> str:
    """Return the name of the account of the hub's token. It is called before the work, which takes hours.

    Raises:
        ConfigError: there is no token, it is not valid, or the hub cannot be reached.
    """
    import httpx
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if get_token() is None:
        raise ConfigError(f"{KEY} needs a token that may write; set HF_TOKEN, or run `hf auth login`")
    try:
        return str(HfApi().whoami()["name"])
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx.HTTPError) as error:
        raise ConfigError(f"{KEY}: the hub does not accept the token or cannot be reached ({error})") from None


def push(hub: HubConfig, account: str, store: Store, node: AnyNode) -> str:
    """Upload rows, card and manifest of finished data; returns the address. The hub makes no commit if nothing differs.

    Raises:
        ConfigError: the hub refuses, for example without write access; the local data stay as they are.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    repo = hub.repo or f"{account}/{node.name}-{node.key}"
    try:
        api = HfApi()
        address = api.create_repo(repo, repo_type="dataset", private=hub.private, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            repo_type="dataset",
            folder_path=store.path(node),
            allow_patterns=["*.jsonl", CARD, CARD_PAGE, MANIFEST],
            commit_message=f"{node.name}, key {node.key}",
        )
    except HfHubHTTPError as error:
        raise ConfigError(
            f"hub.repo={repo!r}: the hub refuses the upload ({error}); the data are in {store.path(node)}, and the "
            "same command uploads them again"
        ) from None
    return str(address)
