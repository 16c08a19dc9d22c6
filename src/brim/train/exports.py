"""What was learned, for other programs: safetensors, and the ONNX or TFLite file it came from.

Arrays have the names and layouts of the file. The file itself stays as it is but for these arrays:
another head has no place in it. A `.brim` file holds everything: `Network.model`, `Model.save`.
"""

from __future__ import annotations

import os
from pathlib import Path

from brim.errors import InputError, UnsupportedError
from brim.files import written
from brim.sources import front_end
from brim.train.network import Network


def save_weights(network: Network, path: str | os.PathLike[str]) -> None:
    """Writes the weights as safetensors, in the layouts of their file; adapters are merged.

    Raises InputError where the file cannot be written, UnsupportedError without safetensors.
    """
    try:
        from safetensors.numpy import save
    except ImportError as error:
        raise UnsupportedError(
            "weights are written by safetensors", str(error), hint="pip install 'brim[train]'"
        ) from None
    content = save(network.merged().file_weights)
    with written(Path(path)) as temporary:
        temporary.write_bytes(content)


def export(
    network: Network, source: str | os.PathLike[str] | bytes, path: str | os.PathLike[str]
) -> None:
    """Writes the ONNX or TFLite file that the network was imported from with its weights as they
    are now. source: that file, or its bytes.

    Raises InputError where weights have no place in the file, as those of a new head, or it cannot
    be written; UnsupportedError for files that a front end cannot write.
    """
    whole = network.merged()
    added = [name for name in whole.weights if name not in whole.sources]
    if added:
        raise InputError(f"{added[:5]} are no weights of a file", hint="save the model as .brim")
    given = source if isinstance(source, bytes) else Path(source)
    content = front_end(given).with_weights(given, whole.file_weights)
    with written(Path(path)) as temporary:
        temporary.write_bytes(content)
