"""Data sets and models on the Hugging Face hub: ``push_to_hub=true``, or ``push_to_hub=ACCOUNT/NAME``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from micota.artifacts.manifest import MANIFEST
from micota.artifacts.store import Store
from micota.config import Call, HubConfig, PushConfig
from micota.data.datacard import CARD, CARD_PAGE
from micota.data.modelcard import model_card
from micota.errors import ConfigError
from micota.graph.node import AnyNode

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

KEY = "push_to_hub=true"
MOST_CHARS = 96  # of a repository's name with its account
OF_DATA = re.compile(rf".*\.jsonl|{CARD}|{CARD_PAGE}|{MANIFEST}")


def check_hub(push_to_hub: bool | str = True) -> str:
    """Return the name of the account of the hub's token. It is called before the work, which takes hours.

    Raises:
        ConfigError: there is no token, it is not valid, the name is none, or the hub cannot be reached.
    """
    import httpx
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
    from huggingface_hub.utils._validators import validate_repo_id

    if isinstance(push_to_hub, str):
        try:
            validate_repo_id(push_to_hub)
        except HFValidationError as error:
            raise ConfigError(f"push_to_hub={push_to_hub}: {error}") from None
    if get_token() is None:
        raise ConfigError(f"{KEY} needs a token that may write; set HF_TOKEN, or run `hf auth login`")
    try:
        return str(HfApi().whoami()["name"])
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx.HTTPError) as error:
        raise ConfigError(
            f"{KEY}: the hub does not accept the token or cannot be reached ({error}); set "
            "HF_TOKEN to one that may write, or run the same command again"
        ) from None


def repository(hub: HubConfig, push_to_hub: bool | str, account: str, node: AnyNode) -> str:
    """The repository of an artifact: the one that is named, else NAME-KEY in the characters that the hub allows."""
    if isinstance(push_to_hub, str):
        return push_to_hub
    name = re.sub(r"[^\w.]+", "-", node.name)[: MOST_CHARS - len(account) - len(node.key) - 2].strip(".-")
    return hub.repo or f"{account}/{name}-{node.key}"


def push(config: PushConfig, account: str, store: Store, node: AnyNode) -> str:
    """Upload finished data or a finished model with card and manifest; returns the address. The hub makes no commit if
    nothing differs.

    Raises:
        ConfigError: the hub refuses, for example without write access; the local artifact stays as it is.
    """
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    kind = "model" if node.kind == "models" else "dataset"
    repo = repository(config.hub, config.push_to_hub, account, node)
    try:
        api = HfApi()
        address = api.create_repo(repo, repo_type=kind, private=config.hub.private, exist_ok=True)
        operations: list[Any] = files_of(store, node, config.call)
        api.create_commit(repo, operations, repo_type=kind, commit_message=f"{node.name}, key {node.key}")
    except (HfHubHTTPError, httpx.HTTPError) as error:
        raise ConfigError(
            f"push_to_hub={repo}: the hub refuses the upload ({error}); the artifact is in {store.path(node)}, and the "
            "same command uploads it again"
        ) from None
    return str(address)


def files_of(store: Store, node: AnyNode, call: Call) -> list[CommitOperationAdd]:
    """The files of an upload: of data the rows and cards, of a model everything and a card as it is now."""
    from huggingface_hub import CommitOperationAdd

    folder, manifest = store.verified(node), store.manifest(node)
    assert manifest is not None, "it was made before"
    names = [*manifest.files, MANIFEST]
    if node.kind != "models":
        return [CommitOperationAdd(name, folder / name) for name in names if OF_DATA.fullmatch(name)]
    card = CommitOperationAdd(CARD_PAGE, model_card(store, node, call).encode())
    return [*(CommitOperationAdd(name, folder / name) for name in names if name != CARD_PAGE), card]
